"""Every memory and fusion inside RecurrentDQN: training as the conformance list says, extractors that fit, states."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor

from sb3_attnmem import MEMORIES, RecurrentDQN
from sb3_attnmem.attention import PlaceGrid, record_attention
from sb3_attnmem.extractors import AttentionExtractor
from sb3_attnmem.memory import FUSIONS
from tests.dqn_recurrent.conformance.reference import check_targets, check_update, experienced
from tests.dqn_recurrent.worlds import make_learner, make_world
from tests.ledger import Waves, make_env, make_model


class WaveMap(AttentionExtractor):
    """The ledger's observations as a map of three places."""

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__(observation_space, features_dim=12)
        self._give_map(PlaceGrid.of_pixels(3, 1), 4)
        self.weight = th.nn.Parameter(th.tensor([[1.3, 0.7, 0.9, 0.5], [0.3, 0.4, 0.2, 1.0], [0.1, 1.1, 0.6, 0.2]]))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return th.sin(observations.unsqueeze(1) * self.weight)


SIZES: dict[str, dict[str, Any]] = {
    "min_gru": dict(hidden_size=6, num_layers=2),
    "lru": dict(hidden_size=6, state_size=5),
    "ffm": dict(hidden_size=6, memory_size=4, context_size=2, horizon=16.0),
    "shm": dict(hidden_size=6, key_size=5, value_size=3, n_rows=4),
    "deltanet": dict(hidden_size=6, n_heads=2, key_size=5, value_size=3),
    "window": dict(hidden_size=8, window=4, n_heads=2),
    "gtrxl": dict(hidden_size=8, memory_length=3, num_layers=1, n_heads=2),
    "dnc": dict(hidden_size=6, n_slots=3, slot_size=4),
    "attentive_lstm": dict(hidden_size=6, attention_dim=4),
}
#: their cached latents carry no gradient, those of the step by step reference neither, but the window's own do
CACHES = ("window", "gtrxl")


def policy_kwargs(memory: str, fusion: str = "none") -> dict[str, Any]:
    return dict(
        memory_class=memory,
        memory_kwargs=SIZES[memory],
        memory_fusion=fusion,
        features_extractor_class=WaveMap if MEMORIES[memory].reads == "map" else Waves,
        encoder_arch=[5],
        net_arch=[],
    )


@pytest.mark.parametrize("state_init", ["stored", "zero"])
@pytest.mark.parametrize("memory", SIZES)
def test_updates_are_those_worked_out_step_by_step(memory: str, state_init: str) -> None:
    fusion = list(FUSIONS)[list(SIZES).index(memory) % len(FUSIONS)]

    def make() -> Any:
        env = make_env(((5, 3), (17,), (1, 2, 30)))
        options = dict(sequence_length=8, burn_in=4, n_steps=3, learning_rate=0.0, state_init=state_init)
        return make_model(env, policy_kwargs=policy_kwargs(memory, fusion), **options), env  # type: ignore[arg-type]

    model, env, states = experienced(make)
    if state_init == "zero":
        assert not model.replay_buffer.tapes.states  # type: ignore[union-attr]
        states = defaultdict(lambda: tuple(tensor[0] for tensor in model.q_net.memory.initial_state(1)))
    batch = model.replay_buffer.sample(12)  # type: ignore[union-attr]
    check_targets(model, env.episodes, states, batch)
    if memory not in CACHES:
        # In float32 a layer norm of three small numbers enlarges rounding beyond what gradients are compared by
        model.policy.double()
        for at, state in states.items():
            states[at] = tuple(tensor.double() for tensor in state)
        check_update(model, batch, env.episodes, states)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("dueling", [False, True])
def test_acting_agrees_with_training_under_every_fusion(fusion: str, dueling: bool) -> None:
    def make() -> Any:
        env = make_env()
        kwargs = {**policy_kwargs("min_gru", fusion), "dueling": dueling}
        return make_model(env, policy_kwargs=kwargs, learning_rate=0.0), env

    model, env, states = experienced(make)
    check_update(model, model.replay_buffer.sample(12), env.episodes, states)  # type: ignore[union-attr]


@pytest.mark.parametrize("memory", MEMORIES)
def test_learn_predict_save_load_record(memory: str, tmp_path: Any) -> None:
    image = MEMORIES[memory].reads == "map"
    kwargs: dict[str, Any] = dict(memory_class=memory, memory_fusion="gate")
    if image:
        kwargs |= dict(features_extractor_class="plain_cnn", features_extractor_kwargs=dict(output="map"))
    model = make_learner(
        make_world("image" if image else "vector"), "CnnPolicy" if image else "MlpPolicy", policy_kwargs=kwargs
    )
    model.learn(40)
    assert model._n_updates > 0
    model.save(tmp_path / "model")
    loaded = RecurrentDQN.load(tmp_path / "model")
    observations = model.get_env().reset()  # type: ignore[union-attr]
    state = other = None
    for _ in range(3):
        with record_attention(model) as record:
            action, state = model.predict(observations, state, deterministic=True)
        again, other = loaded.predict(observations, other, deterministic=True)
        assert np.array_equal(action, again)
    for ours, theirs in zip(state or (), other or (), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    alpha = record["q_net.fusion.alpha"]
    assert alpha.shape[0] == len(observations) and 0 <= alpha.min() and alpha.max() <= 1
    if image:
        grid = record.on_grid("q_net.memory.attention")
        assert grid.shape[:2] == (len(observations), 4) and grid.dim() == 4


def test_extractors_are_known_by_name() -> None:
    model = make_learner(
        make_world("image"), "CnnPolicy", policy_kwargs=dict(features_extractor_class="spatial_attention_cnn")
    )
    assert type(model.q_net.features_extractor).__name__ == "SpatialAttentionCNN"
    assert model.q_net.architecture.encoder_arch == [], "wide enough to need no encoder"
    with pytest.raises(ValueError, match="Did you mean 'relational_cnn'"):
        make_learner(make_world("image"), "CnnPolicy", policy_kwargs=dict(features_extractor_class="relational"))


@pytest.mark.parametrize("extractor", [dict(), dict(features_extractor_class="plain_cnn")])
def test_a_memory_that_reads_maps_names_the_extractor_to_use(extractor: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"reads a feature map.*features_extractor_class='plain_cnn'.*output='map'"):
        make_learner(make_world("image"), "CnnPolicy", policy_kwargs=dict(memory_class="attentive_lstm", **extractor))
    with pytest.raises(ValueError, match="FlattenExtractor gives a vector"):
        make_learner(policy_kwargs=dict(memory_class="attentive_lstm", features_extractor_class=FlattenExtractor))


def test_a_memory_that_reads_vectors_refuses_a_map() -> None:
    kwargs = dict(features_extractor_class="plain_cnn", features_extractor_kwargs=dict(output="map"))
    with pytest.raises(ValueError, match=r"LSTMMemory reads a vector.*feature map of 81 places.*attentive_lstm"):
        make_learner(make_world("image"), "CnnPolicy", policy_kwargs=kwargs)


def test_the_encoder_of_a_map_is_applied_to_each_place() -> None:
    model = make_model(make_env(), policy_kwargs=policy_kwargs("attentive_lstm"))
    features = model.q_net.encode(th.zeros(7, 4))
    assert features.shape == (7, 3, 5)
    assert model.q_net.memory.input_dim == 3 * 5


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(state_init="random"), "state_init='random' is unknown"),
        (dict(policy_kwargs=dict(memory_fusion="gat")), "Did you mean 'gate'"),
        (dict(policy_kwargs=dict(memory_fusion="none", memory_fusion_kwargs=dict(per_unit=True))), "takes: nothing"),
    ],
)
def test_what_is_unknown_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_learner(**arguments)


def test_a_buffer_filled_with_states_does_not_go_with_zero_states(tmp_path: Any) -> None:
    model = make_learner()
    model.learn(20)
    model.save_replay_buffer(tmp_path / "buffer")
    with pytest.raises(ValueError, match="states"):
        make_learner(state_init="zero").load_replay_buffer(tmp_path / "buffer")


def test_states_too_large_for_the_memory_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    free = type("Memory", (), dict(available=10**6))
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    for memory, hint in (("window", True), ("none", False)):
        model = make_learner(policy_kwargs=dict(memory_class=memory), buffer_size=100_000)
        with pytest.raises(ValueError, match="buffer_size") as caught:
            model.learn(10)
        assert ("state_init='zero'" in str(caught.value)) is hint
