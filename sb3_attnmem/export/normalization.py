"""VecNormalize's part of an exported graph."""

import torch as th
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn


class ObservationNormalizer(nn.Module):
    """
    Does to raw observations what ``VecNormalize`` does, with its statistics as they are now, and in double precision
    like it: next to a mean far from zero, single precision would leave little of an observation.

    :param vec_normalize: None leaves observations as they are
    """

    def __init__(self, vec_normalize: VecNormalize | None) -> None:
        super().__init__()
        self.statistics = _statistics(vec_normalize)
        self.names: dict[str | None, int] = {}
        if vec_normalize is None:
            return
        self.clip = float(vec_normalize.clip_obs)
        for i, (key, of_key) in enumerate(self.statistics.items()):
            self.names[key] = i  # a key may hold what the name of a buffer may not
            self.register_buffer(f"mean_{i}", th.as_tensor(of_key.mean, dtype=th.float64))
            self.register_buffer(f"deviation_{i}", th.as_tensor(of_key.var + vec_normalize.epsilon).double().sqrt())

    def forward(self, observations: th.Tensor, key: str | None) -> th.Tensor:
        """
        :param observations: (B, ...)
        :param key: of a Dict observation, None where there is but one
        :return: (B, ...), float32 where normalised
        """
        if key not in self.names:
            return observations
        mean = self.get_buffer(f"mean_{self.names[key]}")
        deviation = self.get_buffer(f"deviation_{self.names[key]}")
        return ((observations.double() - mean) / deviation).clamp(-self.clip, self.clip).float()


def raw_space(space: spaces.Space, vec_normalize: VecNormalize | None) -> spaces.Space:
    """
    :param space: the model's observation space
    :param vec_normalize: that it saw its observations through, if any
    :return: the space of what goes into ``VecNormalize``, with images as the model has them (channels first)
    :raises ValueError: when the statistics do not belong to such observations
    """
    statistics = _statistics(vec_normalize)
    if vec_normalize is None or not statistics:
        return space
    before = vec_normalize.venv.observation_space
    if not isinstance(space, spaces.Dict):
        _check_shape("observations", statistics.get(None), space)
        return before
    parts = dict(space.spaces)
    for key, of_key in statistics.items():
        if key not in parts:
            raise ValueError(
                f"vec_normalize normalises the key '{key}', but the model's observations have {list(parts)}: it "
                "belongs to another model."
            )
        _check_shape(f"the key '{key}'", of_key, parts[key])
        parts[key] = before[key]  # type: ignore[index]
    return spaces.Dict(parts)


def _statistics(vec_normalize: VecNormalize | None) -> dict[str | None, RunningMeanStd]:
    """:return: key (None for observations that are no Dict) -> its statistics"""
    if vec_normalize is None or not vec_normalize.norm_obs:
        return {}
    return dict(vec_normalize.obs_rms) if isinstance(vec_normalize.obs_rms, dict) else {None: vec_normalize.obs_rms}


def _check_shape(what: str, statistics: RunningMeanStd | None, space: spaces.Space) -> None:
    shape = None if statistics is None else statistics.mean.shape
    if shape != space.shape:
        raise ValueError(
            f"vec_normalize holds statistics of {what if shape is not None else 'a Dict'} of shape {shape}, but the "
            f"model sees {space}: it belongs to another model, or a wrapper between it and the model changes the "
            "observations (VecFrameStack, VecTransposeImage). Put such wrappers inside VecNormalize."
        )
