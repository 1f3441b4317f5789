"""Playing and evaluating agents that learned with action masks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_attnmem.dqn_recurrent.masks import FROM_ENV, FROM_INFO, MaskReader


class MaskedPlayer:
    """
    Stands in for a model where it plays: ``predict`` asks the environments for the masks. All else is the model's.

    :param model: the agent
    :param reader: of the masks; None: all actions are valid, or the observations hold the masks
    """

    def __init__(self, model: BaseAlgorithm, reader: MaskReader | None) -> None:
        self._model, self._reader = model, reader

    @property
    def valid(self) -> np.ndarray | None:
        """:return: (n_envs, A) bool, the valid actions at the present observations; None: the model knows by itself"""
        return None if self._reader is None else self._reader.valid

    def valid_at(self, observation: Any) -> np.ndarray | None:
        """
        :param observation: (n_envs, ...), the present observations
        :return: (n_envs, A) bool, the actions that are valid there; None: all are
        """
        key = getattr(self._model, "mask_key", None)
        return self.valid if key is None else np.asarray(observation[key]) != 0

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """
        What the model's own ``predict`` does, among the actions that are valid now.

        :param observation: (n_envs, ...), the present observations
        :param state: what the call before returned; None at the first step
        :param episode_start: (n_envs,) bool
        :param deterministic: whether to act greedily
        :return: actions, and the next state
        """
        masks = {} if self.valid is None else {"action_masks": self.valid}
        return self._model.predict(observation, state, episode_start, deterministic, **masks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@contextmanager
def playing_masked(model: BaseAlgorithm, env: VecEnv) -> Iterator[MaskedPlayer]:
    """
    Inside the ``with``, read the masks of environments as they are reset and stepped, by whom it may be.

    :param model: the agent; one that needs no masks plays as it does
    :param env: that it plays in; it must be reset inside the ``with``
    :return: what plays in the model's place
    :raises ValueError: when the model learned with masks, and the environment has none
    """
    source = getattr(model, "mask_source", None)
    if source not in (FROM_ENV, FROM_INFO):
        yield MaskedPlayer(model, None)
        return
    reader = MaskReader(source, env, int(model.action_space.n))  # type: ignore[attr-defined]
    before = {name: vars(env).get(name) for name in ("reset", "step_wait")}
    reset, step_wait = env.reset, env.step_wait

    def read_reset() -> Any:
        observations = reset()
        reader.after_reset(observations)
        return observations

    def read_step() -> Any:
        observations, rewards, dones, infos = step_wait()
        reader.after_step(observations, np.asarray(dones, dtype=bool), infos)
        return observations, rewards, dones, infos

    env.reset, env.step_wait = read_reset, read_step  # type: ignore[method-assign]
    try:
        yield MaskedPlayer(model, reader)
    finally:
        for name, stand_in in before.items():
            delattr(env, name) if stand_in is None else setattr(env, name, stand_in)


def evaluate_masked_policy(model: BaseAlgorithm, env: VecEnv | gym.Env, *args: Any, **kwargs: Any) -> Any:
    """
    SB3's ``evaluate_policy``, with the environment's action masks where the model learned with masks. (That of
    sb3-contrib's ``maskable`` drops the memory's state.)

    :param model: the agent
    :param env: that it plays in
    :param args: as for ``evaluate_policy``
    :param kwargs: as for ``evaluate_policy``
    :return: mean and standard deviation of the returns, or what ``return_episode_rewards`` asks for
    :raises ValueError: when the model learned with masks, and the environment has none
    """
    made = env if isinstance(env, VecEnv) else DummyVecEnv([lambda: env])
    with playing_masked(model, made) as player:
        return evaluate_policy(player, made, *args, **kwargs)


class MaskedEvalCallback(EvalCallback):
    """SB3's ``EvalCallback``, with the evaluation environment's action masks where the model learns with masks."""

    def _on_step(self) -> bool:
        if self.eval_freq <= 0 or self.n_calls % self.eval_freq != 0:
            return super()._on_step()
        model = self.model
        with playing_masked(model, self.eval_env) as player:
            try:
                self.model = player  # type: ignore[assignment]
                return super()._on_step()
            finally:
                self.model = model
