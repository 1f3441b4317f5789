"""Runs with actors, and everything that their environments told."""

from collections.abc import Sequence
from typing import Any
from unittest import mock

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.distributed import learn_with_actors
from sb3_attnmem.dqn_recurrent.collecting import Collector
from sb3_attnmem.replay import Steps
from tests.dqn_recurrent.conformance.reference import (
    States,
    check_rows,
    check_targets,
    disturb,
    every_window,
    learned,
    watch_acting,
)
from tests.ledger import LSTM, Place, Recorder, make_env, make_model

LENGTHS: Sequence[Sequence[int]] = ((5, 3), (17,), (1, 2, 9))


class Run:
    """
    A model that learns with actors in its own process, and all that their environments told.

    :param model_kwargs: of the model
    :param fails_at: actor's how-manieth environments -> the call of ``step`` that raises
    :param kwargs: of ``make_env``
    """

    def __init__(
        self, model_kwargs: dict[str, Any] | None = None, fails_at: dict[int, int] | None = None, **kwargs: Any
    ) -> None:
        self.env_kwargs = dict(lengths=LENGTHS, **kwargs)
        self.fails_at = fails_at or {}
        self.envs: list[Recorder] = []
        self.states: States = {}
        self.model: RecurrentDQN = make_model(
            make_env(first_id=9_000, **self.env_kwargs), policy_kwargs=LSTM, **self.default(model_kwargs)
        )

    @staticmethod
    def default(model_kwargs: dict[str, Any] | None) -> dict[str, Any]:
        return {"burn_in": 4, "n_steps": 3, "buffer_size": 4_000, **(model_kwargs or {})}

    def make_env(self) -> Recorder:
        number = len(self.envs)
        env = make_env(first_id=100 * number, fails_at=self.fails_at.get(number, -1), **self.env_kwargs)
        self.envs.append(env)
        return env

    def learn(self, total_timesteps: int, n_actors: int = 2, **kwargs: Any) -> RecurrentDQN:
        collect = Collector.collect

        def watched(collector: Collector, *args: Any) -> Steps:
            if "step" not in vars(collector.model.q_net):
                watch_acting(collector.model, self.states)  # type: ignore[arg-type]
            return collect(collector, *args)

        with mock.patch.object(Collector, "collect", watched):
            options = {"executor": "serial", "chunk_steps": 7, **kwargs}
            return learn_with_actors(self.model, self.make_env, n_actors, total_timesteps, **options)

    def happened(self) -> set[Place]:
        return {place for env in self.envs for transitions in env.transitions for place in transitions}

    def check(self, lost: frozenset[Place] | set[Place] = frozenset()) -> None:
        """
        The ledger: what the environments did is in the buffer, once, in its order, under the states that they were
        acted on with.

        :param lost: what actors that failed had not handed over
        """
        buffer = self.model.replay_buffer
        assert buffer is not None and buffer.tapes is not None
        episodes = {key: episode for env in self.envs for key, episode in env.episodes.items()}
        for place in sorted(lost, reverse=True):  # the learner never heard of these
            episode = episodes[place[:2]]
            for column in (episode.frames, episode.actions, episode.rewards):
                column.pop()
            episode.end = "cut"
        batch = every_window(self.model)
        check_rows(batch, episodes, self.model.sequence_length)
        stored = learned(batch)
        assert set(stored) == self.happened() - set(lost)
        assert buffer.tapes.n_transitions() == len(stored), "something is stored twice"
        disturb(self.model)
        check_targets(self.model, episodes, self.states, batch)
