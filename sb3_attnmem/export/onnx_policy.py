"""Plays an exported agent with numpy and onnxruntime; neither torch nor Stable-Baselines3 is imported."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from sb3_attnmem.common.checks import check_flag, check_integer, check_number
from sb3_attnmem.common.files import check_path
from sb3_attnmem.export import names
from sb3_attnmem.export.actions import choose, to_valid, within_bounds
from sb3_attnmem.export.metadata import DTYPES, check_graph, check_metadata, nvec_of, read_flag, read_space, values_of
from sb3_attnmem.export.observations import to_inputs, to_starts
from sb3_attnmem.export.session import open_session

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
        exploration rate is not in the file. For agents with Q-values: actors draw from their own distribution
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
        self._session = open_session(
            path, check_integer("num_threads", num_threads, least=0, most=MOST_THREADS), providers
        )
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
        #: what it decides by: "q_values", "logits", or "means" of continuous actions
        self.values: str = values_of({one.name for one in self._session.get_outputs()})
        if self.epsilon and self.values != names.Q_VALUES:
            raise ValueError(
                f"epsilon={self.epsilon}: a {self.metadata.get(names.ALGORITHM_KEY)} draws from its own distribution "
                "where deterministic=False; leave epsilon at 0."
            )
        #: whether continuous actions go through tanh to their bounds; otherwise they are clipped
        self.squashes: bool = read_flag(self.metadata, names.SQUASHED_KEY, path)
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
        An action, and the state to pass with the next observation; as the model's own ``predict``.

        :param observation: one observation or a batch of B, raw
        :param state: what the call before returned, arrays (B, ...); None at the first step
        :param episode_start: (B,) bool, True where an episode begins: nothing before reaches that step. None: nowhere
        :param deterministic: greedy if True, else random with probability ``epsilon``, tossed for each observation, or
            drawn from the actor's distribution
        :param action_masks: (B, A) or (A,), 1 or True where an action is valid (of an actor's ``MultiDiscrete``: the
            choices of all dimensions, one after the other); None: all are, or the observation holds the mask
        :return: actions, (B,) or (), with the axis of their dimensions for ``MultiDiscrete``, with the space's shape
            for ``Box``, and the next state
        :raises ValueError: when the observation is not of the observation space, or not finite, ``state`` or
            ``episode_start`` do not belong to such a batch, or a mask is missing or allows no action
        """
        deterministic = check_flag("deterministic", deterministic)
        masks = self._masks_at(observation, action_masks)
        if self.values == names.MEANS:
            return self._continuous(observation, state, episode_start, deterministic, masks)
        if self.values == names.LOGITS:
            logits, state = self.logits(observation, state, episode_start)
            return self._drawn(logits, masks, None if deterministic else self._rng), state
        q_values, state = self.q_values(observation, state, episode_start)
        if self.branching:
            return self._choices(q_values, deterministic), state
        choices = q_values if masks is None else np.where(to_valid(masks, q_values.shape), q_values, -np.inf)
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

    def logits(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: State | None = None,
        episode_start: np.ndarray | None = None,
    ) -> tuple[np.ndarray, State]:
        """
        An actor's logits, whose softmax are the probabilities of its choices, and the next state.

        :param observation: as for :meth:`q_values`, and the next two
        :param state: what the call before returned
        :param episode_start: (B,) bool
        :return: (B, A) or (A,), of ``MultiDiscrete`` the choices of all dimensions, and the next state
        :raises ValueError: when the agent has no logits; and as :meth:`q_values`
        """
        return self._run(names.LOGITS, observation, state, episode_start)

    def means(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: State | None = None,
        episode_start: np.ndarray | None = None,
    ) -> tuple[np.ndarray, State]:
        """
        The means of an actor's continuous actions before they are squashed or clipped, and the next state.

        :param observation: as for :meth:`q_values`, and the next two
        :param state: what the call before returned
        :param episode_start: (B,) bool
        :return: (B, D) or (D,), flat, and the next state
        :raises ValueError: when the agent has no means; and as :meth:`q_values`
        """
        return self._run(names.MEANS, observation, state, episode_start)

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
        (values,), state = self._outputs([output], observation, state, episode_start)
        return values, state

    def _outputs(
        self, wanted: list[str], observation: Any, state: Any, episode_start: Any
    ) -> tuple[list[np.ndarray], State]:
        """:return: the outputs, of a batch or of one, and the next state"""
        if wanted[0] not in (self.values, names.QUANTILES):
            algorithm = self.metadata.get(names.ALGORITHM_KEY)
            raise ValueError(f"A {algorithm} has no {wanted[0]}, it decides by {self.values}: ask for these.")
        feed, batched = to_inputs(observation, self.observation_space)
        n = len(next(iter(feed.values())))
        starts = to_starts(episode_start, n)
        if state is None:
            # The first step of an episode: the graph knows the state before it, and does not look at this one
            state, starts = self._zeros(n), np.ones(n, np.bool_)
        feed[names.EPISODE_START] = starts
        feed.update(self._state_inputs(state, n))
        # A graph without memory has no use for all of them
        outputs = self._session.run(
            [*wanted, *self._next_state], {name: feed[name] for name in feed if name in self._taken}
        )
        values = outputs[: len(wanted)]
        return values if batched else [one[0] for one in values], tuple(outputs[len(wanted) :])

    def _drawn(self, logits: np.ndarray, masks: Any, rng: np.random.Generator | None) -> np.ndarray:
        """:return: (...,) or (..., D), the most probable valid choices, or drawn ones"""
        nvec = nvec_of(self.action_space)
        if masks is not None:
            logits = np.where(to_valid(masks, logits.shape, nvec), logits, -np.inf)
        actions = choose(logits, nvec, rng)
        return actions if self.action_space["type"] == "MultiDiscrete" else actions[..., 0]

    def _continuous(
        self, observation: Any, state: Any, episode_start: Any, deterministic: bool, masks: Any
    ) -> tuple[np.ndarray, State]:
        """:return: actions within their bounds, and the next state"""
        if masks is not None:
            raise ValueError("Continuous actions have no masks; leave action_masks at None.")
        outputs, state = self._outputs([names.MEANS, names.DEVIATIONS], observation, state, episode_start)
        actions, deviations = outputs
        if not deterministic:
            actions = actions + deviations * self._rng.standard_normal(actions.shape, dtype=np.float32)
        return within_bounds(actions, self.action_space, self.squashes), state

    def _choices(self, q_values: np.ndarray, deterministic: bool) -> np.ndarray:
        """:return: (..., D), the best choice of each dimension, or with probability ``epsilon`` random ones of all"""
        actions, nvec = choose(q_values, self.action_space["nvec"]), self.action_space["nvec"]
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
