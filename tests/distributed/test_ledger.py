"""What environments of actors did, against what the replay buffer holds: conformance over the distributed path."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback

from sb3_attnmem.distributed import ActorError, actor, arrivals, learn_with_actors
from sb3_attnmem.replay import Recorder, Standing, Steps
from tests.distributed.runs import Run
from tests.dqn_recurrent.conformance.stories import StopsAt
from tests.dqn_recurrent.worlds import World, make_learner, make_world
from tests.ledger import place_of


@pytest.mark.parametrize("ends", [("terminated", "truncated"), ("truncated",), ("terminated",)])
@pytest.mark.parametrize("n_actors, chunk_steps, in_flight", [(1, 1, 1), (3, 7, 2)])
def test_every_transition_is_stored_once(ends: Any, n_actors: int, chunk_steps: int, in_flight: int) -> None:
    run = Run(ends=ends)
    run.learn(n_actors * 3 * 40, n_actors, chunk_steps=chunk_steps, chunks_in_flight=in_flight)
    assert len(run.happened()) == run.model.num_timesteps == n_actors * 3 * 40
    run.check()


def test_a_total_that_no_chunk_divides() -> None:
    run = Run()
    run.learn(100)
    assert run.model.num_timesteps == len(run.happened()) == 102  # three environments step together
    run.check()


def test_an_actor_that_fails_loses_its_chunks_and_the_chain_is_cut() -> None:
    run = Run(fails_at={1: 30})  # in its third environment, in the middle of the fifth chunk
    with pytest.warns(UserWarning, match="Actor 1 failed and begins anew .*told to fail"):
        run.learn(2 * 3 * 60)
    assert len(run.envs) == 3
    failed = run.envs[1]
    lost = {place for transitions in failed.transitions for place in transitions[28:]}
    assert len(lost) == 3
    run.check(lost)


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_an_environment_that_gives_nan_is_named(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    step = World.step

    def broken(world: World, action: int) -> Any:
        observation, reward, *rest = step(world, action)
        if what == "observation":
            return np.full_like(observation, np.nan), reward, *rest
        return observation, float("nan"), *rest

    monkeypatch.setattr(World, "step", broken)
    model = make_learner()
    told = rf"(?s)Actor \d failed 4 times.*The {what} of environment.* is not finite"
    with pytest.warns(UserWarning, match="begins anew"), pytest.raises(ActorError, match=told):
        learn_with_actors(model, make_world, 2, 400, executor="serial", chunk_steps=8)
    assert model.replay_buffer is not None and model.replay_buffer.size() == 0


def test_an_actor_that_keeps_failing_raises_with_its_own_traceback() -> None:
    run = Run(fails_at={1: 9, 2: 1, 3: 1})
    with pytest.raises(ActorError, match=r"(?s)Actor 1 failed 3 times in a row.*in step.*told to fail"):
        with pytest.warns(UserWarning, match="begins anew"):
            run.learn(2 * 3 * 60, max_failures=2)
    before = len(run.happened())
    run.learn(60, reset_num_timesteps=False)
    assert len(run.happened()) == before + 60


def test_a_callback_that_stops_loses_nothing() -> None:
    run = Run()
    run.learn(2 * 3 * 60, callback=StopsAt(11))
    assert run.model.num_timesteps == len(run.happened()) == 5 * 7 * 3  # two chunks, and three in flight
    run.check()


def test_learning_again_cuts() -> None:
    run = Run()
    run.learn(2 * 3 * 20)
    run.learn(2 * 3 * 20)
    run.learn(2 * 3 * 20, reset_num_timesteps=False)
    assert run.model.num_timesteps == 2 * 3 * 40
    run.check()
    own = run.make_env()
    run.model.set_env(own)
    run.model.learn(3 * 20, reset_num_timesteps=False)  # the model's own environments, on tapes of their own number
    assert run.model.replay_buffer is not None and run.model.replay_buffer.n_envs == 3


def test_callbacks_see_every_step_in_order() -> None:
    seen: list[tuple[int, list[float]]] = []

    class Look(BaseCallback):
        def _on_step(self) -> bool:
            seen.append((self.num_timesteps, self.locals["rewards"].tolist()))
            assert {"dones", "infos", "new_obs"} <= self.locals.keys() and len(self.locals["infos"]) == 3
            return True

    run = Run()
    run.learn(2 * 3 * 21, callback=Look())
    assert [steps for steps, _ in seen] == list(range(3, 2 * 3 * 21 + 1, 3))
    told = Counter(round(reward, 5) for _, rewards in seen for reward in rewards)
    happened = Counter(round(r, 5) for env in run.envs for one in env.episodes.values() for r in one.rewards)
    assert told == happened


def _forgets_finals(steps: Steps) -> Steps:
    return steps._replace(truncated=steps.truncated & False, terminated=steps.dones)


def _shifts_rewards(steps: Steps) -> Steps:
    return steps._replace(rewards=np.roll(steps.rewards, 1, axis=0))


def _swaps_environments(steps: Steps) -> Steps:
    return steps._replace(actions=steps.actions[:, ::-1].copy())


def _zeroes_states(steps: Steps) -> Steps:
    return steps._replace(states=tuple(np.zeros_like(state) for state in steps.states))


@pytest.mark.parametrize("mistake", [_forgets_finals, _shifts_rewards, _swaps_environments, _zeroes_states])
def test_planted_mistakes_of_transport_are_caught(mistake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Recorder.take
    monkeypatch.setattr(Recorder, "take", lambda self, standing: mistake(take(self, standing)))
    run = Run()
    with pytest.raises((AssertionError, ValueError)):
        run.learn(2 * 3 * 40)
        run.check()


def test_a_chain_that_is_joined_over_a_failure_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: what a new actor sends goes on where the one before it stood."""
    append = arrivals.append_steps
    stood: dict[int, Standing] = {}

    def joins(tapes: Any, rows: Any, steps: Steps, standing: Standing) -> Any:
        slots, after = append(tapes, rows, steps, standing)
        stood[int(rows[0])] = after
        return slots, after

    monkeypatch.setattr(arrivals, "append_steps", joins)
    run = Run(fails_at={1: 30})
    model_buffer = run.model.replay_buffer
    assert model_buffer is not None
    monkeypatch.setattr(model_buffer, "cut", lambda which=None: None)
    with pytest.warns(UserWarning, match="begins anew"), pytest.raises((AssertionError, ValueError)):
        run.learn(2 * 3 * 60)
        lost = {place for transitions in run.envs[1].transitions for place in transitions[28:]}
        run.check(lost)


def test_the_global_generators_are_left_alone() -> None:
    with actor.kept_generators():
        np.random.seed(0)
        run = Run()
        before = np.random.get_state()[1].copy()  # type: ignore[union-attr,index]
        run.learn(2 * 3 * 20, callback=None)
        assert (np.random.get_state()[1] == before).all()  # type: ignore[index]


def test_frames_say_where_they_belong() -> None:
    """The recorder's own test: an observation that came from padding would raise."""
    run = Run()
    run.learn(2 * 3 * 7)
    assert all(place_of(frame).step == 0 for env in run.envs for frame in [env.episodes[min(env.episodes)].frames[0]])
