"""Observations and returns of about one size, whatever the environment's: statistics that live in the Q-network."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from sb3_attnmem.common.observations import named_arrays, rows_of
from sb3_attnmem.replay import Episode

#: added to variances, and the limit of what is normalised: those of ``VecNormalize``
EPSILON, CLIP = 1e-8, 10.0
#: the largest reward seen is at most this many deviations of the return, so that rare rewards do not become huge
LARGEST_REWARD = 10.0


class RunningStatistics(nn.Module):
    """
    Mean and variance of all that was seen, as buffers: they are saved, copied and moved with the network.

    :param shape: of one value
    :param dtype: of the statistics
    """

    mean: th.Tensor
    var: th.Tensor
    count: th.Tensor
    deviation: th.Tensor

    def __init__(self, shape: tuple[int, ...] = (), dtype: th.dtype = th.float32) -> None:
        super().__init__()
        self.register_buffer("mean", th.zeros(shape, dtype=dtype))
        self.register_buffer("var", th.ones(shape, dtype=dtype))
        self.register_buffer("count", th.zeros((), dtype=dtype))
        self.register_buffer("deviation", th.ones(shape, dtype=dtype), persistent=False)
        #: whether anything was seen
        self.active = False

    def update(self, values: np.ndarray) -> None:
        """
        :param values: (n, ...), more of what is described
        """
        known = RunningMeanStd(shape=self.mean.shape)
        known.mean, known.var = self.mean.double().cpu().numpy(), self.var.double().cpu().numpy()
        known.count = self.count.item()
        known.update(values)
        for buffer, now in ((self.mean, known.mean), (self.var, known.var), (self.count, known.count)):
            buffer.copy_(th.as_tensor(now))
        self._settle()

    def _settle(self) -> None:
        """Derive what is used from what is kept."""
        self.active = bool(self.count > 0)
        self.deviation.copy_((self.var + EPSILON).sqrt())

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if f"{prefix}count" not in state_dict:  # of a version that normalised nothing
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        self._settle()


class ReturnScale(RunningStatistics):
    """
    The deviation of the discounted return, which rewards are divided by in training (as in ``VecNormalize``).
    """

    largest: th.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", th.zeros(()))

    def see(self, returns: np.ndarray, rewards: np.ndarray) -> None:
        """
        :param returns: (n,), discounted sums of the rewards of an episode so far
        :param rewards: (n,)
        """
        self.largest.clamp_(min=float(np.abs(rewards).max()))
        self.update(returns)

    def _settle(self) -> None:
        super()._settle()
        self.deviation.clamp_(min=self.largest / LARGEST_REWARD)
        if self.largest == 0:  # no reward yet
            self.deviation.fill_(1.0)


class ObservationScale(RunningStatistics):
    """
    Mean and deviation of a vector. A part of it that was never anything but -1, 0 or 1 (a flag, one place of a one-hot
    code) has its size already, and is left as it is: dividing a rare flag by its small deviation would make it huge.

    :param shape: of the vector
    :param dtype: of the statistics
    """

    flags: th.Tensor
    shift: th.Tensor

    def __init__(self, shape: tuple[int, ...], dtype: th.dtype) -> None:
        super().__init__(shape, dtype)
        self.register_buffer("flags", th.ones(shape, dtype=th.bool))
        self.register_buffer("shift", th.zeros(shape, dtype=dtype), persistent=False)

    def update(self, values: np.ndarray) -> None:
        self.flags &= th.as_tensor(((values == 0) | (abs(values) == 1)).all(axis=0)).to(self.flags.device)
        super().update(values)

    def _settle(self) -> None:
        super()._settle()
        self.deviation.masked_fill_(self.flags, 1.0)
        self.shift.copy_(self.mean).masked_fill_(self.flags, 0.0)

    def forward(self, values: th.Tensor) -> th.Tensor:
        """
        :param values: (N, ...)
        :return: the same, normalised, in float32
        """
        normalized = ((values.to(self.shift.dtype) - self.shift) / self.deviation).clamp(-CLIP, CLIP)
        return normalized.float()


class Normalization(nn.Module):
    """
    What a Q-network knows of the size of observations and returns. Vectors of floats are normalised, (x − mean) /
    deviation, clipped to ±10; flags in them, images, and spaces that are encoded one-hot, are left as they are.
    Q-values stay in the environment's own units: only in the loss, errors are divided by the scale of returns.

    :param observation_space: observation space
    """

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__()
        parts: Any = observation_space
        if isinstance(observation_space, spaces.Dict):
            parts = dict(observation_space.spaces)
        vectors: list[tuple[Any, Any]] = [(key, one) for key, one in named_arrays(parts) if is_vector_of_floats(one)]
        #: keys of what is normalised, None where there is but one observation
        self.keys = [key for key, _ in vectors]
        self.observations = nn.ModuleList(
            ObservationScale(space.shape, th.float64 if space.dtype == np.float64 else th.float32)
            for _, space in vectors
        )
        self.returns = ReturnScale()

    @property
    def is_new(self) -> bool:
        """:return: whether nothing was seen yet"""
        return not (self.returns.active or any(statistics.active for statistics in self.observations))

    def forward(self, observations: PyTorchObs) -> PyTorchObs:
        """
        :param observations: (N, ...), or a dict of such tensors
        :return: the same, normalised
        """
        if not self.keys or not self.observations[0].active:
            return observations
        if not isinstance(observations, dict):
            return self.observations[0](observations)
        changed = {key: one(observations[key]) for key, one in zip(self.keys, self.observations, strict=True)}
        return {**observations, **changed}

    def see(self, observations: Any) -> None:
        """
        :param observations: (n, ...) or a dict of such arrays, that the agent acted on
        """
        for key, statistics in zip(self.keys, self.observations, strict=True):
            assert isinstance(statistics, ObservationScale)
            statistics.update(observations if key is None else observations[key])


def is_vector_of_floats(space: spaces.Space) -> bool:
    """
    :param space: of an observation, or of a part of it
    :return: whether it is normalised
    """
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)


class RolloutStatistics:
    """
    Gathers what a rollout shows, for the normalisation to learn from at its end: at every step it would cost more.

    :param n_envs: environments
    :param gamma: discount a step
    :param observations: whether observations shall be normalised
    :param returns: whether returns shall be
    """

    def __init__(self, n_envs: int, gamma: float, observations: bool, returns: bool) -> None:
        self.gamma, self.with_observations, self.with_returns = gamma, observations, returns
        self._returns = np.zeros(n_envs)
        self._gathered: list[tuple[Any, np.ndarray, np.ndarray]] = []

    def add(self, observations: Any, rewards: np.ndarray, dones: np.ndarray) -> None:
        """
        :param observations: (n_envs, ...) or a dict of such arrays, acted on; nobody may write into them later
        :param rewards: (n_envs,), what came of it
        :param dones: (n_envs,) bool, whether an episode ended there
        """
        returns = self._returns * self.gamma + rewards
        self._gathered.append((observations, rewards, returns))
        self._returns = np.where(dones, 0.0, returns)

    def add_episodes(self, normalization: Normalization, episodes: Iterable[Episode]) -> None:
        """
        Let the normalisation learn from episodes, as if the environment had been stepped through them.

        :param normalization: learns
        :param episodes: not normalised
        """
        for episode in episodes:
            if self.with_returns:
                returns = np.zeros(len(episode.rewards))
                running = 0.0
                for t, reward in enumerate(episode.rewards):
                    returns[t] = running = running * self.gamma + float(reward)
                normalization.returns.see(returns, episode.rewards)
            if self.with_observations:
                normalization.see(rows_of(episode.observations, slice(0, -1)))

    def hand_over(self, normalization: Normalization) -> None:
        """
        :param normalization: learns from what was gathered since the last call
        """
        if not self._gathered:
            return
        observations, rewards, returns = zip(*self._gathered, strict=True)
        self._gathered = []
        if self.with_returns:
            normalization.returns.see(np.concatenate(returns), np.concatenate(rewards))
        if self.with_observations:
            first = observations[0]
            together: Any = (
                {key: np.concatenate([one[key] for one in observations]) for key in normalization.keys}
                if isinstance(first, dict)
                else np.concatenate(observations)
            )
            normalization.see(together)


def statistics_for(
    vec_normalize: VecNormalize | None, n_envs: int, gamma: float, observations: bool, returns: bool
) -> RolloutStatistics | None:
    """
    :param vec_normalize: around the environments; what it normalises is not normalised twice
    :param n_envs: environments
    :param gamma: discount a step
    :param observations: whether observations shall be normalised
    :param returns: whether returns shall be
    :return: what gathers for the normalisation; None where nothing is to be normalised
    """
    observations = observations and not (vec_normalize is not None and vec_normalize.norm_obs)
    returns = returns and not (vec_normalize is not None and vec_normalize.norm_reward)
    return RolloutStatistics(n_envs, gamma, observations, returns) if observations or returns else None
