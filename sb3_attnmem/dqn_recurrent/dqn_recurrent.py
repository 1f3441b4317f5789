"""Deep Q-learning with a memory, trained on replayed sequences."""

import io
import pathlib
import time
import warnings
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, Schedule, TrainFreq
from stable_baselines3.common.utils import obs_as_tensor, polyak_update
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.dqn import DQN

from sb3_attnmem.common.parameters import what_learns
from sb3_attnmem.dqn_recurrent.checks import check_arguments, check_finite, check_loaded, warn_of_threads
from sb3_attnmem.dqn_recurrent.figures import MAX_HISTORY, delta_q, training_figures
from sb3_attnmem.dqn_recurrent.offline import OfflineUpdates, run_offline
from sb3_attnmem.dqn_recurrent.policies import POLICY_ALIASES, RecurrentDQNPolicy, RecurrentQNetwork
from sb3_attnmem.dqn_recurrent.targets import (
    bootstrap_values,
    conservative_gaps,
    masked_mean,
    n_step_returns,
    sequence_priorities,
    td_targets,
)
from sb3_attnmem.memory import MemoryState
from sb3_attnmem.replay import SequenceReplayBuffer, SequenceSamples, find_frame_stack

SelfRecurrentDQN = TypeVar("SelfRecurrentDQN", bound="RecurrentDQN")


class RecurrentDQN(DQN):
    """
    DQN with a memory between the features extractor and the Q-values (DRQN, https://arxiv.org/abs/1507.06527),
    trained on replayed sequences with stored states, burn-in, n-step double Q-learning and a dueling head
    (R2D2, https://openreview.net/forum?id=r1lyTjAqYX).

    Parameters not listed here are those of :class:`stable_baselines3.DQN`.

    :param policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy", or the same with "Lstm" before "Policy"; one class
    :param env: the environment to learn from; ``Discrete`` actions
    :param buffer_size: transitions in the replay buffer, over all environments
    :param batch_size: sequences a gradient step
    :param n_steps: steps of reward in a target, at most ``sequence_length``
    :param sequence_length: learning steps of a replayed sequence
    :param burn_in: steps replayed before those, without gradient, to warm up the state
    :param double_q: the online network picks the action that the target network scores
    :param value_rescaling: learn h(Q) instead of Q (Pohlen et al., 2018), for returns of very different sizes
    :param state_init: how replayed sequences begin: "stored", with the state that the acting network had, or "zero",
        with the memory's initial state, which takes no room in the replay buffer (for memories with large states);
        burn-in rebuilds the rest
    :param exploration_ladder: α; environment i of N explores with ε_i = ε^(1 + α·i/(N − 1)), ε being the scheduled
        rate (Ape-X and R2D2: α = 7 and a constant ε of 0.4). 0 gives all the same
    :param target_update_unit: what ``target_update_interval`` counts: environment "steps" as in ``DQN``, or gradient
        "updates" as in R2D2 (there 2,500, with ``tau=1``)
    :param refresh_states: write the states that burn-in recomputes back into the replay buffer, so that what is stored
        does not grow stale; needs ``burn_in`` and stored states
    :param delta_q_interval: every so many updates, log the ΔQ of the R2D2 paper (section 3), how far stale or zero
        states put the Q-values out, as ``train/delta_q_first`` and ``train/delta_q_last``; 0 never
    :param replay_buffer_class: ``SequenceReplayBuffer`` (the default), ``PrioritizedSequenceReplayBuffer``,
        or a subclass
    :param replay_buffer_kwargs: its other options, for example ``dict(state_interval=4)``
    :param policy_kwargs: ``memory_class``, ``memory_kwargs``, ``encoder_arch``, ``dueling``, and what ``DQNPolicy``
        takes (see :class:`RecurrentDQNPolicy`)
    :raises ValueError: for arguments that do not fit, before a network is built
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = POLICY_ALIASES
    policy: RecurrentDQNPolicy
    q_net: RecurrentQNetwork
    q_net_target: RecurrentQNetwork
    replay_buffer: SequenceReplayBuffer | None

    def __init__(
        self,
        policy: str | type[RecurrentDQNPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 5e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 1_000,
        batch_size: int = 32,
        tau: float = 0.01,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 8,
        gradient_steps: int = 1,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 3,
        target_update_interval: int = 8,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        max_grad_norm: float = 10,
        sequence_length: int = 32,
        burn_in: int = 8,
        double_q: bool = True,
        value_rescaling: bool = False,
        state_init: str = "stored",
        exploration_ladder: float = 0.0,
        target_update_unit: str = "steps",
        refresh_states: bool = False,
        delta_q_interval: int = 0,
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
        self.double_q = double_q
        self.value_rescaling = value_rescaling
        self.state_init = state_init
        self.exploration_ladder = exploration_ladder
        self.target_update_unit = target_update_unit
        self.refresh_states = refresh_states
        self.delta_q_interval = delta_q_interval
        #: learning steps that updates were computed from, for the replay ratio
        self._n_trained_steps = 0
        # How updates differ while `learn_offline` runs; None otherwise
        self._offline: OfflineUpdates | None = None
        # The acting memory, with `_last_obs`: the state before that observation. None: begin with an episode
        self._memory_state: MemoryState | None = None
        # True from choosing an action until its transition is stored
        self._step_under_way = False
        if env is not None:
            self._check_policy_name(policy)
        if _init_setup_model:
            self._setup_model()

    def _check_policy_name(self, policy: str | type[RecurrentDQNPolicy]) -> None:
        """Let the policy's name mean what it means in SB3, although one class serves all."""
        if not isinstance(policy, str):
            return
        space = self.observation_space
        if isinstance(space, spaces.Dict) != policy.startswith("MultiInput"):
            wanted = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy or CnnPolicy"
            raise ValueError(f"You must use {wanted} with the observation space {space}, not {policy}.")
        if "features_extractor_class" in self.policy_kwargs:
            return
        is_image = is_image_space(space, normalized_image=not self.policy_kwargs.get("normalize_images", True))
        if policy.startswith("Cnn") and not is_image:
            raise ValueError(
                f"{policy} wants images (uint8 in [0, 255] with 1, 3 or 4 channels, or policy_kwargs="
                f"dict(normalize_images=False)), but the observation space is {space}. Use MlpPolicy, "
                "or pass a features_extractor_class."
            )
        if policy.startswith("Mlp") and is_image:
            self.policy_kwargs = {**self.policy_kwargs, "features_extractor_class": FlattenExtractor}

    def _setup_model(self) -> None:
        check_arguments(self)
        if self.replay_buffer_class is None:
            self.replay_buffer_class = SequenceReplayBuffer
        if self.replay_buffer is None:
            self.replay_buffer = self.replay_buffer_class(  # type: ignore[assignment]
                self.buffer_size,
                self.observation_space,
                self.action_space,
                device=self.device,
                n_envs=self.n_envs,
                **self._sequence_kwargs(),
                **self.replay_buffer_kwargs,
            )
        # Exploring and predicting draw from generators of their own: neither disturbs the other
        self._exploration_rng, self._prediction_rng = (np.random.default_rng(np.random.randint(2**31)) for _ in "ab")
        with warnings.catch_warnings():
            # SB3 warns that only its own buffer does n-step returns; ours does as well
            warnings.filterwarnings("ignore", message="`n_steps=")
            if self.target_update_unit == "updates":
                warnings.filterwarnings("ignore", message="The number of environments used is greater than the target")
            super()._setup_model()

    def _sequence_kwargs(self) -> dict[str, Any]:
        return dict(sequence_length=self.sequence_length, burn_in=self.burn_in, n_steps=self.n_steps)

    def _allocate_replay(self) -> MemoryState:
        """
        Make room in the replay buffer, unless there is room already.

        :return: the state that episodes begin with, of every environment
        """
        assert self.replay_buffer is not None
        # An initial state may be learned, and the parameter itself
        state = tuple(tensor.detach().clone() for tensor in self.q_net.memory.initial_state(self.n_envs))
        if self.replay_buffer.tapes is None:
            if "frame_stack" not in self.replay_buffer_kwargs:
                self.replay_buffer.frame_stack = find_frame_stack(self.env)
            self.replay_buffer.allocate(self._stored(state))
            if self.verbose >= 1 and self.replay_buffer.tapes is not None:
                size = self.replay_buffer.tapes.nbytes / 1e6
                print(f"The replay buffer will take {size:,.0f} MB when full ({self.buffer_size:,} transitions)")
        return state

    def set_random_seed(self, seed: int | None = None) -> None:
        super().set_random_seed(seed)
        if seed is not None:
            self._exploration_rng, self._prediction_rng = map(
                np.random.default_rng, np.random.SeedSequence(seed).spawn(2)
            )
            if self.replay_buffer is not None:
                self.replay_buffer.seed(seed)

    # Acting

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        An action, and the state to pass with the next observation. The memory advances whether or not the action is
        random, and epsilon is tossed for each observation.

        :param observation: one observation or a batch of B
        :param state: what the call before returned, tensors (B, ...); None at the first step
        :param episode_start: (B,) bool, True where an episode begins
        :param deterministic: greedy if True, else epsilon-greedy with the present ``exploration_rate``
        :return: actions, (B,) or (), and the next state
        :raises ValueError: when ``state`` has another structure, or belongs to another batch size
        """
        actions, state = self.policy.predict(observation, state, episode_start)
        if not deterministic:
            batch = np.atleast_1d(actions)
            actions = self._explore(batch, self.exploration_rate, self._prediction_rng).reshape(np.shape(actions))
        return actions, state

    def _explore(self, greedy: np.ndarray, epsilon: float | np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """
        :param greedy: (B,) actions
        :param epsilon: probability of a random action, tossed for each of the B, or (B,) probabilities
        :param rng: where the dice come from
        :return: (B,) actions
        """
        assert isinstance(self.action_space, spaces.Discrete)
        exploring = rng.random(len(greedy)) < epsilon
        if exploring.any():
            greedy = np.where(exploring, rng.integers(self.action_space.n, size=len(greedy)), greedy)
        return greedy

    def _ladder(self, epsilon: float) -> float | np.ndarray:
        """:return: the probability of a random action, in all environments or (n_envs,) in each"""
        if self.exploration_ladder == 0 or self.n_envs == 1:
            return epsilon
        return epsilon ** (1 + self.exploration_ladder * np.arange(self.n_envs) / (self.n_envs - 1))

    def _on_step(self) -> None:
        if self.target_update_unit == "updates":
            self._n_calls += 1
            self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
            self.logger.record("rollout/exploration_rate", self.exploration_rate)
        else:
            super()._on_step()

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Act on ``_last_obs``. The memory advances on every step: greedy, random and warm-up alike."""
        assert self._last_obs is not None and self._last_episode_starts is not None
        assert self._memory_state is not None and self.replay_buffer is not None
        self._step_under_way = True
        observations = obs_as_tensor(self._last_obs, self.device)
        starts = th.as_tensor(self._last_episode_starts, device=self.device)
        self.replay_buffer.stage_state(self._stored(self._memory_state))
        with th.no_grad():
            q_values, self._memory_state = self.q_net.step(observations, self._memory_state, starts)
        epsilon = 1.0 if self.num_timesteps < learning_starts else self._ladder(self.exploration_rate)
        actions = self._explore(q_values.argmax(dim=1).cpu().numpy(), epsilon, self._exploration_rng)
        return actions, actions

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        check_finite("reward", reward)
        check_finite("observation", new_obs)
        for i in np.flatnonzero(dones):
            if infos[i].get("terminal_observation") is not None:
                check_finite("final observation", infos[i]["terminal_observation"], env=int(i))
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        self._last_episode_starts = dones
        self._step_under_way = False

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        rollout = super().collect_rollouts(
            env, callback, train_freq, replay_buffer, action_noise, learning_starts, log_interval
        )
        if not rollout.continue_training:
            # SB3 drops the step that a callback stopped at, and would pair its observation with the wrong successor
            step = callback.locals
            self._store_transition(
                replay_buffer, step["buffer_actions"], step["new_obs"], step["rewards"], step["dones"], step["infos"]
            )
        return rollout

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        assert self.env is not None and self.replay_buffer is not None, "Set the environment before calling learn()"
        normalized = self._vec_normalize_env
        if normalized is not None and normalized.observation_space != self.observation_space:
            raise ValueError(
                f"VecNormalize sees observations of {normalized.observation_space}, the model of "
                f"{self.observation_space}: replay would mix them up. Put wrappers that change observations inside "
                "VecNormalize, for images VecNormalize(VecTransposeImage(env))."
            )
        state = self._allocate_replay()
        if self._step_under_way or self._memory_state is None:
            # An exception broke a step off, or there is no state that belongs to `_last_obs`
            self._last_obs = None
        resets = reset_num_timesteps or self._last_obs is None
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        self._n_updates_at_start = self._n_updates
        if reset_num_timesteps:
            self._n_trained_steps = 0
        if resets:
            self.replay_buffer.cut()
            self._memory_state = state
            self._step_under_way = True  # until it is known that the reset gave something to go on from
            check_finite("first observation", self._last_obs)  # type: ignore[arg-type]
            self._step_under_way = False
        return result

    # Learning

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """
        :param gradient_steps: number of updates
        :param batch_size: sequences an update
        :raises ValueError: when the loss is not finite; the weights are left as they were
        """
        assert self.replay_buffer is not None
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        self.replay_buffer.anneal(1.0 - self._current_progress_remaining)
        every = self.target_update_interval if self.target_update_unit == "updates" else 0
        if self._offline is not None:
            every = self._offline.target_interval
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            if self.delta_q_interval and self._n_updates % self.delta_q_interval == 0:
                self._record_delta_q(batch)
            self._update(batch)
            self._n_updates += 1
            if every and self._n_updates % every == 0:
                polyak_update(self.q_net.parameters(), self.q_net_target.parameters(), self.tau)
                polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/replay_ratio", self._n_trained_steps / max(self.num_timesteps, 1))
        seconds = max((time.time_ns() - self.start_time) / 1e9, 1e-9)
        self.logger.record("time/updates_per_second", (self._n_updates - self._n_updates_at_start) / seconds)

    def _update(self, batch: SequenceSamples) -> None:
        """
        One gradient step.

        :raises ValueError: when the loss is not finite; the weights are left as they were
        """
        assert self.replay_buffer is not None
        q_taken, targets, q_online = self._q_and_targets(batch)
        td_errors = targets - q_taken
        # Not the Huber loss of SB3's DQN: beyond 1 it fits the median of the targets, so that rare ends of episodes
        # are outvoted (docs/stability.md); the gradient's norm is clipped anyway
        squares = td_errors.square() if batch.weights is None else td_errors.square() * batch.weights.unsqueeze(1)
        loss = 0.5 * masked_mean(squares, batch.learning)
        if self._offline is not None and self._offline.conservative_weight > 0:
            gap = masked_mean(conservative_gaps(q_online, batch.actions), batch.learning)
            loss = loss + self._offline.conservative_weight * gap
            self.logger.record_mean("train/conservative_gap", gap.item())
        figures = training_figures(loss, td_errors, q_taken, batch)
        if not np.isfinite(figures["loss"]):
            raise ValueError(
                f"The loss became {figures['loss']} after {self._n_updates} updates; the weights are as they were "
                "before this update. Look at train/q_mean and train/td_error, lower the learning rate, or scale "
                "the rewards (VecNormalize) or the values (value_rescaling=True)."
            )
        self.policy.optimizer.zero_grad()
        loss.backward()
        grad_norm = th.nn.utils.clip_grad_norm_(self.q_net.parameters(), self.max_grad_norm, error_if_nonfinite=True)
        self.policy.optimizer.step()
        self._n_trained_steps += int(figures.pop("n_steps"))
        figures["grad_norm"] = grad_norm.item()
        if self.replay_buffer.is_prioritized:
            priorities = sequence_priorities(td_errors.detach(), batch.learning, self.replay_buffer.priority_eta)
            self.replay_buffer.update_priorities(batch.drawn, priorities.cpu().numpy())
            figures["priority_max_over_mean"] = (priorities.max() / priorities.mean().clamp(min=1e-9)).item()
        for name, figure in figures.items():
            self.logger.record_mean(f"train/{name}", figure)

    def _q_and_targets(self, batch: SequenceSamples) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        :param batch: B windows of T steps
        :return: (B, T) Q-values of the actions taken, with gradient, (B, T) their targets, and (B, T, A) those of all
            actions, with gradient; all mean something where ``batch.learning`` is True
        """
        state = self.q_net.burn_in(batch.burn_in, self._begin(self.q_net, batch))
        if self.refresh_states and batch.burn_in is not None:
            assert self.replay_buffer is not None
            self.replay_buffer.refresh_states(batch.drawn, state, batch.burn_in.present.any(dim=1).cpu().numpy())
        q_online = self.q_net.unroll(batch.window, state)
        with th.no_grad():
            target_state = self.q_net_target.burn_in(batch.burn_in, self._begin(self.q_net_target, batch))
            q_target = self.q_net_target.unroll(batch.window, target_state)
            values = bootstrap_values(q_online.detach(), q_target, self.double_q)
            n_step = n_step_returns(batch.rewards, batch.transitions, batch.terminals, self.gamma, self.n_steps)
            targets = td_targets(n_step, values, self.value_rescaling)
        return q_online.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1), targets, q_online

    def _record_delta_q(self, batch: SequenceSamples) -> None:
        """Log how far the states that the batch begins from put its Q-values out."""
        assert self.replay_buffer is not None
        longer = self.replay_buffer.read_with_history(batch.drawn, MAX_HISTORY, self._vec_normalize_env)
        with th.no_grad():
            q_replayed, q_true = (
                self.q_net.unroll(x.window, self.q_net.burn_in(x.burn_in, self._begin(self.q_net, x)))
                for x in (batch, longer)
            )
        # A window at the end of a closed tape may hold a final observation and nothing to learn from
        there = batch.learning.any(dim=1)
        first, last = delta_q(q_replayed[there], q_true[there], batch.learning[there])
        self.logger.record_mean("train/delta_q_first", first.mean().item())
        self.logger.record_mean("train/delta_q_last", last.mean().item())

    def _stored(self, state: MemoryState) -> MemoryState:
        """:return: what the replay buffer stores of a state"""
        return state if self.state_init == "stored" else ()

    def _begin(self, q_net: RecurrentQNetwork, batch: SequenceSamples) -> MemoryState:
        """:return: the state before the first frame of each sequence; tensors (B, ...)"""
        return batch.state if self.state_init == "stored" else q_net.memory.initial_state(len(batch.actions))

    def learn(
        self: SelfRecurrentDQN,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "RecurrentDQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfRecurrentDQN:
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
        :return: the model
        :raises ValueError: when the buffer is empty, or a number makes no sense
        """
        warn_of_threads(self.q_net, self.device)
        run_offline(self, updates, callback, conservative_weight, log_interval, tb_log_name, progress_bar)
        return self

    # Saving

    def load_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        Load a replay buffer, also one that was filled by another number of environments. The next ``learn`` begins with
        an episode.

        :param path: what ``save_replay_buffer`` wrote
        :param truncate_last_traj: not used: the newest transition keeps its successor
        :raises ValueError: when the file holds another kind of buffer, or one for other sequences
        """
        before = self.replay_buffer
        try:
            super().load_replay_buffer(path, truncate_last_traj)
            buffer = check_loaded(self, self.replay_buffer, path)
            if buffer.n_envs != self.n_envs:
                buffer.change_n_envs(self.n_envs)
        except Exception:
            self.replay_buffer = before
            raise
        self._last_obs = None

    def _excluded_save_params(self) -> list[str]:
        running = ["_memory_state", "_last_obs", "_last_original_obs", "_last_episode_starts", "_step_under_way"]
        return [*super()._excluded_save_params(), *running, "_exploration_rng", "_prediction_rng", "_offline"]
