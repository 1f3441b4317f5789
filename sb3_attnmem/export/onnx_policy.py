"""Plays an exported agent with numpy and onnxruntime; neither torch nor Stable-Baselines3 is imported."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sb3_attnmem.common.checks import check_flag, check_integer, check_number
from sb3_attnmem.common.files import check_path
from sb3_attnmem.export import names
from sb3_attnmem.export.metadata import DTYPES, check_graph, check_metadata, read_flag, read_space
from sb3_attnmem.export.observations import to_inputs

State = tuple[np.ndarray, ...]

#: that onnxruntime takes is more than any machine has
MOST_THREADS = 1024


class OnnxPolicy:
    """
    An agent that :func:`~sb3_attnmem.export.export_onnx` wrote. It acts as the model did: the same observations (as the
    environment gives them, before ``VecNormalize``), the same state, the same greedy actions.

    It holds no state of its own, so one policy can serve many environments.

    :param path: of the file
    :param epsilon: probability of a random action where ``predict`` is not asked to be deterministic; the model's own
        exploration rate is not in the file
    :param seed: of these
    :param num_threads: that onnxruntime may use for one call; more than one seldom pays with networks of this size.
        0: one a core
    :param providers: where onnxruntime runs it, first choice first
    :raises ImportError: when onnxruntime is not installed
    :raises FileNotFoundError: when there is no such file
    :raises ValueError: when it is no ONNX file, or not one of ours, or its metadata are damaged or of another graph, or
        an argument makes no sense
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        epsilon: float = 0.0,
        seed: int | None = None,
        num_threads: int = 1,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        path = check_path("path", path)
        self.epsilon = check_number("epsilon", epsilon, least=0.0, most=1.0, hint="It is a probability.")
        self._rng = np.random.default_rng(None if seed is None else check_integer("seed", seed, least=0))
        self._session = _open(path, check_integer("num_threads", num_threads, least=0, most=MOST_THREADS), providers)
        #: what the file tells of itself, as text
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        check_metadata(self.metadata, path)
        #: as JSON: its type, shape, dtype and so on; of a Dict, these for each key
        self.observation_space: dict[str, Any] = read_space(self.metadata, names.OBSERVATION_SPACE_KEY, path)
        self.action_space: dict[str, Any] = read_space(self.metadata, names.ACTION_SPACE_KEY, path)
        #: whether VecNormalize's statistics are inside, so that it wants raw observations
        self.normalizes: bool = read_flag(self.metadata, names.NORMALIZED_KEY, path)
        #: whether the Q-values are those of each choice of a MultiDiscrete action, not of each combination
        self.branching: bool = read_flag(self.metadata, names.BRANCHING_KEY, path)
        check_graph(self._session, self.observation_space, self.action_space, path, self.branching)
        #: where the action masks came from in training: "none", "env", "info" or the key of an observation
        self.mask_source: str = self.metadata.get(names.ACTION_MASKS_KEY, "none")
        inputs = self._session.get_inputs()
        self._taken = {one.name for one in inputs}
        self._state = [one for one in inputs if one.name.startswith(names.STATE)]
        #: names of the state's tensors, "h" and "c" of an LSTM
        self.state_names: tuple[str, ...] = tuple(one.name.removeprefix(names.STATE) for one in self._state)
        self._next_state = [f"{names.NEXT_STATE}{name}" for name in self.state_names]
        #: whether there are quantiles of each action's return, beside their means, the Q-values
        self.has_quantiles: bool = any(one.name == names.QUANTILES for one in self._session.get_outputs())

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: State | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, State]:
        """
        An action, and the state to pass with the next observation; as ``RecurrentDQN.predict``.

        :param observation: one observation or a batch of B, raw
        :param state: what the call before returned, arrays (B, ...); None at the first step
        :param episode_start: (B,) bool, True where an episode begins: nothing before reaches that step. None: nowhere
        :param deterministic: greedy if True, else random with probability ``epsilon``, tossed for each observation
        :param action_masks: (B, A) or (A,), 1 or True where an action is valid; None: all are, or the observation holds
            the mask
        :return: actions, (B,) or (), with the axis of their dimensions for ``MultiDiscrete``, and the next state
        :raises ValueError: when the observation is not of the observation space, or not finite, ``state`` or
            ``episode_start`` do not belong to such a batch, or a mask is missing or allows no action
        """
        deterministic = check_flag("deterministic", deterministic)
        masks = self._masks_at(observation, action_masks)
        q_values, state = self.q_values(observation, state, episode_start)
        if self.branching:
            return self._choices(q_values, deterministic), state
        choices = q_values if masks is None else np.where(_to_valid(masks, q_values.shape), q_values, -np.inf)
        actions = choices.argmax(axis=-1)
        if not deterministic and self.epsilon:
            if masks is None:
                random = self._rng.integers(q_values.shape[-1], size=actions.shape)
            else:  # the valid action that drew the largest number
                random = np.where(np.isneginf(choices), -1.0, self._rng.random(choices.shape)).argmax(axis=-1)
            actions = np.where(self._rng.random(actions.shape) < self.epsilon, random, actions)
        if self.action_space["type"] == "MultiDiscrete":
            actions = np.stack(np.unravel_index(actions, self.action_space["nvec"]), axis=-1)
        return actions, state

    def q_values(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: State | None = None,
        episode_start: np.ndarray | None = None,
    ) -> tuple[np.ndarray, State]:
        """
        The values of the actions, and the state to pass with the next observation.

        :param observation: one observation or a batch of B, raw
        :param state: what the call before returned, arrays (B, ...); None at the first step
        :param episode_start: (B,) bool, True where an episode begins: nothing before reaches that step. None: nowhere
        :return: the values of the A actions, (B, A) or (A,), and the next state
        :raises ValueError: when the observation is not of the observation space, or not finite, or ``state`` or
            ``episode_start`` do not belong to such a batch
        """
        return self._run(names.Q_VALUES, observation, state, episode_start)

    def quantiles(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: State | None = None,
        episode_start: np.ndarray | None = None,
    ) -> tuple[np.ndarray, State]:
        """
        The distribution of each action's return as quantiles, which are equally probable, and the state to pass with
        the next observation.

        :param observation: one observation or a batch of B, raw
        :param state: what the call before returned, arrays (B, ...); None at the first step
        :param episode_start: (B,) bool, True where an episode begins: nothing before reaches that step. None: nowhere
        :return: N quantiles of each of the A actions, (B, N, A) or (N, A), and the next state
        :raises ValueError: when the agent has no quantiles; and as :meth:`q_values`
        """
        if not self.has_quantiles:
            algorithm = self.metadata.get(names.ALGORITHM_KEY)
            raise ValueError(f"A {algorithm} has no quantiles, only q_values; RecurrentQRDQN and QRDQN have them.")
        return self._run(names.QUANTILES, observation, state, episode_start)

    def _run(self, output: str, observation: Any, state: Any, episode_start: Any) -> tuple[np.ndarray, State]:
        """:return: the output, of a batch or of one, and the next state"""
        feed, batched = to_inputs(observation, self.observation_space)
        n = len(next(iter(feed.values())))
        starts = _to_starts(episode_start, n)
        if state is None:
            # The first step of an episode: the graph knows the state before it, and does not look at this one
            state, starts = self._zeros(n), np.ones(n, np.bool_)
        feed[names.EPISODE_START] = starts
        feed.update(self._state_inputs(state, n))
        # A graph without memory has no use for all of them
        outputs = self._session.run(
            [output, *self._next_state], {name: feed[name] for name in feed if name in self._taken}
        )
        return outputs[0] if batched else outputs[0][0], tuple(outputs[1:])

    def _choices(self, q_values: np.ndarray, deterministic: bool) -> np.ndarray:
        """:return: (..., D), the best choice of each dimension, or with probability ``epsilon`` random ones of all"""
        nvec = self.action_space["nvec"]
        parts = np.split(q_values, np.cumsum(nvec)[:-1], axis=-1)
        actions = np.stack([part.argmax(axis=-1) for part in parts], axis=-1)
        if not deterministic and self.epsilon:
            random = self._rng.integers(nvec, size=actions.shape)
            actions = np.where(self._rng.random(actions.shape[:-1])[..., None] < self.epsilon, random, actions)
        return actions

    def _masks_at(self, observation: Any, action_masks: Any) -> Any:
        """:return: the masks to act with, None: all actions are valid"""
        if action_masks is not None or self.mask_source == "none":
            return action_masks
        if self.mask_source in ("env", "info"):
            raise ValueError(
                "The agent learned with action masks, and predict() got none. Pass action_masks, 1 where an action is "
                "valid; or let all be valid: action_masks=np.ones(...)."
            )
        return observation[self.mask_source]

    def _zeros(self, n: int) -> State:
        return tuple(np.zeros((n, *one.shape[1:]), DTYPES[one.type]) for one in self._state)

    def _state_inputs(self, state: State, n: int) -> dict[str, np.ndarray]:
        if not isinstance(state, tuple) or len(state) != len(self._state):
            of = f" of {len(state)}" if isinstance(state, (tuple, list)) else ""
            raise ValueError(
                f"state must be a tuple of {len(self._state)} arrays {self.state_names}, as the last predict() "
                f"returned it; got {type(state).__name__}{of}."
            )
        feed: dict[str, np.ndarray] = {}
        for i, (given, one) in enumerate(zip(state, self._state, strict=True)):
            array = np.asarray(given)
            if array.shape != (n, *one.shape[1:]):
                raise ValueError(
                    f"state[{i}] has shape {array.shape}, expected {(n, *one.shape[1:])} for {n} observation(s). "
                    "Pass the state that the last predict() returned for the same environments, or None to begin."
                )
            if array.dtype.kind not in "fiub":
                raise ValueError(f"state[{i}] has dtype {array.dtype}, expected numbers.")
            feed[one.name] = array.astype(DTYPES[one.type], copy=False)
        return feed


def _to_valid(action_masks: Any, shape: tuple[int, ...]) -> np.ndarray:
    """:return: of the shape of the Q-values, True where an action is valid"""
    masks = np.asarray(action_masks)
    if masks.shape != shape and not (len(shape) == 2 and shape[0] == 1 and masks.shape == shape[1:]):
        raise ValueError(f"action_masks has shape {masks.shape}, expected {shape}, 1 for valid ones.")
    valid = masks.reshape(shape) != 0
    if not valid.any(axis=-1).all():
        raise ValueError("An observation has no valid action: its action mask is all 0.")
    return valid


def _to_starts(episode_start: Any, n: int) -> np.ndarray:
    """:return: (n,) bool"""
    if episode_start is None:
        return np.zeros(n, np.bool_)
    starts = np.asarray(episode_start).reshape(-1)
    if starts.shape != (n,):
        raise ValueError(f"episode_start has shape {starts.shape}, but there are {n} observations.")
    if starts.dtype == np.bool_:
        return starts
    if starts.dtype.kind not in "iuf" or not np.isin(starts, (0, 1)).all():
        raise ValueError(f"episode_start={episode_start!r} must be True or False for each observation.")
    return starts.astype(np.bool_)


def _open(path: Path, num_threads: int, providers: Sequence[str]) -> Any:
    """:return: an onnxruntime session"""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"{error}. OnnxPolicy needs it: pip install onnxruntime.") from error
    if path.is_dir():
        raise ValueError(f"{path} is a folder; pass the ONNX file in it.")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3  # errors; its warnings are about the exporter's spare nodes
    known = onnxruntime.get_available_providers()
    if isinstance(providers, str) or not isinstance(providers, Sequence) or not providers:
        raise ValueError(f"providers={providers!r} must be a list of some of {known}.")
    if unknown := [one for one in providers if one not in known]:
        raise ValueError(f"onnxruntime has no providers {unknown} here; it has {known}.")
    content = path.read_bytes()
    try:
        return onnxruntime.InferenceSession(content, options, providers=list(providers))
    except Exception as error:  # it has an exception class for each kind of fault, all private
        raise ValueError(f"{path} is no ONNX file that onnxruntime can read: {str(error).splitlines()[0]}") from error
