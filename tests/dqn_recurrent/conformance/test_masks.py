"""Action masks: which actions are taken, and which masks targets see, in environments that refuse invalid actions."""

from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent.masks import MaskReader
from sb3_attnmem.dqn_recurrent.update import QAndTargets
from sb3_attnmem.envs import ActionMaskWrapper
from sb3_attnmem.replay import SequenceSamples
from tests.dqn_recurrent.conformance.reference import check_targets, disturb, every_window, rows, watch_acting
from tests.dqn_recurrent.worlds import make_learner
from tests.ledger import LSTM, N_MASKED, MaskedLedger, Place, Recorder, make_model, place_of, valid_at

LENGTHS = ((5, 3), (7,), (1, 2, 9))
ENDS = ("terminated", "truncated")
WAYS_TO_ACT: dict[str, dict[str, Any]] = {
    "warm-up": dict(learning_starts=10**9),
    "greedy": dict(learning_starts=0, exploration_initial_eps=0.0, exploration_final_eps=0.0),
    "epsilon": dict(learning_starts=0, exploration_initial_eps=0.5, exploration_final_eps=0.5),
    "held": dict(learning_starts=0, exploration_initial_eps=0.5, exploration_final_eps=0.5, exploration_duration=9),
}


def ledgers(told: str) -> DummyVecEnv:
    return DummyVecEnv(
        [lambda i=i, steps=steps: MaskedLedger(i, steps, ENDS, told=told) for i, steps in enumerate(LENGTHS)]
    )


def played(model_class: type[RecurrentDQN], told: str = "env", **kwargs: Any) -> tuple[RecurrentDQN, Recorder, Any]:
    """:return: a model that has acted, what it met, and the states that it acted with"""
    env = Recorder(ledgers(told))
    options = dict(policy_kwargs=LSTM, learning_starts=30, gradient_steps=0, n_steps=2, burn_in=4, buffer_size=180)
    model = make_model(env, model_class, **{**options, **kwargs})  # type: ignore[arg-type]
    states = watch_acting(model)
    model.learn(3 * 90)  # the ring turns
    model.learn(3 * 20)  # and an episode is cut
    return model, env, states


def check_stored(batch: SequenceSamples) -> None:
    """Every observation of the windows has the mask of its own place."""
    assert batch.valid is not None
    n_checked = 0
    for row, (_, window) in enumerate(rows(batch)):
        for column, place in enumerate(window):
            expected = np.ones(N_MASKED, bool) if place is None else valid_at(place)
            np.testing.assert_array_equal(batch.valid[row, column].numpy(), expected, err_msg=str(place))
            n_checked += place is not None
    assert n_checked > 100


def check_model(model_class: type[RecurrentDQN], told: str = "env", **kwargs: Any) -> None:
    model, env, states = played(model_class, told, **kwargs)
    ends = [episode.end for episode in env.episodes.values()]
    assert {"truncated", "terminated", "cut"} <= set(ends)
    disturb(model)
    batch = every_window(model)
    check_stored(batch)
    check_targets(model, env.episodes, states, valid_at=valid_at)


@pytest.mark.parametrize("told", ["env", "info"])
@pytest.mark.parametrize("double_q", [True, False])
def test_targets_see_the_valid_actions_of_the_successor(told: str, double_q: bool) -> None:
    check_model(RecurrentDQN, told, double_q=double_q)


@pytest.mark.parametrize("way", WAYS_TO_ACT)
@pytest.mark.parametrize("told", ["env", "info"])
def test_no_invalid_action_is_taken(told: str, way: str) -> None:
    model, env, _ = played(RecurrentDQN, told, **WAYS_TO_ACT[way])  # the ledger raises
    assert model.mask_source == told
    actions = {action for episode in env.episodes.values() for action in episode.actions}
    assert len(actions) > (2 if way == "greedy" else 8)


@pytest.mark.slow
def test_no_invalid_action_is_taken_in_a_hundred_thousand_steps() -> None:
    lengths = ((5, 3), (17,), (1, 2, 9), (40,), (7,), (30, 12), (4,), (100,))
    makers: list[Any] = [lambda i=i, steps=steps: MaskedLedger(i, steps, ENDS) for i, steps in enumerate(lengths)]
    env = Recorder(DummyVecEnv(makers))
    model = make_learner(
        env,
        buffer_size=20_000,
        learning_starts=1_000,
        train_freq=40,
        sequence_length=16,
        exploration_fraction=0.5,
        exploration_final_eps=0.1,
        exploration_duration=8,
        policy_kwargs=dict(memory_class="lstm", memory_kwargs=dict(hidden_size=16)),
    )
    model.learn(100_000)  # the ledger raises
    assert model.num_timesteps >= 100_000 and model.mask_source == "env"
    assert sum(len(episode.actions) for episode in env.episodes.values()) == model.num_timesteps
    assert {action for episode in env.episodes.values() for action in episode.actions} == set(range(N_MASKED))


class ExploresEverywhere(RecurrentDQN):
    """Planted: random actions are drawn from all."""

    def _explore(self, greedy: Any, epsilon: Any, rng: Any, valid: Any = None) -> np.ndarray:
        return super()._explore(greedy, epsilon, rng)


class HoldsWhatIsInvalid(RecurrentDQN):
    """Planted: an action is held although it became invalid."""

    def _explore_on(self, greedy: Any, epsilon: Any, valid: Any) -> np.ndarray:
        held = None if self._held is None else (self._held.actions.copy(), self._held.left > 0)
        actions = super()._explore_on(greedy, epsilon, valid)
        return actions if held is None else np.where(held[1], held[0], actions)


class GreedyAmongAll(RecurrentDQN):
    """Planted: the greedy action is the best of all."""

    def _to_valid(self, valid: Any) -> None:
        return None


class SamplesTheSpace(RecurrentDQN):
    """Planted: warm-up draws from the action space, as SB3's does."""

    def _sample_action(self, learning_starts: int, *args: Any) -> Any:
        actions, stored = super()._sample_action(learning_starts, *args)
        if self.num_timesteps < learning_starts:
            actions = stored = np.array([self.action_space.sample() for _ in range(self.n_envs)])
        return actions, stored


@pytest.mark.parametrize(
    ("planted", "way"),
    [
        (ExploresEverywhere, "warm-up"),
        (ExploresEverywhere, "epsilon"),
        (HoldsWhatIsInvalid, "held"),
        (GreedyAmongAll, "greedy"),
        (SamplesTheSpace, "warm-up"),
    ],
)
def test_acting_without_the_mask_is_caught(planted: type[RecurrentDQN], way: str) -> None:
    with pytest.raises(ValueError, match="is not valid at"):
        played(planted, **WAYS_TO_ACT[way])


class MaskOfTheStepBefore(RecurrentDQN):
    """Planted: a successor is stored with the mask of the observation before it."""

    def _store_transition(self, replay_buffer: Any, *args: Any) -> None:
        stage = replay_buffer.stage_masks
        replay_buffer.stage_masks = lambda valid, following: stage(valid, valid)
        super()._store_transition(replay_buffer, *args)
        del replay_buffer.stage_masks


class MaskOfTheNextEpisode(RecurrentDQN):
    """Planted: a final observation is stored with the mask of the next episode's first."""

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._setup_learn(*args, **kwargs)
        reader = self._watched().masks
        assert isinstance(reader, MaskReader)
        reader.successors = lambda *_: reader.valid  # type: ignore[method-assign]
        return result


class MaskMissingInTheTarget(RecurrentDQN):
    """Planted: the target's maximum goes over all actions."""

    def _q_and_targets(self, batch: SequenceSamples) -> QAndTargets:
        return super()._q_and_targets(batch._replace(valid=None))


@pytest.mark.parametrize("planted", [MaskOfTheStepBefore, MaskOfTheNextEpisode, MaskMissingInTheTarget])
def test_wrong_masks_are_caught(planted: type[RecurrentDQN]) -> None:
    with pytest.raises(AssertionError):
        check_model(planted)


def key_model(**kwargs: Any) -> RecurrentDQN:
    options: dict[str, Any] = dict(
        buffer_size=180,
        learning_starts=30,
        train_freq=10,
        batch_size=4,
        sequence_length=8,
        burn_in=4,
        n_steps=2,
        seed=0,
        policy_kwargs=dict(memory_class="none", encoder_arch=[4], net_arch=[]),
    )
    return RecurrentDQN("MultiInputPolicy", ledgers("key"), **{**options, **kwargs})


def test_a_key_of_the_observation_is_the_mask() -> None:
    model = key_model()
    model.learn(3 * 90)
    assert model.mask_source == "action_mask" and model.replay_buffer is not None
    assert model.replay_buffer.tapes is not None and model.replay_buffer.tapes.masks is None, "it is stored already"
    batch = every_window(model)
    assert batch.valid is not None and isinstance(batch.window.observations, dict)
    places = [place_of(frame) for frame in batch.window.observations["place"]]
    valid = batch.valid.reshape(-1, N_MASKED)[batch.window.position]
    np.testing.assert_array_equal(valid.numpy(), [valid_at(place) for place in places])
    observations: Any = model.get_env().reset()  # type: ignore[union-attr]
    for deterministic in (True, False):
        model.exploration_rate = 1.0
        actions, _ = model.predict(observations, deterministic=deterministic)
        assert all(valid_at(place_of(frame))[a] for frame, a in zip(observations["place"], actions, strict=True))


def test_the_network_sees_a_mask_that_is_a_key() -> None:
    extractor = key_model().q_net.features_extractor
    assert set(extractor.extractors) == {"place", "action_mask"}  # type: ignore[arg-type, union-attr]


def test_a_process_tells_the_final_mask_where_it_is_wrapped() -> None:
    made: Any = lambda wrap, i: lambda: wrap(MaskedLedger(i, (5, 3), ("truncated",)))  # noqa: E731
    env = SubprocVecEnv([made(ActionMaskWrapper, i) for i in range(2)], start_method="fork")
    try:
        model = make_model(env, policy_kwargs=LSTM, buffer_size=300)  # type: ignore[arg-type]
        model.learn(60)
        assert model.mask_source == "env"
        check = every_window(model)
        for row, (_, window) in enumerate(rows(check)):
            for column, place in enumerate(window):
                if place is not None:
                    assert check.valid is not None
                    np.testing.assert_array_equal(check.valid[row, column].numpy(), valid_at(place))
    finally:
        env.close()
    # Without it, the mask of the final observation cannot be known
    reader = MaskReader("env", ledgers("env"), N_MASKED)
    reader.env.reset()
    infos = [{"TimeLimit.truncated": True}, {}, {}]
    reader.after_step(None, np.array([True, False, False]), infos)
    with pytest.raises(ValueError, match="ActionMaskWrapper"):
        reader.successors(np.array([True, False, False]), infos, True)
    assert reader.successors(np.array([True, False, False]), infos, False)[0].all(), "nothing bootstraps from it"


def test_the_conservative_term_sees_valid_actions() -> None:
    from sb3_attnmem.dqn_recurrent.targets import conservative_gaps

    q_values = th.tensor([[[1.0, 2.0, 50.0]]])
    valid = th.tensor([[[True, True, False]]])
    gap = conservative_gaps(q_values, th.tensor([[0]]), valid)
    np.testing.assert_allclose(gap.item(), np.log(np.exp(1.0) + np.exp(2.0)) - 1.0, rtol=1e-6)


def test_place_and_mask_go_together() -> None:
    """The ledger's masks differ from step to step and between episodes, or none of this would show anything."""
    masks = {
        tuple(valid_at(Place(env, episode, step))) for env in range(3) for episode in range(4) for step in range(5)
    }
    assert len(masks) > 20
