"""Deep Q-learning with a memory, trained on replayed sequences."""

import math
import warnings
from typing import Any, ClassVar, TypeVar

import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule

from sb3_attnmem.common.checks import check_integer, check_number
from sb3_attnmem.common.parameters import what_learns
from sb3_attnmem.dqn_recurrent.arguments import check_arguments, warn_of_threads
from sb3_attnmem.dqn_recurrent.exploration import Ladder, own_generators
from sb3_attnmem.dqn_recurrent.observation_spaces import check_policy_name
from sb3_attnmem.dqn_recurrent.offline import run_offline
from sb3_attnmem.dqn_recurrent.policies import POLICY_ALIASES, RecurrentDQNPolicy
from sb3_attnmem.dqn_recurrent.saving import FROM_FILE, SavingAndLoading
from sb3_attnmem.dqn_recurrent.traced_step import TracedStep
from sb3_attnmem.replay import SequenceReplayBuffer

#: of Adam, at the first step and at the last
LEARNING_RATE = LinearSchedule(1e-3, 1e-4, 1.0)

SelfRecurrentDQN = TypeVar("SelfRecurrentDQN", bound="RecurrentDQN")


class RecurrentDQN(SavingAndLoading):
    """
    DQN with a memory between the features extractor and the Q-values (DRQN, https://arxiv.org/abs/1507.06527),
    trained on replayed sequences with stored states, burn-in, n-step double Q-learning and a dueling head
    (R2D2, https://openreview.net/forum?id=r1lyTjAqYX).

    Parameters not listed here are those of :class:`stable_baselines3.DQN`.

    The defaults are one set of settings that was measured on ten tasks, with and without something hidden
    (docs/defaults.md); where they deviate from SB3's or R2D2's, docs/algorithm.md says why.

    :param policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy", or the same with "Lstm" before "Policy"; one class
    :param env: the environment to learn from; ``Discrete`` actions
    :param learning_rate: of Adam; by default it falls from 1e-3 to 1e-4
    :param buffer_size: transitions in the replay buffer, over all environments
    :param batch_size: sequences a gradient step
    :param train_freq: when to make ``gradient_steps`` updates: after so many steps of all environments at once, as in
        ``DQN``, or with a unit: ``(32, "transition")`` after 32 transitions, however many environments they come
        from, ``(1, "episode")``
    :param n_steps: steps of reward in a target, at most ``sequence_length``
    :param watkins_tolerance: n-step returns stop at an action that the online network thinks worse than the best by
        more than so many deviations of the return (of the rewards as they are learned from), so that neither exploring
        nor yesterday's mistakes blur them; inf never stops them, as in R2D2
    :param sequence_length: learning steps of a replayed sequence
    :param burn_in: steps replayed before those, without gradient, to warm up the state
    :param double_q: the online network picks the action that the target network scores
    :param value_rescaling: learn h(Q) instead of Q (Pohlen et al., 2018), for returns of very different sizes
    :param state_init: how replayed sequences begin: "stored", with the state that the acting network had, or "zero",
        with the memory's initial state, which takes no room in the replay buffer (for memories with large states);
        burn-in rebuilds the rest
    :param exploration_ladder: α; each episode explores with a rate of its own, ε^(1 + α·u), ε being the scheduled rate
        and u spread evenly over [0, 1), so that some episodes are almost greedy and others explore a lot (Ape-X and
        R2D2 give one rate to each environment: α = 7, ε = 0.4). 0 gives all the same
    :param normalize_observations: normalise vectors of floats by their running mean and deviation, as ``VecNormalize``
        does; the statistics belong to the Q-network. Not done twice: off under a ``VecNormalize`` that does it
    :param normalize_returns: divide rewards in the loss by the running deviation of the discounted return, as
        ``VecNormalize`` does; Q-values stay in the environment's units. Off under a ``VecNormalize`` that does it, and
        with ``value_rescaling``
    :param exploration_duration: the longest that a random action is held, in steps (Dabney et al., 2020): how long each
        is held is drawn from p(k) ∝ k^-2 up to there. ε is the probability that one begins, so that more than a share
        of ε of all steps is random; 1 holds none. ``predict`` holds none either
    :param action_masks: where the environment says which actions are valid: "env", its method ``action_masks()`` as for
        ``MaskablePPO``; "info", ``info["action_mask"]`` of every reset and step; or the key of a Dict observation that
        is the mask. "auto" finds out, "none" or None lets all actions be valid (docs/masked-dqn.md)
    :param target_update_unit: what ``target_update_interval`` counts: gradient "updates" as in R2D2 (there 2,500, with
        ``tau=1``), or environment "steps" as in ``DQN``
    :param refresh_states: write the states that burn-in recomputes back into the replay buffer, so that what is stored
        does not grow stale; needs ``burn_in`` and stored states
    :param delta_q_interval: every so many updates, log the ΔQ of the R2D2 paper (section 3), how far stale or zero
        states put the Q-values out, as ``train/delta_q_first`` and ``train/delta_q_last``; 0 never
    :param replay_buffer_class: ``SequenceReplayBuffer`` (the default), ``PrioritizedSequenceReplayBuffer``,
        ``EpisodeSequenceReplayBuffer``, or a subclass
    :param replay_buffer_kwargs: its other options, for example ``dict(state_interval=4)``
    :param policy_kwargs: ``memory_class``, ``memory_kwargs``, ``encoder_arch``, ``dueling``, and what ``DQNPolicy``
        takes (see :class:`RecurrentDQNPolicy`). With ``noisy=True`` learned noise explores, and the three
        ``exploration_…`` arguments of ``DQN`` and ``exploration_ladder`` mean nothing: ε is 0 once warm-up is over
    :raises ValueError: for arguments that do not fit, before a network is built
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = POLICY_ALIASES

    def __init__(
        self,
        policy: str | type[RecurrentDQNPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = LEARNING_RATE,
        buffer_size: int = 1_000_000,
        learning_starts: int = 1_000,
        batch_size: int = 16,
        tau: float = 0.04,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = (32, "transition"),
        gradient_steps: int = 1,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 5,
        target_update_interval: int = 1,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.4,
        max_grad_norm: float = 10,
        sequence_length: int = 64,
        burn_in: int = 0,
        watkins_tolerance: float = 0.1,
        double_q: bool = True,
        value_rescaling: bool = False,
        state_init: str = "stored",
        exploration_ladder: float = 7.0,
        normalize_observations: bool = True,
        normalize_returns: bool = True,
        target_update_unit: str = "updates",
        refresh_states: bool = False,
        delta_q_interval: int = 0,
        exploration_duration: int = 1,
        action_masks: str | None = "auto",
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            target_update_interval=target_update_interval,
            exploration_fraction=exploration_fraction,
            exploration_initial_eps=exploration_initial_eps,
            exploration_final_eps=exploration_final_eps,
            max_grad_norm=max_grad_norm,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
        )
        self.sequence_length = sequence_length
        self.burn_in = burn_in
        self.watkins_tolerance = watkins_tolerance
        self.double_q = double_q
        self.value_rescaling = value_rescaling
        self.state_init = state_init
        self.exploration_ladder = exploration_ladder
        self.normalize_observations = normalize_observations
        self.normalize_returns = normalize_returns
        self._has_these_defaults = True
        if FROM_FILE.get():
            # A file of before version 0.3 does not say how these were: as they are set now
            self.normalize_observations = self.normalize_returns = self._has_these_defaults = False
            self.watkins_tolerance = math.inf
        self.exploration_duration = exploration_duration
        self.action_masks = action_masks
        self.target_update_unit = target_update_unit
        self.refresh_states = refresh_states
        self.delta_q_interval = delta_q_interval
        #: learning steps that updates were computed from, for the replay ratio
        self._n_trained_steps = 0
        if env is not None:
            self.policy_kwargs = check_policy_name(policy, self.observation_space, self.policy_kwargs)
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        if not self._has_these_defaults:
            self.policy_kwargs = {"memory_fusion": "none", **(self.policy_kwargs or {})}
        check_arguments(vars(self), self.policy_aliases)
        if self.replay_buffer_class is None:
            self.replay_buffer_class = SequenceReplayBuffer
        if self.replay_buffer is None:
            self.replay_buffer = self.replay_buffer_class(  # type: ignore[assignment]
                self.buffer_size,
                self.observation_space,
                self.action_space,
                device=self.device,
                n_envs=self.n_envs,
                **self.sequence_options(),
                **self.replay_buffer_kwargs,
            )
        self._ladder = Ladder(self.n_envs, self._n_begun)
        # Exploring and predicting draw from generators of their own: neither disturbs the other
        self._exploration_rng, self._prediction_rng = own_generators(None)
        with warnings.catch_warnings():
            # SB3 warns that only its own buffer does n-step returns; ours does as well
            warnings.filterwarnings("ignore", message="`n_steps=")
            if self.target_update_unit == "updates":
                warnings.filterwarnings("ignore", message="The number of environments used is greater than the target")
            super()._setup_model()
        self._step = TracedStep(self.q_net)
        self._find_masks()
        if self.q_net.is_noisy:
            # The noise explores: no action is random once warm-up is over
            self.exploration_schedule = ConstantSchedule(0.0)

    def learn(
        self: SelfRecurrentDQN,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "RecurrentDQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfRecurrentDQN:
        check_number("total_timesteps", total_timesteps, least=0)
        if log_interval is not None:
            check_integer("log_interval", log_interval)
        self.n_tapes = None
        warn_of_threads(self.q_net, self.device)
        if self.verbose >= 1 and not all(weight.requires_grad for weight in self.q_net.parameters()):
            print(what_learns(self.q_net))
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def learn_offline(
        self: SelfRecurrentDQN,
        updates: int,
        callback: MaybeCallback = None,
        conservative_weight: float = 0.0,
        log_interval: int = 1_000,
        tb_log_name: str = "RecurrentDQN_offline",
        progress_bar: bool = False,
        reset_num_updates: bool = True,
    ) -> SelfRecurrentDQN:
        """
        Learn from what the replay buffer holds, without an environment step; ``learn`` goes on from there. Callbacks
        see one call of ``on_step`` an update, and count updates where they count environment steps otherwise. The
        learning rate follows its schedule over these updates. The target network is updated at the pace, in updates,
        that it has online.

        :param updates: gradient steps
        :param callback: as for ``learn``
        :param conservative_weight: of the conservative term (Kumar et al., 2020), which keeps the values of actions low
            that the data do not show; 0 leaves it out
        :param log_interval: updates from one line of the log to the next
        :param tb_log_name: name of the run in TensorBoard
        :param progress_bar: show one
        :param reset_num_updates: count from 0; False goes on with the ``learn_offline`` before, of which ``updates``
            are left (:func:`~sb3_attnmem.updates_left`)
        :return: the model
        :raises ValueError: when the buffer is empty, or a number makes no sense
        """
        warn_of_threads(self.q_net, self.device)
        run_offline(
            self, updates, callback, conservative_weight, log_interval, tb_log_name, progress_bar, reset_num_updates
        )
        return self
