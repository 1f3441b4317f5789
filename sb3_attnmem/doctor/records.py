"""What a training run left in its folder: settings, figures, evaluations, episodes."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import load_results
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_attnmem.common.checks import check_number
from sb3_attnmem.doctor.algorithms import ACTOR_CRITICS, FAMILIES, RECURRENT, algorithm_of, default_arguments
from sb3_attnmem.doctor.stored import Stored, find_stored, read_stored
from sb3_attnmem.doctor.trial import Trial

#: what is read from a model's file, besides the arguments of its algorithm
ATTRIBUTES = (
    "num_timesteps", "_total_timesteps", "n_envs", "_n_updates", "_episode_num", "observation_space", "action_space",
    "_transitions_per_update",
)  # fmt: skip


@dataclass
class RunRecord:
    """
    :param folder: of the run
    :param algo: "rdqn", "rqrdqn", "dqn", "ppo", or another name that the RL Zoo has
    :param env_id: of its environment; empty where nothing tells it
    :param settings: arguments of the algorithm: those that were given, and its defaults
    :param state: other attributes of the model
    :param figures: of the log, by name: steps at which each was written, and values
    :param evaluations: steps, mean returns, mean lengths
    :param evaluation_steps: that all evaluations made
    :param episodes: returns and lengths of training episodes, in order
    :param ended_at: (E,) seconds since the run began at which each of these ended
    :param normalizes: what a ``VecNormalize`` around the environment does: "obs", "reward"
    :param total_steps: environment steps made
    :param unseen: what was not there to be read
    :param model_path: of the model's file
    :param stored: what the saved replay buffer holds; None: none was saved, or read
    :param staleness: mean ΔQ of its sequences at the first and the last learning step, where it was measured
    :param trial: greedy episodes, where an environment was given to play in
    """

    folder: Path
    algo: str = ""
    env_id: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    evaluations: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    evaluation_steps: int = 0
    episodes: tuple[np.ndarray, np.ndarray] = (np.zeros(0), np.zeros(0))
    ended_at: np.ndarray = field(default_factory=lambda: np.zeros(0))
    normalizes: frozenset[str] = frozenset()
    total_steps: int = 0
    unseen: list[str] = field(default_factory=list)
    model_path: Path | None = None
    stored: Stored | None = None
    staleness: tuple[float, float] | None = None
    trial: Trial | None = None

    @property
    def is_recurrent(self) -> bool:
        return self.algo in RECURRENT

    @property
    def is_q_learning(self) -> bool:
        return self.algo in FAMILIES and not self.is_actor_critic

    @property
    def is_actor_critic(self) -> bool:
        return self.algo in ACTOR_CRITICS

    @property
    def memory(self) -> str:
        """Name of the agent's memory; "none" where it has none."""
        if self.is_recurrent:
            return (self.setting("policy_kwargs") or {}).get("memory_class", "lstm")
        return "lstm" if self.algo == "ppo_lstm" else "none"

    def last(self, name: str, share: float = 0.25) -> float | None:
        """
        :param name: of a figure of the log
        :param share: of its lines, the last ones
        :return: their mean; None where the log has none
        """
        values = self.values(name)
        return None if not len(values) else float(np.mean(values[-max(int(share * len(values)), 1) :]))

    def values(self, name: str) -> np.ndarray:
        """
        :param name: of a figure of the log
        :return: what was logged
        """
        return self.figures.get(name, (np.zeros(0), np.zeros(0)))[1]

    def setting(self, name: str, at: float = 0.0) -> Any:
        """
        :param name: of an argument
        :param at: of a schedule: the progress that remains, 1 at the beginning
        :return: its value
        """
        value = self.settings.get(name)
        if callable(value):
            try:
                return float(value(at))
            except TypeError:
                return None
        return value

    @property
    def scores_come_from(self) -> str:
        """What :attr:`scores` are returns of: the first of these that was written down."""
        if len(self.episodes[0]) or len(self.values("rollout/ep_rew_mean")) or self.evaluations is None:
            return "training episodes"
        return "evaluations"

    @property
    def scores(self) -> np.ndarray:
        """Returns in order: of training episodes, or their running mean, or else of evaluations."""
        if self.scores_come_from == "evaluations" and self.evaluations is not None:
            return self.evaluations[1]
        return self.episodes[0] if len(self.episodes[0]) else self.values("rollout/ep_rew_mean")

    @property
    def median_length(self) -> float | None:
        """:return: steps of an episode"""
        if len(self.episodes[1]):
            return float(np.median(self.episodes[1]))
        if self.scores_come_from == "evaluations" and self.evaluations is not None:
            return float(np.median(self.evaluations[2]))
        return self.last("rollout/ep_len_mean", 1.0)


def read_run(folder: str | Path, settings: Mapping[str, Any] | None = None, algo: str | None = None) -> RunRecord:
    """
    :param folder: of a run: of the RL Zoo, or any with a model's file, ``progress.csv`` or TensorBoard's events,
        ``evaluations.npz``, ``monitor.csv``
    :param settings: of the run, where no model's file tells them; "normalize", as in the RL Zoo
    :param algo: as the RL Zoo names it; found out by default
    :return: what is there
    :raises ValueError: where nothing is
    """
    path = Path(folder)
    if not path.is_dir():
        raise ValueError(f"There is no folder {path}. Pass the folder of a run, for example logs/rdqn/CartPole-v1_1.")
    record = RunRecord(path)
    record.algo = algo or (path.parent.name if path.parent.name in FAMILIES else "")
    inner = [one.parent.name for one in path.glob("*/config.yml")]
    record.env_id = inner[0] if inner else path.name.rpartition("_")[0]
    given = {**(settings or {}), **_read_model(record)}
    if not record.algo:
        record.algo = algorithm_of(None, given) or "dqn"
    record.settings = {**default_arguments(record.algo), **given}
    _read_figures(record)
    _read_evaluations(record)
    _read_episodes(record)
    _read_stored(record)
    if any(path.rglob("vecnormalize.pkl")):
        record.normalizes = frozenset(_normalized(given.get("normalize", True)))
    steps = record.figures.get("time/total_timesteps", (np.zeros(0), np.zeros(0)))[1]
    record.total_steps = int(
        max(record.state.get("num_timesteps", 0), steps.max(initial=0), record.episodes[1].sum(), 0)
    )
    if not record.figures and record.evaluations is None and not len(record.episodes[0]):
        raise ValueError(
            f"{path} holds no figures of a training: neither progress.csv, nor TensorBoard's events, nor "
            "evaluations.npz, nor monitor.csv. Train with sb3-attnmem, or call model.set_logger(configure(folder, "
            "['csv'])) and wrap the environment in Monitor(env, folder)."
        )
    return record


def _normalized(normalize: Any) -> list[str]:
    if isinstance(normalize, str):
        return [name for name in ("obs", "reward") if f"norm_{name}=False" not in normalize.replace(" ", "")]
    if isinstance(normalize, Mapping):
        return [name for name in ("obs", "reward") if normalize.get(f"norm_{name}", True)]
    return ["obs", "reward"]


def _read_model(record: RunRecord) -> dict[str, Any]:
    """:return: the settings in a model's file, as far as they can be read"""
    files = [one for one in record.folder.glob("*.zip") if one.stat().st_size]
    if not files:
        record.unseen.append("no model's file: its settings are the defaults where nothing else tells them")
        return {}
    newest = max(files, key=lambda one: (one.stem == record.env_id, one.stat().st_mtime))
    record.model_path = newest
    data = load_from_zip_file(newest, device="cpu", load_data=True)[0] or {}
    policy = data.get("policy_class")
    record.algo = record.algo or algorithm_of(policy, data) or record.folder.parent.name
    record.state = {name: data[name] for name in ATTRIBUTES if name in data}
    known = {*default_arguments(record.algo or "rdqn"), "exploration_final_eps"}
    given = {name: value for name, value in data.items() if name in known}
    frequency = getattr(data.get("train_freq"), "frequency", None)
    if frequency is not None:
        given["train_freq"] = (int(frequency), data["train_freq"].unit.value)
    return given


def _read_figures(record: RunRecord) -> None:
    pairs: dict[str, list[tuple[float, float]]] = {}
    # A run that went on after a kill has several, the later ones counting where they overlap
    for path in sorted(record.folder.glob("progress*.csv"), key=lambda one: (len(one.name), one.name)):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        steps = [_number(row.get("time/total_timesteps")) for row in rows]
        begins = min((step for step in steps if step is not None), default=math.inf)
        pairs = {name: [pair for pair in told if pair[0] < begins] for name, told in pairs.items()}
        for step, row in zip(steps, rows, strict=True):
            for name, text in row.items():
                number = _number(text)
                if number is not None and step is not None:
                    pairs.setdefault(name, []).append((step, number))
    record.figures = {
        name: (np.array([one[0] for one in told]), np.array([one[1] for one in told]))
        for name, told in pairs.items()
        if told
    }
    if not record.figures:
        _read_events(record)
    if not record.figures:
        record.unseen.append("no progress.csv and no TensorBoard events: losses, Q-values and ε were not seen")


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _read_events(record: RunRecord) -> None:
    if not any(record.folder.rglob("events.out.tfevents*")):
        return
    try:
        from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
            EventAccumulator,
        )
    except ImportError:
        record.unseen.append("TensorBoard's events, since tensorboard is not installed")
        return
    for path in sorted({one.parent for one in record.folder.rglob("events.out.tfevents*")}):
        events = EventAccumulator(str(path)).Reload()
        for name in events.Tags()["scalars"]:
            told = events.Scalars(name)
            record.figures[name] = (np.array([one.step for one in told]), np.array([one.value for one in told]))


def _read_evaluations(record: RunRecord) -> None:
    found = sorted(record.folder.glob("evaluations.npz")) or sorted(record.folder.rglob("evaluations.npz"))
    if not found:
        return
    with np.load(found[0]) as told:
        if len(told["results"]):
            record.evaluations = (told["timesteps"], told["results"].mean(axis=1), told["ep_lengths"].mean(axis=1))
            record.evaluation_steps = int(told["ep_lengths"].sum())


def _read_episodes(record: RunRecord) -> None:
    if not any(record.folder.glob("*monitor.csv")):
        return
    try:
        table = load_results(str(record.folder))
    except Exception:  # a file without a head, or cut
        record.unseen.append("monitor.csv, which cannot be read")
        return
    record.episodes = (table["r"].to_numpy(dtype=float), table["l"].to_numpy(dtype=float))
    record.ended_at = table["t"].to_numpy(dtype=float)


def _read_stored(record: RunRecord) -> None:
    path = find_stored(record.folder) if record.is_q_learning else None
    if path is None:
        return
    try:
        record.stored = read_stored(path)
    except Exception as error:  # it is unpickled: whatever the classes in it raise
        record.unseen.append(f"the replay buffer: {error}")


def threshold_of(env_id: str) -> float | None:
    """
    :param env_id: of an environment, which need not be registered
    :return: the return at which Gymnasium counts it as solved
    """
    spec = gym.registry.get(env_id)
    threshold = None if spec is None else spec.reward_threshold
    return None if threshold is None else check_number("reward_threshold", threshold)
