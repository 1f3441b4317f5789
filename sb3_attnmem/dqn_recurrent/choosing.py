"""SB3's DQN, choosing actions with a memory: greedily, at random, and among the valid ones."""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.dqn.dqn import DQN

from sb3_attnmem.dqn_recurrent.exploration import HeldActions, Ladder, explore, own_generators
from sb3_attnmem.dqn_recurrent.masks import AUTO, FROM_ENV, FROM_INFO, NONE, WORDS, check_masks, find_mask_source
from sb3_attnmem.dqn_recurrent.policies import RecurrentDQNPolicy
from sb3_attnmem.replay import SequenceReplayBuffer, join_actions, n_actions_of, split_actions


class TakesMultiDiscrete(OffPolicyAlgorithm):
    """Lets ``DQN``, which tells its base class that it supports ``Discrete`` actions only, have others as well."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "supported_action_spaces": None})  # ours are checked in check_arguments


class ChoosingActions(DQN, TakesMultiDiscrete):
    """
    The side of :class:`~sb3_attnmem.RecurrentDQN` that chooses actions, in training and in ``predict``. Each draws from
    a generator of its own, so that neither disturbs the other.
    """

    policy: RecurrentDQNPolicy
    replay_buffer: SequenceReplayBuffer | None = None  # also after `del model.replay_buffer`
    exploration_duration: int
    exploration_ladder: float
    #: where the user said that masks are
    action_masks: str | None
    #: where they are: "env", "info", the key of an observation, or "none"; None: it is not known yet
    mask_source: str | None = None
    #: of exploring, and of predicting
    _exploration_rng: np.random.Generator
    _prediction_rng: np.random.Generator
    #: the random actions that the environments hold, where ``exploration_duration`` lets them
    _held: HeldActions | None = None

    def set_random_seed(self, seed: int | None = None) -> None:
        seed = None if seed is None else int(seed)  # spaces take no numpy integers
        super().set_random_seed(seed)
        if seed is not None:
            self._exploration_rng, self._prediction_rng = own_generators(seed)
            if self.replay_buffer is not None:
                self.replay_buffer.seed(seed)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        An action, and the state to pass with the next observation. The memory advances whether or not the action is
        random, and epsilon is tossed for each observation; here no random action is held.

        :param observation: one observation or a batch of B
        :param state: what the call before returned, tensors (B, ...); None at the first step
        :param episode_start: (B,) bool, True where an episode begins
        :param deterministic: greedy if True, else epsilon-greedy as the middle one of training's episodes is now, with
            ``exploration_rate ** (1 + exploration_ladder / 2)``, and with noise where the head is noisy
        :param action_masks: (B, A) or (A,), 1 or True where an action is valid; None: all are, or the observation holds
            the mask
        :return: actions, (B,) or (), with the axis of their dimensions for ``MultiDiscrete``, and the next state
        :raises ValueError: when ``state`` has another structure or belongs to another batch size, the observation is
            not finite, or a mask is missing or allows no action
        """
        valid = self._masks_at(observation, action_masks)
        noise = None if deterministic else self._prediction_rng
        actions, state = self.policy.predict(observation, state, episode_start, action_masks=valid, noise=noise)
        if not deterministic:
            single = np.ndim(actions) == len(self.action_space.shape or ())
            batch = join_actions(self.action_space, np.asarray(actions)[None] if single else actions)
            if valid is not None:
                valid = check_masks(valid, len(batch), n_actions_of(self.action_space))
            epsilon = Ladder.middle(self.exploration_rate, self.exploration_ladder)
            explored = self._explore(batch, epsilon, self._prediction_rng, valid)
            actions = split_actions(self.action_space, explored[0] if single else explored)
        return actions, state

    def _explore(
        self,
        greedy: np.ndarray,
        epsilon: float | np.ndarray,
        rng: np.random.Generator,
        valid: np.ndarray | None = None,
    ) -> np.ndarray:
        """:return: (B,) actions, of which a share of ``epsilon`` is random, all of them among the ``valid``"""
        return explore(greedy, epsilon, n_actions_of(self.action_space), rng, valid)

    def _explore_on(self, greedy: np.ndarray, epsilon: float | np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        """:return: (n_envs,) actions of the step that comes, some of which began earlier"""
        if self.exploration_duration == 1:
            return self._explore(greedy, epsilon, self._exploration_rng, valid)
        if self._held is None or (len(self._held.left), self._held.longest) != (self.n_envs, self.exploration_duration):
            self._held = HeldActions(self.n_envs, self.exploration_duration)
        assert self._last_episode_starts is not None
        self._held.end(self._last_episode_starts)  # also where a chain was cut: there an episode begins
        n_actions = n_actions_of(self.action_space)
        return self._held.explore(greedy, epsilon, n_actions, self._exploration_rng, valid)

    @property
    def mask_key(self) -> str | None:
        """:return: the key of a Dict observation that is the action mask; None where there is none"""
        return None if self.mask_source in (None, NONE, FROM_ENV, FROM_INFO) else self.mask_source

    def _find_masks(self) -> None:
        """Find out where the action masks are, unless it is known."""
        if self.action_masks != AUTO or self.mask_source in (None, NONE):
            before = self.mask_source
            self.mask_source = find_mask_source(self.action_masks, self.observation_space, self.action_space, self.env)
            if self.verbose >= 1 and self.mask_source not in (before, None, NONE):
                assert self.mask_source is not None
                print(
                    f"Action masks: {WORDS.get(self.mask_source, f'the key {self.mask_source!r} of the observation')}"
                )

    def _masks_at(self, observation: Any, action_masks: Any) -> np.ndarray | None:
        """
        :param observation: one, or a batch
        :param action_masks: that the caller passed
        :return: the masks to act with; None: all actions are valid
        :raises ValueError: when a model that learned with masks gets none
        """
        if action_masks is not None:
            return np.asarray(action_masks)
        if self.mask_key is not None:
            return np.asarray(observation[self.mask_key])
        if self.mask_source in (FROM_ENV, FROM_INFO):
            raise ValueError(
                f"This model learned with action masks from {WORDS[self.mask_source]}, and predict() got none. Pass "
                "action_masks=get_action_masks(env) (sb3_contrib.common.maskable.utils), evaluate with "
                "evaluate_masked_policy or MaskedEvalCallback of sb3_attnmem, or let all actions be valid: "
                "action_masks=np.ones(...)."
            )
        return None

    def _to_valid(self, valid: np.ndarray | None) -> th.Tensor | None:
        return None if valid is None else th.as_tensor(valid, device=self.device)
