"""SB3's DQN, acting with a memory: the state it carries from step to step, and where experience is cut."""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import MaybeCallback, RolloutReturn, TrainFreq
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.dqn import DQN

from sb3_attnmem.dqn_recurrent.arguments import check_finite
from sb3_attnmem.dqn_recurrent.exploration import explore, ladder, own_generators
from sb3_attnmem.dqn_recurrent.policies import RecurrentDQNPolicy
from sb3_attnmem.dqn_recurrent.q_network import RecurrentQNetwork
from sb3_attnmem.memory import MemoryState
from sb3_attnmem.replay import SequenceReplayBuffer, find_frame_stack


class ActingWithMemory(DQN):
    """
    The side of :class:`~sb3_attnmem.RecurrentDQN` that meets the environment. The memory advances on every step:
    greedy, random and warm-up alike. Epsilon is tossed for each environment. Whatever breaks the chain of observations
    cuts the tapes of the replay buffer.
    """

    policy: RecurrentDQNPolicy
    q_net: RecurrentQNetwork
    q_net_target: RecurrentQNetwork
    replay_buffer: SequenceReplayBuffer | None
    state_init: str
    exploration_ladder: float
    target_update_unit: str
    #: the acting memory's state before ``_last_obs``; None: the next ``learn`` begins with an episode
    _memory_state: MemoryState | None = None
    #: True from choosing an action until its transition is stored
    _step_under_way = False

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
        if is_new and self.verbose >= 1 and self.replay_buffer.tapes is not None:
            size = self.replay_buffer.tapes.nbytes / 1e6
            print(f"The replay buffer will take {size:,.0f} MB when full ({self.buffer_size:,} transitions)")
        return state

    def _stored(self, state: MemoryState) -> MemoryState:
        """:return: what the replay buffer stores of a state"""
        return state if self.state_init == "stored" else ()

    def set_random_seed(self, seed: int | None = None) -> None:
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
        """:return: (B,) actions, of which a share of ``epsilon`` is random"""
        return explore(greedy, epsilon, int(self.action_space.n), rng)  # type: ignore[attr-defined]

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
        epsilon = (
            1.0
            if self.num_timesteps < learning_starts
            else ladder(self.exploration_rate, self.exploration_ladder, self.n_envs)
        )
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
        state = self.allocate_replay()
        if self._step_under_way or self._memory_state is None:
            # An exception broke a step off, or there is no state that belongs to `_last_obs`
            self.interrupt()
        resets = reset_num_timesteps or self._last_obs is None
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        if resets:
            self.replay_buffer.cut()
            self._memory_state = state
            self._step_under_way = True  # until it is known that the reset gave something to go on from
            check_finite("first observation", self._last_obs)  # type: ignore[arg-type]
            self._step_under_way = False
        return result
