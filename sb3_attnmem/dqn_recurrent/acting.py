"""SB3's DQN, acting with a memory: the state it carries from step to step, and where experience is cut."""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, TrainFreq
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.dqn import DQN

from sb3_attnmem.common.observations import check_finite, copy_observation
from sb3_attnmem.dqn_recurrent.arguments import check_numbers
from sb3_attnmem.dqn_recurrent.branches import best_actions
from sb3_attnmem.dqn_recurrent.choosing import ChoosingActions
from sb3_attnmem.dqn_recurrent.exploration import Ladder
from sb3_attnmem.dqn_recurrent.masks import FROM_ENV, FROM_INFO
from sb3_attnmem.dqn_recurrent.normalization import RolloutStatistics, statistics_for
from sb3_attnmem.dqn_recurrent.observation_spaces import check_observation_space
from sb3_attnmem.dqn_recurrent.q_network import RecurrentQNetwork
from sb3_attnmem.dqn_recurrent.rollouts import NOTHING
from sb3_attnmem.dqn_recurrent.traced_step import TracedStep
from sb3_attnmem.dqn_recurrent.watching import WatchedEnv, check_step
from sb3_attnmem.memory import MemoryState
from sb3_attnmem.replay import SequenceReplayBuffer, find_frame_stack, read_episodes, split_actions


class ActingWithMemory(ChoosingActions):
    """
    The side of :class:`~sb3_attnmem.RecurrentDQN` that meets the environment. The memory advances on every step:
    greedy, random and warm-up alike. Epsilon is tossed for each environment. Whatever breaks the chain of observations
    cuts the tapes of the replay buffer.
    """

    q_net: RecurrentQNetwork
    q_net_target: RecurrentQNetwork
    state_init: str
    exploration_ladder: float
    normalize_observations: bool
    normalize_returns: bool
    value_rescaling: bool
    #: the acting memory's state before ``_last_obs``; None: the next ``learn`` begins with an episode
    _memory_state: MemoryState | None = None
    #: True from choosing an action until its transition is stored
    _step_under_way = False
    #: the Q-network's step, and whether it may have changed
    _step: TracedStep
    _refresh_step = True
    #: which episode explores how much, and how many have begun
    _ladder: Ladder
    _n_begun = 0
    #: what the rollout under way has shown, for the normalisation
    _statistics: RolloutStatistics | None = None
    #: ``env``, and what happened to it
    _watched_env: WatchedEnv | None = None
    #: (n_envs, A) bool, the valid actions at ``_last_obs``; None: all are
    _last_valid: np.ndarray | None = None
    #: tapes of the replay buffer, where actors fill it; None: one an environment
    n_tapes: int | None = None
    #: the rollout that a callback stopped, which the next ``learn`` goes on with
    _stopped = NOTHING

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        check_observation_space(env.observation_space)
        return DQN._wrap_env(env, verbose, monitor_wrapper)

    def interrupt(self) -> None:
        """
        Let the next ``learn`` begin with an episode: what the environments go on with does not follow what is stored.
        """
        self._last_obs = None

    def allocate_replay(self) -> MemoryState:
        """
        Make room in the replay buffer, unless there is room already.

        :return: the state that episodes begin with, of every environment
        :raises ValueError: when the buffer holds less than one sequence an environment, needs more than the free RAM,
            or holds transitions that came without the memory's states
        """
        assert self.replay_buffer is not None
        # An initial state may be learned, and the parameter itself
        state = tuple(tensor.detach().clone() for tensor in self.q_net.memory.initial_state(self.n_envs))
        is_new = self.replay_buffer.tapes is None
        if is_new and "frame_stack" not in self.replay_buffer_kwargs:
            self.replay_buffer.frame_stack = find_frame_stack(self.env)
        self.replay_buffer.allocate(self._stored(state))
        if self.mask_source in (FROM_ENV, FROM_INFO) and self.replay_buffer.tapes is not None:
            self.replay_buffer.tapes.add_masks()
        if is_new and self.verbose >= 1 and self.replay_buffer.tapes is not None:
            size = self.replay_buffer.tapes.nbytes / 1e6
            print(f"The replay buffer will take {size:,.0f} MB when full ({self.buffer_size:,} transitions)")
        return state

    def _stored(self, state: MemoryState) -> MemoryState:
        """:return: what the replay buffer stores of a state"""
        return state if self.state_init == "stored" else ()

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        # The last rollout may go beyond the total, where a linear schedule would give a negative learning rate
        self._current_progress_remaining = max(self._current_progress_remaining, 0.0)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Act on ``_last_obs``. The memory advances on every step: greedy, random and warm-up alike."""
        self._step_under_way = True
        if self._watched().was_used:
            self._begin_episodes()
        assert self._last_obs is not None and self._last_episode_starts is not None
        assert self._memory_state is not None and self.replay_buffer is not None
        observations = obs_as_tensor(self._last_obs, self.device)
        starts = th.as_tensor(self._last_episode_starts, device=self.device)
        self.replay_buffer.stage_state(self._stored(self._memory_state))
        with th.no_grad(), self.q_net.noise(self._exploration_rng, self.n_envs, self._last_episode_starts):
            if self._refresh_step:
                self._step.refresh(observations, self._memory_state, starts)
                self._refresh_step = False
            q_values, self._memory_state = self._step(observations, self._memory_state, starts)
        warming_up = self.num_timesteps < learning_starts
        rates = self._ladder.rates(self.exploration_rate, self.exploration_ladder, self._last_episode_starts)
        epsilon = 1.0 if warming_up else rates
        self._last_valid = self._watched().valid
        greedy = best_actions(q_values, self._to_valid(self._last_valid), self.q_net.branches).cpu().numpy()
        numbers = self._explore_on(greedy, epsilon, self._last_valid)
        return split_actions(self.action_space, numbers), numbers

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        watched = self._watched()
        normalized = watched.vec_normalize is not None
        if not normalized:
            check_step(new_obs, reward, watched.raw_finals)
        successors = watched.successors(dones, infos, replay_buffer.handle_timeout_termination)
        first = self._last_original_obs if normalized else self._last_obs
        if watched.masks is not None and self.mask_key is None:
            assert self._last_valid is not None and isinstance(replay_buffer, SequenceReplayBuffer)
            following = watched.masks.successors(dones, infos, replay_buffer.handle_timeout_termination)
            replay_buffer.stage_masks(self._last_valid, following)
        replay_buffer.add(first, successors, buffer_action, watched.raw_rewards, dones, infos)  # type: ignore[arg-type]
        if self._statistics is not None:
            self._statistics.add(first, watched.raw_rewards, dones)
        # The environments may write the next observations where these are
        self._last_obs = new_obs if normalized else watched.raw_observations
        self._last_original_obs = watched.raw_observations
        self._last_episode_starts = dones
        self._step_under_way = False

    def _new_statistics(self) -> RolloutStatistics | None:
        """:return: what gathers for the normalisation; None where nothing is to be normalised"""
        returns = self.normalize_returns and not self.value_rescaling
        return statistics_for(self._vec_normalize_env, self.n_envs, self.gamma, self.normalize_observations, returns)

    def _learn_statistics(self) -> None:
        """Take what a whole rollout has shown into the normalisation, before its updates."""
        if self._statistics is not None:
            self._statistics.hand_over(self.q_net.normalization)

    def normalize_by_replay(self) -> None:
        """Let the normalisation begin with what the replay buffer holds, where it knows nothing yet."""
        assert self.replay_buffer is not None
        statistics = self._new_statistics()
        if statistics is not None and self.q_net.normalization.is_new:
            for part in self.replay_buffer.parts:
                statistics.add_episodes(self.q_net.normalization, read_episodes(part))

    def _watched(self) -> WatchedEnv:
        """:return: the environments, as they are stepped"""
        assert self.env is not None
        if self._watched_env is None or self._watched_env.venv is not self.env:
            self._watched_env = WatchedEnv(self.env)
            self._held = None
        return self._watched_env

    def _begin_episodes(self) -> None:
        """Reset the environments, because somebody else used them: what comes does not follow what is stored."""
        assert self.replay_buffer is not None
        watched = self._watched()
        self._last_obs = copy_observation(watched.reset())
        self._last_episode_starts = np.ones(self.n_envs, dtype=bool)
        if watched.vec_normalize is not None:
            self._last_original_obs = watched.vec_normalize.get_original_obs()
        self._statistics = self._new_statistics()
        self.replay_buffer.cut()
        self._memory_state = self.allocate_replay()

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
        before, self._stopped = self._stopped, NOTHING
        if before.complete(train_freq):
            # A callback stopped at a rollout's last step: the updates that follow it are due
            self._learn_statistics()
            if before.num_timesteps > learning_starts:
                self.train(self.gradient_steps if self.gradient_steps >= 0 else before.steps, self.batch_size)
            before = NOTHING
        watched = self._watched()
        self._refresh_step = True
        with watched.checking():
            rollout = super().collect_rollouts(
                watched,
                callback,
                before.rest_of(train_freq),
                replay_buffer,
                action_noise,
                learning_starts,
                log_interval,
            )
        if not rollout.continue_training:
            n_ended = self._finish_step(callback.locals, replay_buffer, log_interval)
            rollout = rollout._replace(n_episodes=rollout.n_episodes + n_ended)
            self._stopped = before.after(rollout, self.n_envs, self.num_timesteps)
        if rollout.continue_training:
            self._learn_statistics()
        return rollout._replace(episode_timesteps=rollout.episode_timesteps + before.steps)

    def _finish_step(self, step: dict[str, Any], replay_buffer: ReplayBuffer, log_interval: int | None) -> int:
        """
        Count, store and log the step at which a callback stopped, which SB3 drops.

        :param step: SB3's names of what it gave
        :param replay_buffer: where to store it
        :param log_interval: episodes from one line of the log to the next
        :return: episodes that it ended
        """
        self._update_info_buffer(step["infos"], step["dones"])
        self._store_transition(
            replay_buffer, step["buffer_actions"], step["new_obs"], step["rewards"], step["dones"], step["infos"]
        )
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        self._on_step()
        n_ended = int(np.sum(step["dones"]))
        for _ in range(n_ended):
            self._episode_num += 1
            if log_interval is not None and self._episode_num % log_interval == 0:
                self.dump_logs()
        return n_ended

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self.env is None:
            raise ValueError("There is no environment to learn from: call set_env(env) first.")
        if self.replay_buffer is None:
            raise ValueError("The replay buffer was deleted: call load_replay_buffer(path) before learn().")
        check_numbers(vars(self))
        watched = self._watched()
        watched.check_space(self.observation_space)
        n_tapes = self.n_tapes or self.n_envs
        if self.replay_buffer.n_envs != n_tapes:
            self.replay_buffer.change_n_envs(n_tapes)
        self._find_masks()
        state = self.allocate_replay()
        if self._step_under_way or self._memory_state is None:
            # An exception broke a step off, or there is no state that belongs to `_last_obs`
            self.interrupt()
        resets = reset_num_timesteps or self._last_obs is None
        # Until it is known that the reset gave something to go on from
        self._step_under_way = resets
        with watched.checking():
            result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        if resets:
            self._last_obs = copy_observation(self._last_obs)
            if watched.vec_normalize is None:
                check_finite("first observation", self._last_obs)
            self.replay_buffer.cut()
            self._memory_state = state
            self.normalize_by_replay()
            self._statistics = self._new_statistics()
            self._step_under_way = False
            watched.settle()
        self._find_masks()  # the first infos are there now
        watched.read_masks(self.mask_source, self.action_space, self._last_obs, anew=resets)
        if watched.masks is not None:
            self.allocate_replay()
        return result
