"""What holds for sets (order and padding do not matter) and for frames (order does), with planted mistakes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecTransposeImage

from sb3_attnmem.attention import KeyList, record_attention
from sb3_attnmem.extractors import AttentionCombinedExtractor, EntityAttention, FrameAttention
from sb3_attnmem.extractors.stack_space import StackShape, read_stack_space
from tests.extractors.cases import ENTITIES, MASKED, preprocess

N, D = ENTITIES.shape
POOLINGS = ["attention", "max", "mean"]


def entity_extractor(pooling: str = "attention") -> EntityAttention:
    th.manual_seed(0)
    return EntityAttention(MASKED, features_dim=16, embed_dim=16, pooling=pooling).eval()


def masked_batch(n_present: list[int]) -> dict[str, th.Tensor]:
    th.manual_seed(1)
    mask = th.stack([(th.randperm(N) < n).float() for n in n_present])
    return {"entities": th.randn(len(n_present), N, D), "mask": mask}


def order_does_not_matter(extractor: EntityAttention) -> None:
    batch = masked_batch([6, 3, 1])
    features = extractor(batch)
    for seed in range(3):
        th.manual_seed(seed)
        order = th.randperm(N)
        shuffled = {"entities": batch["entities"][:, order], "mask": batch["mask"][:, order]}
        th.testing.assert_close(extractor(shuffled), features, rtol=0, atol=1e-5)


def padding_is_ignored(extractor: EntityAttention) -> None:
    batch = masked_batch([5, 3, 1, 0])
    features = extractor(batch)
    absent = batch["mask"] < 0.5
    for junk in (1e3, -1e3):
        spoiled = th.where(absent[..., None], th.full_like(batch["entities"], junk), batch["entities"])
        th.testing.assert_close(extractor(dict(batch, entities=spoiled)), features, rtol=0, atol=1e-5)
    # and it is the same as not being there at all
    alone = {"entities": batch["entities"][1:2][:, ~absent[1]], "mask": th.ones(1, 3)}
    th.testing.assert_close(extractor(alone), features[1:2], rtol=0, atol=1e-5)


def entities_matter(extractor: EntityAttention) -> None:
    batch = masked_batch([5, 3, 1])
    other = dict(batch, entities=batch["entities"] + batch["mask"][..., None])
    assert ((extractor(batch) - extractor(other)).abs().amax(dim=1) > 1e-3).all()


SET_LAWS = [order_does_not_matter, padding_is_ignored, entities_matter]


@pytest.mark.parametrize("law", SET_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_law_of_sets(law: Callable[[EntityAttention], None], pooling: str) -> None:
    law(entity_extractor(pooling))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_nothing_there_is_finite_with_finite_gradients(pooling: str) -> None:
    extractor = entity_extractor(pooling)
    features = extractor(masked_batch([0, 2]))
    features.sum().backward()
    assert features.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in extractor.parameters())


def test_absent_entities_get_no_weight() -> None:
    extractor, batch = entity_extractor(), masked_batch([6, 3, 1])
    with record_attention(extractor) as record:
        extractor(batch)
    for weights in record.values():  # (B, heads, queries, N)
        absent = (batch["mask"] < 0.5)[:, None, None, :].expand_as(weights)
        assert (weights[absent] == 0).all()
        th.testing.assert_close(weights.sum(dim=-1), th.ones(weights.shape[:3]))


def test_mask_of_a_combined_extractor() -> None:
    space = spaces.Dict({"units": ENTITIES, "alive": spaces.MultiBinary(N), "me": spaces.Box(-1, 1, (3,))})
    th.manual_seed(0)
    extractor = AttentionCombinedExtractor(space, features_dim=8, embed_dim=16, masks={"units": "alive"}).eval()
    batch = masked_batch([4, 2])
    observations = {"units": batch["entities"], "alive": batch["mask"], "me": th.randn(2, 3)}
    features = extractor(observations)
    absent = batch["mask"][..., None] < 0.5
    spoiled = dict(observations, units=th.where(absent, th.tensor(1e3), batch["entities"]))
    th.testing.assert_close(extractor(spoiled), features, rtol=0, atol=1e-5)
    with record_attention(extractor) as record:
        extractor(observations)
    assert record.layouts["blocks.0.attention"] == KeyList("observation keys", ("me", "units"))
    assert record["blocks.0.attention"].shape == (2, 4, 2, 2)
    assert record["encoders.units.pool.attention"].shape == (2, 4, 1, N)


def ignored_mask(extractor: EntityAttention) -> None:
    extractor.mask_key = "nothing"


def inverted_mask(extractor: EntityAttention) -> None:
    forward = extractor.forward
    extractor.forward = lambda batch: forward(dict(batch, mask=1 - batch["mask"]))  # type: ignore[method-assign]


def pool_without_mask(extractor: EntityAttention) -> None:
    pool = extractor.pool.forward
    extractor.pool.forward = lambda inputs, mask=None: pool(inputs)  # type: ignore[method-assign]


def numbered_rows(extractor: EntityAttention) -> None:
    codes = th.randn(N, 16)
    extractor.embed.register_forward_hook(lambda module, args, output: output + codes)


def blind(extractor: EntityAttention) -> None:
    extractor.embed.register_forward_hook(lambda module, args, output: output * 0)


@pytest.mark.parametrize(
    "plant, law",
    [
        (ignored_mask, padding_is_ignored),
        (inverted_mask, padding_is_ignored),
        (pool_without_mask, padding_is_ignored),
        (numbered_rows, order_does_not_matter),
        (blind, entities_matter),
    ],
    ids=lambda function: function.__name__,
)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_planted_mistake_in_sets_is_found(plant: Any, law: Any, pooling: str) -> None:
    extractor = entity_extractor(pooling)
    plant(extractor)
    with pytest.raises(AssertionError):
        law(extractor)


# ---- frames ----------------------------------------------------------------------------------------------------------


def frame_extractor(positions: str) -> FrameAttention:
    th.manual_seed(0)
    space = spaces.Box(-1, 1, (4, 3), np.float32)
    return FrameAttention(space, features_dim=16, embed_dim=16, positions=positions).eval()


def frames_change(positions: str, swap: tuple[int, int], plant: Callable[[Any], None] = lambda extractor: None) -> bool:
    """:return: whether swapping two frames changes the features"""
    extractor = frame_extractor(positions)
    plant(extractor)
    th.manual_seed(1)
    frames = th.randn(2, 4, 3)
    order = [swap[1] if t == swap[0] else swap[0] if t == swap[1] else t for t in range(4)]
    return not th.allclose(extractor(frames), extractor(frames[:, order]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("swap", [(0, 1), (1, 2), (0, 3)])
def test_the_order_of_frames_matters(positions: str, swap: tuple[int, int]) -> None:
    assert frames_change(positions, swap)


def test_without_positions_older_frames_are_a_set_and_the_newest_is_not() -> None:
    assert not frames_change("none", (0, 2))
    assert frames_change("none", (0, 3))


@pytest.mark.parametrize("positions", ["learned", "rotary", "none"])
def test_the_newest_frame_is_the_query(positions: str) -> None:
    """Planted: the stack read backwards."""

    def backwards(extractor: FrameAttention) -> None:
        extractor.encoder.register_forward_pre_hook(lambda module, args: args[0].view(2, 4, 3).flip(1).flatten(0, 1))

    if positions == "none":  # backwards, the newest is mistaken for the oldest: swapping two newer ones goes unseen
        assert not frames_change("none", (1, 3), backwards) and frames_change("none", (0, 1), backwards)
    queries = []
    extractor = frame_extractor(positions)
    extractor.blocks[0].register_forward_hook(lambda module, args, output: queries.append(args[0]))
    frames = th.randn(2, 4, 3)
    extractor(frames)
    extractor(th.cat([th.randn(2, 3, 3), frames[:, 3:]], dim=1))
    assert th.equal(queries[0], queries[1])  # only the newest is in it


def test_frames_are_named_by_age() -> None:
    with record_attention(frame_extractor("learned")) as record:
        pass
    assert record.layouts["blocks.0.attention"] == KeyList("frames", ("-3", "-2", "-1", "0"))


class Counting(gym.Env):
    """
    Every number of an observation is the step's: frame t of an episode is full of t.

    :param shape: of an observation
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        self.t = 0
        return np.full(self.observation_space.shape, 0, np.uint8), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        return np.full(self.observation_space.shape, self.t, np.uint8), 0.0, False, False, {}


def stacked(shape: tuple[int, ...], stacker: str) -> tuple[np.ndarray, spaces.Box]:
    """:return: observations after three steps as an algorithm's extractor would see them, and their space"""

    def make_env() -> gym.Env:
        return FrameStackObservation(Counting(shape), 4) if stacker == "gymnasium" else Counting(shape)

    env: Any = DummyVecEnv([make_env] * 2)
    if stacker == "vec":
        env = VecFrameStack(env, 4)
    if stacker == "vec" and shape == (20, 20, 3):
        env = VecTransposeImage(env)
    env.reset()
    for _ in range(3):
        observations = env.step(np.zeros(2, int))[0]
    return observations, env.observation_space


@pytest.mark.parametrize("stacker", ["vec", "gymnasium"])
@pytest.mark.parametrize("shape", [(5,), (20, 20, 3), (3, 20, 20), (20, 20), (7, 7, 3)])
def test_real_stacks_are_cut_oldest_first(shape: tuple[int, ...], stacker: str) -> None:
    if stacker == "vec" and shape == (20, 20):
        pytest.skip("VecFrameStack stacks a matrix in its columns")
    observations, space = stacked(shape, stacker)
    stack = read_stack_space(space, None if stacker == "gymnasium" else 4)
    frames = stack.cut(preprocess(observations, space))
    assert frames.shape[:2] == (2, 4)
    times = frames.flatten(2)
    assert (times == times[..., :1]).all(), "a frame holds parts of several"
    expected = th.tensor([0.0, 1.0, 2.0, 3.0]) / (1.0 if shape == (5,) else 255.0)
    th.testing.assert_close(times[:, :, 0], expected.expand(2, 4))
    if len(shape) > 1:
        assert frames.shape[2] == (1 if len(shape) == 2 else 3)  # channels first


def test_a_wrong_cut_is_found() -> None:
    observations, space = stacked((20, 20, 3), "vec")
    right = read_stack_space(space, 4)
    wrong = replace(right, n_frames=6)
    times = wrong.cut(preprocess(observations, space)).flatten(2)
    assert not (times == times[..., :1]).all()
    assert isinstance(right, StackShape)
