"""One task after another: what is learned, what carries over, what is forgotten."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, sync_envs_normalization

from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.transfer.old_data import keep_old_data


class Stage(NamedTuple):
    """
    :param name: of the task
    :param env: to learn in; as many environments, and the spaces, as the model's
    :param eval_env: to score in, another one
    :param steps: environment steps to learn for
    """

    name: str
    env: gym.Env | VecEnv
    eval_env: gym.Env | VecEnv
    steps: int


class ContinualReport(NamedTuple):
    """
    :param names: of the N tasks, in the order they were learned in
    :param scores: (N + 1, N), the mean return of every task before anything was learned, and after each stage
    """

    names: list[str]
    scores: np.ndarray

    def forgetting(self) -> np.ndarray:
        """
        :return: (N - 1,) of all tasks but the last: the best score after its own stage or a later one, minus the score
            at the end (Chaudhry et al., 2018, https://arxiv.org/abs/1801.10112). Never below 0
        """
        n_tasks = len(self.names)
        return np.array([self.scores[j + 1 :, j].max() - self.scores[n_tasks, j] for j in range(n_tasks - 1)])

    def forward_transfer(self) -> np.ndarray:
        """
        :return: (N - 1,) of all tasks but the first: the score just before its stage, minus that before anything was
            learned (Lopez-Paz & Ranzato, 2017, https://arxiv.org/abs/1706.08840)
        """
        return np.array([self.scores[j, j] - self.scores[0, j] for j in range(1, len(self.names))])

    def table(self) -> str:
        """:return: Markdown: a line a stage, then forward transfer and forgetting of each task"""
        lines = [f"| after | {' | '.join(self.names)} |", "|---" * (len(self.names) + 1) + "|"]
        for stage, scores in zip(["nothing", *self.names], self.scores, strict=True):
            lines.append(f"| {stage} | {' | '.join(f'{score:.2f}' for score in scores)} |")
        forward = ["–", *(f"{gain:+.2f}" for gain in self.forward_transfer())]
        forgotten = [*(f"{loss:.2f}" for loss in self.forgetting()), "–"]
        lines += [f"| forward transfer | {' | '.join(forward)} |", f"| forgetting | {' | '.join(forgotten)} |"]
        return "\n".join(lines)

    def plot(self, path: str | Path) -> None:
        """
        Draw the score of every task over the stages; needs matplotlib.

        :param path: of the picture
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.5, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        stages = np.arange(len(self.names) + 1)
        for j, name in enumerate(self.names):
            axis.plot(stages, self.scores[:, j], "o-", color=f"C{j}", label=name)
            axis.plot(j + 1, self.scores[j + 1, j], "o", color=f"C{j}", markersize=12, markerfacecolor="none")
        axis.set_xticks(stages, ["nothing", *self.names])
        axis.set(xlabel="learned so far (a ring: the task of the stage itself)", ylabel="mean return")
        axis.legend()
        path = Path(path)
        written = path.with_name(f".{path.name}")
        figure.savefig(written, dpi=110, format=path.suffix.lstrip(".") or "png")
        written.replace(path)


def learn_in_sequence(
    model: RecurrentDQN,
    stages: Sequence[Stage],
    old_share: float | None = 0.5,
    n_eval_episodes: int = 20,
    callback: MaybeCallback = None,
    progress_bar: bool = False,
) -> ContinualReport:
    """
    Learn one task after another, and score all of them after each. Every stage is a ``learn`` of its own, so
    exploration and the learning rate begin anew.

    :param model: that learns
    :param stages: at least two
    :param old_share: of each batch that comes from the tasks before, equal parts for each; 0: a task's data are dropped
        when the next begins; None: one buffer goes on, and draws uniformly from what its ``buffer_size`` still holds
    :param n_eval_episodes: greedy episodes a score
    :param callback: as for ``learn``, at every stage
    :param progress_bar: show one, for every stage
    :return: the scores
    :raises ValueError: when an environment does not fit the model, before anything is learned
    """
    _check(model, stages, old_share)
    names = [stage.name for stage in stages]
    scores = [_scores(model, stages, n_eval_episodes)]
    for i, stage in enumerate(stages):
        if i > 0 and old_share is not None:
            keep_old_data(model, old_share)
        model.set_env(stage.env)
        model.learn(stage.steps, callback, tb_log_name=f"RecurrentDQN_{stage.name}", progress_bar=progress_bar)
        scores.append(_scores(model, stages, n_eval_episodes))
    return ContinualReport(names, np.array(scores))


def _scores(model: RecurrentDQN, stages: Sequence[Stage], n_episodes: int) -> list[float]:
    scores = []
    for stage in stages:
        training = model.get_env()
        if isinstance(stage.eval_env, VecNormalize) and isinstance(training, VecNormalize):
            sync_envs_normalization(training, stage.eval_env)
        mean, _ = evaluate_policy(model, stage.eval_env, n_eval_episodes=n_episodes, warn=False)
        scores.append(float(mean))  # type: ignore[arg-type]
    return scores


def _check(model: RecurrentDQN, stages: Sequence[Stage], old_share: float | None) -> None:
    if len(stages) < 2:
        raise ValueError(f"A sequence has at least two stages, got {len(stages)}.")
    if len({stage.name for stage in stages}) < len(stages):
        raise ValueError(f"Give each stage a name of its own, not {[stage.name for stage in stages]}.")
    if old_share is not None and not 0 <= old_share < 1:
        raise ValueError(f"old_share={old_share} must be at least 0 and below 1, or None for one buffer.")
    for stage in stages:
        if stage.steps < 1:
            raise ValueError(f"Stage {stage.name!r} has steps={stage.steps}; it needs at least 1.")
        env = model._wrap_env(stage.env, verbose=0)
        ours = (model.n_envs, model.observation_space, model.action_space)
        theirs = (env.num_envs, env.observation_space, env.action_space)
        if ours != theirs:
            raise ValueError(
                f"The environment of stage {stage.name!r} has (environments, observations, actions) {theirs}, the "
                f"model {ours}: all tasks must have the same."
            )
