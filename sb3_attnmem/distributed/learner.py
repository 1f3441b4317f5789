"""The learner: takes chunks in, makes the updates that they allow, and asks for more."""

import copy
import time
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from sb3_attnmem.common.observations import rows_of
from sb3_attnmem.distributed.arrivals import Arrivals
from sb3_attnmem.distributed.executors import Executor, Outcome
from sb3_attnmem.distributed.messages import Chunk, Weights
from sb3_attnmem.distributed.rate import RateLimiter
from sb3_attnmem.distributed.roster import Roster
from sb3_attnmem.dqn_recurrent import RecurrentDQN, statistics_of
from sb3_attnmem.dqn_recurrent.collecting import episodes_begun, set_episodes_begun, weights_of

#: seconds after which a learner that waits looks up
LOOK_UP = 1.0


class Learner:
    """
    The loop of ``learn``, with chunks in the place of rollouts.

    :param model: that learns, and whose counters, log and callbacks say how far it is
    :param executor: where the actors run
    :param roster: what is known of them
    :param limiter: how many updates are due
    :param arrivals: takes chunks in
    :param weights_interval: updates from one publication of the weights to the next
    :param lockstep: take chunks in a fixed order
    :param total_timesteps: environment steps that there shall be
    """

    def __init__(
        self,
        model: RecurrentDQN,
        executor: Executor,
        roster: Roster,
        limiter: RateLimiter,
        arrivals: Arrivals,
        weights_interval: int,
        lockstep: bool,
        total_timesteps: int,
    ) -> None:
        self.model, self.executor, self.roster = model, executor, roster
        self.limiter, self.arrivals = limiter, arrivals
        self.weights_interval, self.lockstep, self.total_timesteps = weights_interval, lockstep, total_timesteps
        self._turn = 0
        self._changes = weights_interval  # since the last publication: the first is due
        self._published: Any = None
        #: of each version of the weights, the updates that were made before
        self._updates_of: list[int] = []
        self._delta_q_at = 0
        #: seconds waited, and the clock when that was 0: at the first chunk, and at each line of the log
        self._waited: float = 0.0
        self._begun: float | None = None

    def run(self, callback: BaseCallback, log_interval: int | None) -> None:
        """
        :param callback: as in ``learn``; it sees a step of as many environments at a time as the model has
        :param log_interval: episodes from one line of the log to the next
        :raises ActorError: when an actor failed too often in a row
        """
        while self.model.num_timesteps < self.total_timesteps:
            chunk = self._next_chunk()
            if chunk is None:
                continue
            callback.on_rollout_start()
            goes_on = self._take_in(chunk, callback, log_interval)
            if not goes_on:
                self._drain(log_interval)
                break
            callback.on_rollout_end()
            if self.roster.max_in_flight > 1:  # actors that had to wait for an update would leave it waiting for them
                self.roster.ask(self.total_timesteps, self._publish)
            self._update()

    def _next_chunk(self) -> Chunk | None:
        """:return: the next experience; None: there is none yet, or an actor failed and begins anew"""
        self.roster.ask(self.total_timesteps, self._publish)
        outcome = self._wait()
        self.roster.fail_those_that_hang()
        if outcome is None or not self.roster.take(outcome):
            return None
        return outcome.chunk

    def _wait(self) -> Outcome | None:
        members, actor = self.roster.members, None
        if self.lockstep:
            while not members[self._turn % len(members)].in_flight:
                self._turn += 1
            actor = self._turn % len(members)
        begun = time.perf_counter()
        outcome = self.executor.wait(actor, LOOK_UP)
        self._waited += time.perf_counter() - begun
        self._turn += outcome is not None
        return outcome

    def _publish(self) -> Any:
        """:return: what stands for the weights to act by now"""
        if self._changes >= self.weights_interval:
            normalize = self.model.get_vec_normalize_env()
            statistics = None if normalize is None else copy.deepcopy(statistics_of(normalize))
            weights = Weights(len(self._updates_of), weights_of(self.model), statistics)
            self._published = self.executor.publish(weights)
            self._updates_of.append(self.model._n_updates)
            self._changes = 0
        return self._published

    def _take_in(self, chunk: Chunk, callback: BaseCallback | None, log_interval: int | None) -> bool:
        """
        Store a chunk, count and log its steps, and tell callbacks of each.

        :param chunk: the next of an actor
        :param callback: None: nobody is told
        :param log_interval: episodes from one line of the log to the next
        :return: whether no callback said that training shall stop
        """
        model, steps = self.model, chunk.steps
        self.arrivals.take(chunk, self.roster.members[chunk.actor])
        set_episodes_begun(model, max(episodes_begun(model), chunk.n_episodes))
        told: dict[tuple[int, int], dict[str, Any]] = {(t, env): info for t, env, info in steps.infos}
        dones, n_envs, goes_on = steps.dones, model.n_envs, True
        self._record(chunk)
        model.gather_weights()  # a target network that counts environment steps moves in `_on_step`
        for t in range(steps.n_steps):
            for first in range(0, dones.shape[1], n_envs):
                rows = slice(first, first + n_envs)
                infos = [told.get((t, env), {}) for env in range(first, first + n_envs)]
                model.num_timesteps += n_envs
                if callback is not None and goes_on:
                    callback.update_locals(
                        {
                            "self": model,
                            "new_obs": rows_of(rows_of(steps.observations, t), rows),
                            "buffer_actions": steps.actions[t, rows],
                            "rewards": steps.rewards[t, rows],
                            "dones": dones[t, rows],
                            "infos": infos,
                        }
                    )
                    goes_on = callback.on_step()
                model._update_info_buffer(infos, dones[t, rows])
                model._update_current_progress_remaining(model.num_timesteps, model._total_timesteps)
                model._on_step()
                for _ in range(int(dones[t, rows].sum())):
                    model._episode_num += 1
                    if log_interval is not None and model._episode_num % log_interval == 0:
                        model.dump_logs()
                        self._begun = None
        return goes_on

    def _record(self, chunk: Chunk) -> None:
        record = self.model.logger.record
        lag = len(self._updates_of) - 1 - chunk.version
        self.model.logger.record_mean("actors/lag_versions", lag)
        self.model.logger.record_mean("actors/lag_updates", self.model._n_updates - self._updates_of[chunk.version])
        self.model.logger.record_mean("actors/steps_per_second", chunk.steps.actions.size / max(chunk.seconds, 1e-9))
        self.model.logger.record_mean("actors/chunk_kilobytes", chunk.steps.nbytes / 1e3)
        record("actors/in_flight", self.roster.n_in_flight)
        record("actors/restarts", self.roster.n_restarts)
        if self._begun is None:  # actors' start does not count
            self._waited, self._begun = 0.0, time.perf_counter()
        else:
            record("actors/learner_waits", self._waited / max(time.perf_counter() - self._begun, 1e-9))
        interval = self.model.delta_q_interval
        if interval and self.model._n_updates - self._delta_q_at >= interval:
            self._delta_q_at = self.model._n_updates
            self._record_delta_q(chunk, lag)

    def _record_delta_q(self, chunk: Chunk, lag: int) -> None:
        """Log how far the stored states of the newest window of each environment put its Q-values out, by lag."""
        buffer = self.model.replay_buffer
        assert buffer is not None and buffer.tapes is not None
        rows = self.roster.members[chunk.actor].rows
        first, last = (bound[rows] for bound in buffer.window_range())
        newest = (buffer.tapes.heads[rows] - buffer.burn_in - buffer.sequence_length) // buffer.state_interval
        drawn = rows, np.clip(newest, first, last)
        batch = buffer.read_with_history(drawn, 0, self.model.get_vec_normalize_env())
        if bool(batch.learning.any()):
            bucket = 2 ** (lag.bit_length() - 1) if lag > 0 else 0
            for name, value in self.model.measure_delta_q(batch).items():
                self.model.logger.record_mean(f"actors/{name}_lag_{bucket}", value)

    def _update(self) -> None:
        model = self.model
        n_updates = self.limiter.due(model.num_timesteps, model._episode_num)
        if n_updates > 0:
            model.make_updates(n_updates, model.batch_size)
        self._changes += max(n_updates, 1)  # statistics change with each chunk

    def _drain(self, log_interval: int | None) -> None:
        """Store what actors are at when a callback stopped: those steps were made."""
        while self.roster.n_in_flight:
            outcome = self._wait()
            self.roster.fail_those_that_hang()
            if outcome is not None and self.roster.take(outcome) and outcome.chunk is not None:
                self._take_in(outcome.chunk, None, log_interval)
