"""One task after another: what is learned, what carries over, what is forgotten."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, sync_envs_normalization

from sb3_attnmem.common.checks import check_integer
from sb3_attnmem.common.files import replacing
from sb3_attnmem.dqn_recurrent import RecurrentDQN, evaluate_masked_policy
from sb3_attnmem.transfer.arguments import buffer_of
from sb3_attnmem.transfer.fitting import fit_spaces
from sb3_attnmem.transfer.old_data import check_old_share, keep_old_data


class Stage(NamedTuple):
    """
    A task of a sequence.

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
    How well each task was solved after each stage.

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
        # A bar would end the cell, a line break the table
        names = [" ".join(name.split()).replace("|", r"\|") for name in self.names]
        lines = [f"| after | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for stage, scores in zip(["nothing", *names], self.scores, strict=True):
            lines.append(f"| {stage} | {' | '.join(f'{score:.2f}' for score in scores)} |")
        forward = ["–", *(f"{gain:+.2f}" for gain in self.forward_transfer())]
        forgotten = [*(f"{loss:.2f}" for loss in self.forgetting()), "–"]
        lines += [f"| forward transfer | {' | '.join(forward)} |", f"| forgetting | {' | '.join(forgotten)} |"]
        return "\n".join(lines)

    def plot(self, path: str | Path) -> None:
        """
        Draw the score of every task over the stages; needs matplotlib.

        :param path: of the picture, which is replaced as a whole; its suffix says the format
        :raises ImportError: without matplotlib
        """
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                "The plot needs matplotlib: pip install 'sb3_attnmem[plots]'; table() does without."
            ) from error

        figure = Figure(figsize=(6.5, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        stages = np.arange(len(self.names) + 1)
        # A dollar sign would begin a formula
        names = [name.replace("$", r"\$") for name in self.names]
        lines = []
        for j in range(len(names)):
            lines += axis.plot(stages, self.scores[:, j], "o-", color=f"C{j}")
            axis.plot(j + 1, self.scores[j + 1, j], "o", color=f"C{j}", markersize=12, markerfacecolor="none")
        axis.set_xticks(stages, ["nothing", *names])
        axis.set(xlabel="learned so far (a ring: the task of the stage itself)", ylabel="mean return")
        axis.legend(lines, names)
        with replacing(path) as unfinished:
            figure.savefig(unfinished, dpi=110, format=Path(path).suffix.lstrip(".") or "png")


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
    :raises ValueError: when an environment does not fit the model, or a number, a name or a share makes no sense,
        before anything is learned
    """
    buffer_of(model)
    _check_stages(model, stages)
    if old_share is not None:
        check_old_share(old_share)
    n_eval_episodes = check_integer("n_eval_episodes", n_eval_episodes)
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
        mean, _ = evaluate_masked_policy(model, stage.eval_env, n_eval_episodes=n_episodes, warn=False)
        scores.append(float(mean))
    return scores


def _check_stages(model: RecurrentDQN, stages: Sequence[Stage]) -> None:
    if not isinstance(stages, (list, tuple)) or not all(isinstance(stage, Stage) for stage in stages):
        raise ValueError(f"stages must be a list of Stage(name, env, eval_env, steps), not {stages!r}.")
    if len(stages) < 2:
        raise ValueError(f"A sequence has at least two stages, got {len(stages)}.")
    names = [stage.name for stage in stages]
    if not all(isinstance(name, str) and name.strip() for name in names) or len(set(names)) < len(names):
        raise ValueError(f"Give each stage a name of its own, a string, not {names}.")
    training = {id(stage.env) for stage in stages}
    for stage in stages:
        check_integer(f"steps of stage {stage.name!r}", stage.steps)
        for role, env in (("env", stage.env), ("eval_env", stage.eval_env)):
            _check_env(model, f"{role} of stage {stage.name!r}", env)
        n_envs = stage.env.num_envs if isinstance(stage.env, VecEnv) else 1
        if n_envs != model.n_envs:
            raise ValueError(
                f"The env of stage {stage.name!r} has {n_envs} environments, the model {model.n_envs}: all must have "
                "as many."
            )
        if id(stage.eval_env) in training:
            raise ValueError(
                f"The eval_env of stage {stage.name!r} is an environment that is learned in: scoring would reset it "
                "within an episode. Make another one."
            )


def _check_env(model: RecurrentDQN, what: str, env: Any) -> None:
    if not isinstance(env, (gym.Env, VecEnv)):
        raise ValueError(f"The {what} is {env!r}; pass an environment.")
    if env.action_space != model.action_space:
        raise ValueError(
            f"The {what} has actions of {env.action_space}, the model of {model.action_space}: all tasks must have the "
            "same."
        )
    try:
        fit_spaces(env.observation_space, model.observation_space)
    except ValueError as error:
        raise ValueError(
            f"The {what} has observations of {env.observation_space}, the model of {model.observation_space}: all "
            "tasks must have the same."
        ) from error
