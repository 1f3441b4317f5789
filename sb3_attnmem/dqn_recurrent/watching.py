"""
What a learner must know of its environments and Stable-Baselines3 does not tell: that somebody else used them between
two of its steps, and the observations and rewards of a step before ``VecNormalize`` changes them.

Environments are shared: the user may hold the ``VecEnv``, or the environment inside it, and reset either. So the
counting is done in the innermost environments' own methods.
"""

import contextlib
import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces
from sb3_contrib.common.maskable.utils import EXPECTED_METHOD_NAME
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, unwrap_vec_normalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_attnmem.common.observations import check_finite, copy_observation, map_observation
from sb3_attnmem.dqn_recurrent.masks import FINAL_KEY, NONE, MaskReader

StandInKind = TypeVar("StandInKind", bound="StandIn")


class StandIn:
    """
    Stands in for a method of one environment. It is copied and pickled with the environment.

    :param owner: the environment
    :param name: of the method
    """

    def __init__(self, owner: Any, name: str) -> None:
        self.owner = owner
        self.function = getattr(type(owner), name)
        #: what stood in for the method before
        self.before = vars(owner).get(name)
        functools.update_wrapper(self, self.function, updated=())  # its signature is looked at

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.before is not None:
            return self.before(*args, **kwargs)
        return self.function(self.owner, *args, **kwargs)


class CountedMethod(StandIn):
    """Counts the calls of a method, whoever makes them."""

    calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return super().__call__(*args, **kwargs)


class FinalsCopied(StandIn):
    """
    Stands in for ``reset`` of an environment in a ``DummyVecEnv``, and copies the final observation that is waiting in
    its info: an environment that writes all observations into the same array would overwrite it now, before anybody
    has seen it.

    :param infos: of all environments of the ``DummyVecEnv``
    :param index: of this one
    """

    def __init__(self, owner: Any, name: str, infos: list[dict[str, Any]], index: int) -> None:
        super().__init__(owner, name)
        self.infos, self.index = infos, index

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        info = self.infos[self.index]
        if "terminal_observation" in info:
            if info.get("TimeLimit.truncated", False) and FINAL_KEY not in info:
                # A VecEnv resets before anybody can ask for the mask of the final observation
                with contextlib.suppress(AttributeError):
                    info[FINAL_KEY] = np.array(self.owner.get_wrapper_attr(EXPECTED_METHOD_NAME)())
            info["terminal_observation"] = copy.deepcopy(info["terminal_observation"])
        return super().__call__(*args, **kwargs)


def _stand_in(kind: type[StandInKind], owner: Any, name: str, *args: Any) -> list[StandInKind]:
    """:return: the stand-in, which may be there from another learner; none where attributes cannot be set"""
    present = getattr(owner, "__dict__", {}).get(name)
    while isinstance(present, StandIn):
        if isinstance(present, kind):
            return [present]
        present = present.before
    try:
        made = kind(owner, name, *args)
        setattr(owner, name, made)
    except (AttributeError, TypeError):
        return []
    return [made]


def count_calls(env: VecEnv) -> list[CountedMethod]:
    """
    Count the resets and steps of environments from now on, whoever makes them.

    :param env: with any wrappers
    :return: the counters
    """
    base = env.unwrapped
    counters = [*_stand_in(CountedMethod, base, "reset"), *_stand_in(CountedMethod, base, "step_wait")]
    if isinstance(base, DummyVecEnv):
        # The user may hold the environments inside as well; who steps one has reset it before
        for index, one in enumerate(base.envs):
            _stand_in(FinalsCopied, one, "reset", base.buf_infos, index)
            counters += _stand_in(CountedMethod, one.unwrapped, "reset")
    return counters


class WatchedEnv(VecEnvWrapper):
    """
    The environments as the learner steps them. ``dones`` are bool, whatever the environments gave.

    :param venv: the learner's environments, with all their wrappers
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.vec_normalize = unwrap_vec_normalize(venv)
        #: reads the action masks, where there are any
        self.masks: MaskReader | None = None
        #: of the last step, not normalised: (n_envs, ...) observations, and (n_envs,) rewards
        self.raw_observations: Any = None
        self.raw_rewards = np.zeros(self.num_envs)
        #: of the last step, not normalised: environment -> final observation, where there was one
        self.raw_finals: dict[int, Any] = {}
        self._below: tuple[Any, Any, dict[int, Any]] = (None, None, {})
        self._counters = count_calls(venv)
        self.settle()

    def settle(self) -> None:
        """What the environments were used for until now is known."""
        self._calls_seen = self._calls()

    def check_space(self, observation_space: spaces.Space) -> None:
        """
        :param observation_space: of the model
        :raises ValueError: when ``VecNormalize`` sees other observations
        """
        normalized = self.vec_normalize
        if normalized is not None and normalized.observation_space != observation_space:
            raise ValueError(
                f"VecNormalize sees observations of {normalized.observation_space}, the model of "
                f"{observation_space}: replay would mix them up. Put wrappers that change observations inside "
                "VecNormalize, for images VecNormalize(VecTransposeImage(env))."
            )

    def read_masks(self, source: str | None, action_space: spaces.Space, observations: Any, anew: bool) -> None:
        """
        Read action masks from now on.

        :param source: "env", "info" or the key of an observation; "none" or None: there are none
        :param action_space: of the environments
        :param observations: (n_envs, ...), the present ones
        :param anew: whether the environments were just reset; if not, masks that are read already are left alone
        :raises ValueError: when the environments cannot give such masks, or a mask allows no action
        """
        if source in (None, NONE):
            self.masks = None
        elif anew or self.masks is None or self.masks.source != source:
            assert source is not None and isinstance(action_space, spaces.Discrete)
            self.masks = MaskReader(source, self.venv, int(action_space.n))
            self.masks.after_reset(observations)

    @property
    def valid(self) -> np.ndarray | None:
        """:return: (n_envs, A) bool, the valid actions at the present observations; None: all are"""
        return None if self.masks is None else self.masks.valid

    @property
    def was_used(self) -> bool:
        """:return: whether anybody reset or stepped an environment since the learner did"""
        return self._calls() != self._calls_seen

    def _calls(self) -> int:
        return sum([counter.calls for counter in self._counters])  # at every step: faster than a generator

    def reset(self) -> VecEnvObs:
        with self.checking():
            observations = self.venv.reset()
        self.settle()
        if self.vec_normalize is None:
            check_finite("first observation", observations)  # type: ignore[arg-type]
        if self.masks is not None:
            self.masks.after_reset(observations)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = self.venv.step_wait()
        self.settle()
        dones = np.asarray(dones, dtype=bool)
        if self.vec_normalize is None:
            self._below = (observations, rewards, finals_of(dones, infos))
        # Copies, and only of the learner's own steps: the environments may be used again before this one is stored
        raw_observations, raw_rewards, self.raw_finals = self._below
        self.raw_observations, self.raw_rewards = copy_observation(raw_observations), np.array(raw_rewards)
        if self.masks is not None:
            self.masks.after_step(observations, dones, infos)
        return observations, rewards, dones, infos

    def successors(self, dones: np.ndarray, infos: list[dict[str, Any]], needs_finals: bool) -> Any:
        """
        Where the last step led, not normalised: the final observation where it ended an episode.

        :param dones: (n_envs,) bool
        :param infos: one dict an environment
        :param needs_finals: whether the final observations of time limits are bootstrapped from
        :return: (n_envs, ...)
        :raises ValueError: when such a final observation is missing
        """
        if not dones.any():
            return self.raw_observations
        successors = copy_observation(self.raw_observations)
        for i in np.flatnonzero(dones).tolist():
            if i in self.raw_finals:
                map_observation(lambda rows, final, i=i: rows.__setitem__(i, final), successors, self.raw_finals[i])
            elif needs_finals and infos[i].get("TimeLimit.truncated", False):
                raise ValueError(
                    f"Environment {i} ended an episode by a time limit (TimeLimit.truncated), but there is no "
                    f"infos[{i}]['terminal_observation'] to bootstrap from. Let the VecEnv give it, as SB3's do, or "
                    "pass replay_buffer_kwargs=dict(handle_timeout_termination=False)."
                )
        return successors

    @contextmanager
    def checking(self) -> Iterator[None]:
        """
        Below ``VecNormalize``, inside the ``with``: keep what it is given, and look for values that are not finite
        before they enter its statistics, which they would spoil for good.

        :raises ValueError: inside, when a value is not finite
        """
        if self.vec_normalize is None:
            yield
            return
        below: Any = self.vec_normalize.venv
        before = {name: vars(below).get(name) for name in ("step_wait", "reset")}
        step_wait, reset = below.step_wait, below.reset

        def checked_step() -> VecEnvStepReturn:
            observations, rewards, dones, infos = step_wait()
            dones = np.asarray(dones, dtype=bool)  # VecNormalize takes them for an index
            self._below = (observations, rewards, finals_of(dones, infos))
            check_step(*self._below)
            return observations, rewards, dones, infos

        def checked_reset() -> VecEnvObs:
            observations = reset()
            check_finite("first observation", observations)
            return observations

        below.step_wait, below.reset = checked_step, checked_reset
        try:
            yield
        finally:
            for name, stand_in in before.items():
                delattr(below, name) if stand_in is None else setattr(below, name, stand_in)


def finals_of(dones: np.ndarray, infos: Sequence[dict[str, Any]]) -> dict[int, Any]:
    """
    :param dones: (n_envs,) bool
    :param infos: one dict an environment
    :return: environment -> its final observation, where an episode ended and there is one
    """
    if not dones.any():
        return {}
    finals = {i: infos[i].get("terminal_observation") for i in np.flatnonzero(dones).tolist()}
    return {i: final for i, final in finals.items() if final is not None}


def check_step(observations: Any, rewards: Any, finals: dict[int, Any]) -> None:
    """
    :param observations: (n_envs, ...)
    :param rewards: (n_envs,)
    :param finals: environment -> final observation
    :raises ValueError: where a value is not finite
    """
    check_finite("reward", rewards)
    check_finite("observation", observations)
    for i, final in finals.items():
        check_finite("final observation", final, env=i)
