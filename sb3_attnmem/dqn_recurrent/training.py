"""SB3's DQN, learning from replayed sequences: gradient steps, what they write back, and the log."""

import time
from typing import Any, ClassVar, NamedTuple

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback, RolloutReturn, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import polyak_update

from sb3_attnmem.dqn_recurrent.acting import ActingWithMemory
from sb3_attnmem.dqn_recurrent.arguments import check_learning_rate, check_numbers
from sb3_attnmem.dqn_recurrent.metrics import MAX_HISTORY
from sb3_attnmem.dqn_recurrent.update import GradientStep, QAndTargets, StepResult
from sb3_attnmem.replay import SequenceSamples


class OnlineCounters(NamedTuple):
    """
    What SB3 counts in ``learn``; ``learn_offline`` counts updates in its place.

    :param num_timesteps: environment steps that were made
    :param total_timesteps: that shall be
    :param progress_remaining: from 1 to 0
    """

    num_timesteps: int
    total_timesteps: int
    progress_remaining: float


class Pace(NamedTuple):
    """
    How often a model learns.

    :param updates: that are due each time
    :param every: transitions of all environments together, or episodes, from one time to the next
    :param in_episodes: whether these are episodes
    """

    updates: int
    every: int
    in_episodes: bool = False


class TrainingOnSequences(ActingWithMemory):
    """
    The side of :class:`~sb3_attnmem.RecurrentDQN` that learns. :mod:`sb3_attnmem.dqn_recurrent.update` computes; what
    it computed is written back and logged here.
    """

    gradient_step_class: ClassVar[type[GradientStep]] = GradientStep
    watkins_tolerance: float
    double_q: bool
    value_rescaling: bool
    refresh_states: bool
    delta_q_interval: int
    target_update_unit: str
    #: transitions, of all environments, from one update to the next; None: ``train_freq`` counts something else
    _transitions_per_update: int | None = None
    #: environment steps at the updates before
    _num_timesteps_at_train = 0
    #: of the online and of the target network, see :meth:`gather_weights`
    _weights: tuple[list[th.Tensor], list[th.Tensor]] = ([], [])
    #: learning steps that updates were computed from, for the replay ratio
    _n_trained_steps = 0
    #: updates that were made before this ``learn``
    _n_updates_at_start = 0
    #: updates that the last ``learn_offline`` has made, and that it shall make
    _offline_done = 0
    _offline_total = 0
    #: what belongs to the environment, while ``learn_offline`` runs
    _online_counters: OnlineCounters | None = None

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        self._n_updates_at_start = self._n_updates
        if reset_num_timesteps:
            self._n_trained_steps = 0
            self._num_timesteps_at_train = 0
        return result

    def _convert_train_freq(self) -> None:
        if not isinstance(self.train_freq, TrainFreq):
            in_transitions = isinstance(self.train_freq, tuple) and self.train_freq[1] == "transition"
            self._transitions_per_update = self.train_freq[0] if in_transitions else None  # type: ignore[index]
        if self._transitions_per_update is not None:
            # As many steps of all environments as come nearest; what is left over is made up for in train()
            calls = max(round(self._transitions_per_update / self.n_envs), 1)
            self.train_freq = TrainFreq(calls, TrainFrequencyUnit.STEP)  # type: ignore[assignment]
        super()._convert_train_freq()

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        if self.target_update_unit == "steps":
            self.gather_weights()
        return super().collect_rollouts(*args, **kwargs)

    def _on_step(self) -> None:
        self._n_calls += 1
        if self.target_update_unit == "steps":
            every = max(self.target_update_interval // self.n_envs, 1)  # calls, of n_envs steps each
            if self._n_calls % every == 0:
                self.update_target()
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def gather_weights(self) -> None:
        """Look up the weights for :meth:`update_target`: looking for them at each step takes longer than updating."""
        self._weights = list(self.q_net.parameters()), list(self.q_net_target.parameters())

    def update_target(self) -> None:
        """Move the target network towards the online network, by a share of ``tau``."""
        online, target = self._weights
        with th.no_grad():
            th._foreach_lerp_(target, online, self.tau)  # SB3's polyak_update, in one call instead of three a tensor
        polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """
        Make gradient steps at the pace of environment steps, and log how the two compare.

        :param gradient_steps: number of updates
        :param batch_size: sequences an update
        :raises ValueError: when the loss is not finite; the weights are left as they were
        """
        self.make_updates(gradient_steps * self._rollouts_due(), batch_size)

    def make_updates(self, n_updates: int, batch_size: int) -> None:
        """
        Make updates that are due, and log how they compare with environment steps.

        :param n_updates: updates
        :param batch_size: sequences an update
        :raises ValueError: when the loss is not finite; the weights are left as they were
        """
        self._num_timesteps_at_train = self.num_timesteps
        target_interval = self.target_update_interval if self.target_update_unit == "updates" else 0
        self.update(n_updates, batch_size, target_interval)
        self.logger.record("train/return_scale", self.q_net.normalization.returns.deviation.item())
        self.logger.record("train/replay_ratio", self._n_trained_steps / max(self.num_timesteps, 1))
        seconds = max((time.time_ns() - self.start_time) / 1e9, 1e-9)
        self.logger.record("time/updates_per_second", (self._n_updates - self._n_updates_at_start) / seconds)

    def _rollouts_due(self) -> int:
        """:return: how often ``gradient_steps`` updates are due, one time where ``train_freq`` counts no transitions"""
        every = self._transitions_per_update
        if every is None:
            return 1
        since = max(self._num_timesteps_at_train, self.learning_starts)
        self._num_timesteps_at_train = self.num_timesteps
        return self.num_timesteps // every - since // every

    def pace(self) -> Pace:
        """:return: how many updates ``learn`` makes, and after how much experience"""
        if self.gradient_steps < 0:  # as many as steps were collected
            return Pace(1, 1)
        if self._transitions_per_update is not None:
            return Pace(self.gradient_steps, self._transitions_per_update)
        self._convert_train_freq()
        frequency: TrainFreq = self.train_freq  # type: ignore[assignment]
        if frequency.unit == TrainFrequencyUnit.EPISODE:
            return Pace(self.gradient_steps, frequency.frequency, in_episodes=True)
        return Pace(self.gradient_steps, frequency.frequency * self.n_envs)

    def update(
        self, gradient_steps: int, batch_size: int, target_interval: int = 0, conservative_weight: float = 0.0
    ) -> None:
        """
        Make gradient steps from what the replay buffer holds, and log their metrics. Nothing here knows of environment
        steps.

        :param gradient_steps: number of updates
        :param batch_size: sequences an update
        :param target_interval: updates from one update of the target network to the next; 0: leave it alone
        :param conservative_weight: of the conservative term (Kumar et al., 2020); 0 leaves it out
        :raises ValueError: when the loss, the gradient, or a number that a schedule or somebody set since the beginning
            is not finite; the weights are left as they were
        """
        assert self.replay_buffer is not None
        check_numbers(vars(self), ("gamma", "tau", "max_grad_norm"))
        check_learning_rate(self.lr_schedule(self._current_progress_remaining))
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        self.replay_buffer.anneal(1.0 - self._current_progress_remaining)
        self.replay_buffer.mask_key = self.mask_key
        step = self._gradient_step(conservative_weight)
        if target_interval:
            self.gather_weights()
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            if self.delta_q_interval and self._n_updates % self.delta_q_interval == 0:
                self._record_delta_q(batch)
            self._write_back(batch, step(batch, self._n_updates))
            self._n_updates += 1
            if target_interval and self._n_updates % target_interval == 0:
                self.update_target()
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _gradient_step(self, conservative_weight: float = 0.0) -> GradientStep:
        buffer = self.replay_buffer
        assert buffer is not None
        return self.gradient_step_class(
            self.q_net,
            self.q_net_target,
            self.policy.optimizer,
            gamma=self.gamma,
            n_steps=self.n_steps,
            watkins_tolerance=self.watkins_tolerance,
            double_q=self.double_q,
            value_rescaling=self.value_rescaling,
            max_grad_norm=self.max_grad_norm,
            stored_states=self.state_init == "stored",
            priority_eta=buffer.priority_eta if buffer.is_prioritized else None,
            conservative_weight=conservative_weight,
            noise=self._exploration_rng,
        )

    def _write_back(self, batch: SequenceSamples, result: StepResult) -> None:
        """Store what a gradient step found out about its batch, and log its metrics."""
        assert self.replay_buffer is not None
        self._n_trained_steps += result.n_steps
        if self.refresh_states and batch.burn_in is not None:
            warmed = batch.burn_in.present.any(dim=1).cpu().numpy()
            self.replay_buffer.refresh_states(batch.drawn, result.states, warmed)
        if result.priorities is not None:
            self.replay_buffer.update_priorities(batch.drawn, result.priorities)
        for name, metric in result.metrics.items():
            self.logger.record_mean(f"train/{name}", metric)

    def _q_and_targets(self, batch: SequenceSamples) -> QAndTargets:
        """:return: Q-values of a batch and their targets, as an update would have them"""
        return self._gradient_step().q_and_targets(batch)

    def _record_delta_q(self, batch: SequenceSamples) -> None:
        """Log how far the states that the batch begins from put its Q-values out."""
        for name, metric in self.measure_delta_q(batch).items():
            self.logger.record_mean(f"train/{name}", metric)

    def measure_delta_q(self, batch: SequenceSamples) -> dict[str, float]:
        """
        Measure how far the states that a batch begins from put its Q-values out.

        :param batch: of this model's replay buffer
        :return: name -> mean ΔQ (Kapturowski et al., 2019, section 3) at the first and the last learning step
        """
        assert self.replay_buffer is not None
        longer = self.replay_buffer.read_with_history(batch.drawn, MAX_HISTORY, self._vec_normalize_env)
        return self._gradient_step().measure_delta_q(batch, longer)
