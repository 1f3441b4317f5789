"""Learning from actors, in this process: what it is equal to, what it keeps to, and how it goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from sb3_attnmem import PrioritizedSequenceReplayBuffer, RecurrentDQN, ResumableCheckpoint, load_checkpoint, steps_left
from sb3_attnmem.distributed import learn_with_actors, learner, learning
from sb3_attnmem.distributed.executors import Outcome, SerialExecutor
from sb3_attnmem.distributed.failures import ActorSetupError
from sb3_attnmem.distributed.learner import Learner
from sb3_attnmem.distributed.messages import Beginning, Request
from sb3_attnmem.distributed.rate import RateLimiter
from sb3_attnmem.dqn_recurrent.training import Pace
from tests.distributed.runs import Run
from tests.dqn_recurrent.conformance.reference import check_targets, disturb, every_window, watch_acting
from tests.dqn_recurrent.conformance.stories import RaisesAt
from tests.dqn_recurrent.conformance.test_masks import check_stored, ledgers
from tests.dqn_recurrent.worlds import make_learner, make_world
from tests.ledger import LSTM, Recorder, make_model, valid_at


def stacked() -> VecEnv:
    return VecFrameStack(make_world(), 3)


Case = tuple[Callable[[], VecEnv], dict[str, Any]]
CASES: dict[str, Case] = {
    "plain": (make_world, dict(gradient_steps=2)),
    "dict": (lambda: make_world("dict"), dict(policy="MultiInputPolicy")),
    "normalised": (make_world, dict(normalize_observations=True, normalize_returns=True, target_update_unit="updates")),
    "frames": (stacked, dict(normalize_observations=True, exploration_ladder=7.0)),
    "priorities": (
        make_world,
        dict(replay_buffer_class=PrioritizedSequenceReplayBuffer, train_freq=(16, "transition"), delta_q_interval=1),
    ),
}


@pytest.mark.parametrize("chunks_in_flight", [1, 2, 3])
def test_actors_have_work_while_updates_are_made(chunks_in_flight: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one chunk in flight there is no lag, so that they wait; with more, all that they may have."""
    seen: set[int] = set()
    make_updates = RecurrentDQN.make_updates

    def watched(model: RecurrentDQN, *args: Any) -> None:
        seen.add(learners[0].roster.n_in_flight)
        make_updates(model, *args)

    def kept(learner: Learner, *args: Any) -> None:
        learners.append(learner)
        run(learner, *args)

    learners: list[Learner] = []
    run = Learner.run
    monkeypatch.setattr(Learner, "run", kept)
    monkeypatch.setattr(RecurrentDQN, "make_updates", watched)
    model = make_learner(make_world(), train_freq=8)
    options = dict(executor="serial", chunk_steps=8, chunks_in_flight=chunks_in_flight)
    learn_with_actors(model, make_world, 2, 400, **options)  # type: ignore[arg-type]
    assert max(seen) == (1 if chunks_in_flight == 1 else 2 * chunks_in_flight)


@pytest.mark.parametrize(
    ("train_freq", "samples_per_insert", "chunk_steps"),
    [
        ((32, "transition"), None, 32),
        ((640, "transition"), None, 40),
        (4, None, 32),
        (4, 16 / 640, 40),
        ((9, "episode"), None, 32),
    ],
)
def test_chunks_are_long_enough_to_be_made_while_updates_are(
    train_freq: Any, samples_per_insert: float | None, chunk_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two chunks of two actors with four environments hold the transitions of an update, or of many."""
    asked: list[int] = []
    submit = SerialExecutor.submit

    def noted(executor: SerialExecutor, request: Request, published: Any) -> None:
        asked.append(request.n_steps)
        submit(executor, request, published)

    monkeypatch.setattr(SerialExecutor, "submit", noted)
    model = make_learner(make_world(), train_freq=train_freq, batch_size=2, sequence_length=8, buffer_size=4_000)
    n_actors = 8 // model.n_envs
    learn_with_actors(model, make_world, n_actors, 2_000, executor="serial", samples_per_insert=samples_per_insert)
    assert asked[0] == chunk_steps


@pytest.mark.parametrize("case", CASES)
def test_one_actor_without_lag_is_learn(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: whatever an actor, the transport or the learner would do in another way would show."""
    make_env, kwargs = CASES[case]
    options: dict[str, Any] = {"target_update_interval": 24, "train_freq": 8, "buffer_size": 600, **kwargs}
    alone = make_learner(make_env(), **options).learn(160)
    # The actor's generators are those that the model has in a single process
    monkeypatch.setattr(
        learning, "_beginnings", lambda *_: lambda actor, incarnation: Beginning(0, 0, np.zeros(2, np.int64))
    )
    model = make_learner(make_env(), **options)
    learn_with_actors(model, make_env, 1, 160, executor="serial", chunk_steps=8, chunks_in_flight=1, weights_interval=1)
    assert alone._n_updates == model._n_updates > 8
    for (name, one), other in zip(alone.policy.state_dict().items(), model.policy.state_dict().values(), strict=True):
        assert th.equal(one, other), name
    assert alone.replay_buffer is not None and model.replay_buffer is not None
    for one, other in zip(alone.replay_buffer.tapes.arrays(), model.replay_buffer.tapes.arrays(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("told", ["env", "info", "key"])
def test_masks_travel(told: str) -> None:
    made: list[Recorder] = []

    def make_env() -> VecEnv:
        made.append(Recorder(ledgers(told)) if told != "key" else ledgers(told))  # type: ignore[arg-type]
        return made[-1]

    policy = dict(memory_kwargs=dict(hidden_size=6)) if told == "key" else LSTM
    if told == "key":
        model = make_learner(make_env(), "MultiInputPolicy", policy_kwargs=policy)
    else:
        options = dict(policy_kwargs=LSTM, learning_starts=30, gradient_steps=0, n_steps=2, burn_in=4, buffer_size=900)
        model = make_model(make_env(), **options)  # type: ignore[arg-type]
    learn_with_actors(model, make_env, 1, 3 * 60, executor="serial", chunk_steps=9)  # the ledger raises
    assert model.mask_source == ("action_mask" if told == "key" else told)
    if told != "key":
        disturb(model)
        batch = every_window(model)
        check_stored(batch)


def test_targets_behind_masks_are_right() -> None:
    made: list[Recorder] = []
    states: dict[Any, Any] = {}
    from sb3_attnmem.dqn_recurrent.collecting import Collector

    collect = Collector.collect

    def make_env() -> VecEnv:
        made.append(Recorder(ledgers("env")))
        return made[-1]

    def watched(collector: Collector, *args: Any) -> Any:
        if "step" not in vars(collector.model.q_net):
            watch_acting(collector.model, states)  # type: ignore[arg-type]
        return collect(collector, *args)

    options: dict[str, Any] = dict(policy_kwargs=LSTM, gradient_steps=0, n_steps=2, burn_in=4, buffer_size=900)
    model = make_model(make_env(), **options)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Collector, "collect", watched)
        learn_with_actors(model, make_env, 1, 3 * 60, executor="serial", chunk_steps=9)
    disturb(model)
    check_targets(model, made[1].episodes, states, valid_at=valid_at)


def test_vec_normalize_learns_from_what_actors_see() -> None:
    seen: list[VecNormalize] = []

    def make_env() -> VecEnv:
        seen.append(VecNormalize(make_world(), gamma=0.9))
        return seen[-1]

    model = make_learner(make_env(), gamma=0.9)
    learn_with_actors(model, make_env, 2, 160, executor="serial", chunk_steps=8, weights_interval=1)
    own = model.get_vec_normalize_env()
    assert own is not None and own is seen[0]
    tapes = model.replay_buffer.tapes  # type: ignore[union-attr]
    assert tapes is not None
    acted_on = tapes.observations[np.isin(tapes.kinds, (1, 2))]  # type: ignore[index]
    assert len(acted_on) == 160
    everything = np.concatenate([own.get_original_obs(), acted_on])  # its own reset as well
    np.testing.assert_allclose(own.obs_rms.mean, everything.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(own.obs_rms.var, everything.var(axis=0), atol=1e-3)
    assert own.ret_rms.count == pytest.approx(160, abs=1) and own.ret_rms.var > 1e3
    for actor in seen[1:]:
        assert not actor.training and actor.obs_rms.count > 60, "what the learner knew at the last publication"


def test_at_most_two_chunks_of_an_actor_are_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    flying, most = [0, 0, 0], [0, 0, 0]
    submit, wait = SerialExecutor.submit, SerialExecutor.wait

    def counted(executor: Any, request: Any, published: Any) -> None:
        flying[request.actor] += 1
        most[request.actor] = max(most[request.actor], flying[request.actor])
        submit(executor, request, published)

    def taken(executor: Any, actor: int | None, seconds: float) -> Outcome | None:
        outcome = wait(executor, actor, seconds)
        if outcome is not None:
            flying[outcome.actor] -= 1
        return outcome

    monkeypatch.setattr(SerialExecutor, "submit", counted)
    monkeypatch.setattr(SerialExecutor, "wait", taken)
    Run().learn(3 * 3 * 60, n_actors=3)
    assert most == [2, 2, 2] and flying == [0, 0, 0]


def test_samples_an_insert() -> None:
    model = make_learner(make_world(), batch_size=4, sequence_length=4, learning_starts=16)
    learn_with_actors(model, make_world, 2, 176, executor="serial", chunk_steps=5, samples_per_insert=2.0)
    assert model._n_updates == (176 - 16) * 2 // (4 * 4)


@pytest.mark.parametrize(
    "pace, since, counts, expected",
    [
        (Pace(1, 32), 100, [(96, 0), (128, 0), (160, 0), (256, 0)], [0, 1, 1, 3]),
        (Pace(2, 10), 0, [(5, 0), (25, 0), (29, 0), (30, 0)], [0, 4, 0, 2]),
        (Pace(3, 2, in_episodes=True), 10, [(8, 2), (20, 3), (30, 4), (40, 9)], [0, 0, 3, 6]),
    ],
)
def test_updates_that_are_due(pace: Pace, since: int, counts: list[tuple[int, int]], expected: list[int]) -> None:
    limiter = RateLimiter(pace, since)
    assert [limiter.due(*count) for count in counts] == expected


def test_what_is_due_does_not_depend_on_the_size_of_chunks() -> None:
    fine, coarse = (RateLimiter(Pace(1, 7), 50, samples_per_insert=3.7, samples_per_update=16) for _ in range(2))
    assert sum(fine.due(n, 0) for n in range(1, 1_001)) == sum(coarse.due(n, 0) for n in (3, 49, 300, 1_000)) > 200


def test_a_learner_that_dies_goes_on(tmp_path: Path) -> None:
    run = Run(model_kwargs=dict(learning_starts=20, train_freq=20))
    checkpoints = ResumableCheckpoint(tmp_path, save_freq=60)
    with pytest.raises(RuntimeError, match="told to fail"):
        run.learn(2 * 3 * 60, callback=[checkpoints, RaisesAt(60)])
    run.model = load_checkpoint(RecurrentDQN, tmp_path, run.make_env())
    assert run.model.replay_buffer is not None and run.model.replay_buffer.n_envs == 6, "nothing is moved twice"
    at, stored = run.model.num_timesteps, run.model.replay_buffer.tapes.n_transitions()
    assert 60 <= at == stored < 180
    before = {place for env in run.envs for place in _stored(run)}
    run.learn(steps_left(run.model), callback=ResumableCheckpoint(tmp_path, 60), reset_num_timesteps=False)
    assert run.model.num_timesteps == 2 * 3 * 60 == run.model.replay_buffer.tapes.n_transitions()
    run.check(run.happened() - before - {place for env in run.envs[3:] for one in env.transitions for place in one})


def _stored(run: Run) -> set[Any]:
    from tests.dqn_recurrent.conformance.reference import learned

    return set(learned(every_window(run.model)))


@pytest.mark.parametrize("n_actors", [1, 3])
def test_the_log_says_how_long_the_learner_waits(n_actors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Actors start for 1,000 seconds; then those of a round take 2 together, and an update 6."""
    clock = [0.0]
    monkeypatch.setattr(learner.time, "perf_counter", lambda: clock[0])
    wait, make_updates = SerialExecutor.wait, RecurrentDQN.make_updates

    def late(executor: SerialExecutor, *args: Any) -> Outcome | None:
        outcome = wait(executor, *args)
        assert outcome is not None
        clock[0] += (1_000 if outcome.chunk.version == 0 else 2) * (outcome.actor == 0)  # type: ignore[union-attr]
        return outcome

    def slow(model: RecurrentDQN, *args: Any) -> None:
        clock[0] += 6
        make_updates(model, *args)

    monkeypatch.setattr(SerialExecutor, "wait", late)
    monkeypatch.setattr(RecurrentDQN, "make_updates", slow)
    n_steps = 8 * 2 * n_actors
    model = make_learner(make_world(), train_freq=(n_steps, "transition"), learning_starts=n_steps, buffer_size=4_000)
    options = dict(executor="serial", chunk_steps=8, chunks_in_flight=1, weights_interval=1, log_interval=None)
    learn_with_actors(model, make_world, n_actors, 50 * n_steps, **options)  # type: ignore[arg-type]
    assert model.logger.name_to_value["actors/learner_waits"] == pytest.approx(0.25, abs=0.02)


def test_evaluations_and_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_learner(make_world(), verbose=1, delta_q_interval=2)
    evaluations = EvalCallback(
        make_world(n_envs=1), n_eval_episodes=1, eval_freq=20, log_path=str(tmp_path), verbose=0, warn=False
    )
    learn_with_actors(
        model, make_world, 2, 160, callback=evaluations, log_interval=10, executor="serial", chunk_steps=8
    )
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [40, 80, 120, 160]
    told = capsys.readouterr().out
    for name in ("lag_versions", "lag_updates", "in_flight", "restarts", "delta_q_first_lag_", "replay_ratio", "fps"):
        assert name in told, name


def test_an_actor_may_have_more_environments_than_the_model() -> None:
    def make_one() -> Any:
        return make_world(n_envs=1).envs[0]  # type: ignore[attr-defined]

    model = make_learner(make_one(), learning_starts=20)
    learn_with_actors(model, make_one, 2, 120, envs_per_actor=3, executor="serial", chunk_steps=4)
    assert model.num_timesteps == 120 and model.replay_buffer.n_envs == 6  # type: ignore[union-attr]
    assert len(model.ep_info_buffer) > 10  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(n_actors=0), "n_actors=0 must be an integer"),
        (dict(envs_per_actor=3), "must be a multiple of the model's environments, 2"),
        (dict(executor="rai"), "Did you mean 'ray'"),
        (dict(chunk_steps=300), "raise buffer_size, or lower chunk_steps"),
        (dict(samples_per_insert=0), "samples_per_insert=0 must be a finite number above 0"),
        (dict(timeout=float("nan")), "timeout=nan"),
        (dict(make_env=3), "must be a function"),
    ],
)
def test_arguments(wrong: dict[str, Any], message: str) -> None:
    model = make_learner()
    given: dict[str, Any] = {"make_env": make_world, "n_actors": 2, "executor": "serial", **wrong}
    with pytest.raises(ValueError, match=message):
        learn_with_actors(model, total_timesteps=100, **given)
    assert model.num_timesteps == 0 and model.n_tapes is None
    with pytest.raises(ValueError, match="trains a RecurrentDQN, got DQN"):
        learn_with_actors(DQN("MlpPolicy", "CartPole-v1", buffer_size=9), make_world, 1, 9)  # type: ignore[type-var]


@pytest.mark.parametrize(
    "make_env, message",
    [
        (lambda: make_world(n_envs=3), "gives a VecEnv of 3 environments, and envs_per_actor is 2"),
        (lambda: make_world("matrix"), "do not fit the model: Observation spaces do not match"),
    ],
)
def test_environments_that_do_not_fit(make_env: Callable[[], DummyVecEnv], message: str) -> None:
    with pytest.raises(ActorSetupError, match=message):
        learn_with_actors(make_learner(), make_env, 2, 100, executor="serial", chunk_steps=8)
