"""A network with a memory, asked for actions: arrays in, actions and the next state out."""

import warnings
from abc import abstractmethod
from contextlib import AbstractContextManager

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.dqn.policies import QNetwork

from sb3_attnmem.common.callers import levels_to_caller
from sb3_attnmem.common.observations import check_finite, n_rows
from sb3_attnmem.dqn_recurrent.branches import Branches, best_actions
from sb3_attnmem.dqn_recurrent.masks import masks_to_tensor
from sb3_attnmem.memory import BaseMemory, MemoryState, NoMemory
from sb3_attnmem.replay import n_actions_of, split_actions


class PredictingNetwork(QNetwork):
    """
    The side of :class:`~sb3_attnmem.dqn_recurrent.RecurrentQNetwork` that users meet: ``predict``. It checks what they
    pass, and turns it into what :meth:`step` takes.
    """

    memory: BaseMemory
    #: of a ``MultiDiscrete`` action whose choices have values; None: each action has one
    branches: Branches | None
    #: calls of ``predict`` in the middle of an episode, without a state, one after the other
    _forgetful_calls = 0

    @abstractmethod
    def step(
        self, observations: PyTorchObs, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        """Take one step of B environments, tensors (B, ...); gives Q-values (B, A) and the next state."""

    @abstractmethod
    def noise(self, generator: np.random.Generator | None, n_rows: int | None = None) -> AbstractContextManager[None]:
        """Make the head noisy inside the ``with``, where it has noise and there is a generator."""

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
        action_masks: np.ndarray | None = None,
        noise: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        The greedy action, and the state to pass with the next observation.

        :param observation: one observation or a batch of B
        :param state: what the call before returned, arrays (B, ...); None at the first step
        :param episode_start: (B,) bool, True where an episode begins; None: nowhere
        :param deterministic: not used: exploring is the algorithm's business
        :param action_masks: (B, A) or (A,), True where an action is valid; None: all are
        :param noise: draws the noise of a noisy head; None for its means
        :return: actions, (B,) or (), with the axis of their dimensions for ``MultiDiscrete``, and the next state
        :raises ValueError: when ``state`` has another structure or belongs to another batch size, the observation is
            not finite, or a mask allows no action
        """
        if isinstance(observation, tuple):
            raise ValueError(
                "predict() got a tuple instead of an observation. `obs, info = env.reset()` is Gymnasium's API, "
                "`obs = vec_env.reset()` that of SB3's VecEnv."
            )
        self.set_training_mode(False)
        obs_tensor, vectorized = self.obs_to_tensor(observation)
        # In a memory it would stay, whatever is predicted next
        check_finite("observation", observation, None if vectorized else 0, "Nothing was predicted from it.")
        n = n_rows(obs_tensor)
        starts = np.zeros(n, bool) if episode_start is None else np.asarray(episode_start, bool).reshape(-1)
        if starts.shape != (n,):
            raise ValueError(f"episode_start has shape {starts.shape}, but there are {n} observations.")
        valid = masks_to_tensor(action_masks, n, n_actions_of(self.action_space), self.device)
        with th.no_grad(), self.noise(noise, n):
            q_values, next_state = self.step(
                obs_tensor, self.state_to_tensors(state, starts), th.as_tensor(starts, device=self.device)
            )
        actions = split_actions(self.action_space, best_actions(q_values, valid, self.branches).cpu().numpy())
        return actions if vectorized else actions.squeeze(axis=0), tuple(tensor.cpu().numpy() for tensor in next_state)

    def state_to_tensors(self, state: tuple[np.ndarray, ...] | None, episode_starts: np.ndarray) -> MemoryState:
        """
        :param state: what :meth:`predict` returned, arrays (B, ...); None: the state that episodes begin with
        :param episode_starts: (B,) bool
        :return: the state that :meth:`step` takes, tensors (B, ...)
        :raises ValueError: when ``state`` has another structure, or belongs to another batch size
        """
        n = len(episode_starts)
        initial = self.memory.initial_state(n)
        if state is None:
            self._warn_if_forgetful(episode_starts)
            return initial
        self._forgetful_calls = 0
        if not isinstance(state, tuple) or len(state) != len(initial):
            raise ValueError(
                f"state must be a tuple of {len(initial)} arrays, as the last predict() returned it; got "
                f"{type(state).__name__}{f' of {len(state)}' if isinstance(state, (tuple, list)) else ''}."
            )
        for i, (given, expected) in enumerate(zip(state, initial, strict=True)):
            if np.shape(given) != tuple(expected.shape):
                raise ValueError(
                    f"state[{i}] has shape {tuple(np.shape(given))}, expected {tuple(expected.shape)} for {n} "
                    "observation(s). Pass the state that the last predict() returned for the same environments, "
                    "or None to begin."
                )
        return tuple(
            th.as_tensor(given, dtype=expected.dtype, device=self.device)
            for given, expected in zip(state, initial, strict=True)
        )

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        """:return: (B,) greedy actions at first steps of episodes, whatever came before; :meth:`predict` remembers"""
        self._warn_if_forgetful(np.zeros(n_rows(observation), bool))
        numbers = best_actions(self(observation), None, self.branches).cpu().numpy()
        return th.as_tensor(split_actions(self.action_space, numbers), device=self.device)

    def _warn_if_forgetful(self, starts: np.ndarray) -> None:
        """Warn at the second call in the middle of an episode that has no state of the first."""
        if starts.all() or isinstance(self.memory, NoMemory):
            return
        self._forgetful_calls += 1
        if self._forgetful_calls == 2:
            warnings.warn(
                "The policy was called again without a state: the agent forgets everything before each call. Pass the "
                "state on: `action, state = model.predict(obs, state=state, episode_start=episode_start)`.",
                stacklevel=levels_to_caller(),
            )
