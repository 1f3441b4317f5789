"""Frames stored once are stacked again exactly as ``VecFrameStack`` stacked them."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from sb3_attnmem import RecurrentDQN, SequenceReplayBuffer
from sb3_attnmem.common.observations import arrays_of, copy_observation
from sb3_attnmem.replay import FrameStack, SequenceSamples, find_frame_stack
from sb3_attnmem.replay.tapes import Tapes
from tests.dqn_recurrent.worlds import SMALL, VECTOR, World

IMAGE_LAST = spaces.Box(0, 255, (36, 36, 1), np.uint8)
IMAGE_FIRST = spaces.Box(0, 255, (3, 9, 8), np.uint8)
SPACES: dict[str, spaces.Space] = {
    "vector": VECTOR,
    "image, channels last": IMAGE_LAST,
    "image, channels first": IMAGE_FIRST,
    "floats, channels last": spaces.Box(-1, 1, (5, 6, 2), np.float32),
    "dict": spaces.Dict(image=IMAGE_LAST, vector=VECTOR),
}

#: steps an environment, and whether a reset comes before
PHASES = [(5, True), (30, False), (11, True), (50, False), (1, False), (1, False), (1, False), (37, True)]


class Ragged(World):
    """Episodes of 1 to 13 steps."""

    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        self.length = 1 + (5 * self.n_episodes) % 13
        return observation, info

    def step(self, action: int) -> Any:
        observation, reward, _, _, info = super().step(action)
        over, terminates = self.n_steps == self.length, self.n_episodes % 2 == 0
        return observation, reward, over and terminates, over and not terminates, info


def make_env(name: str, k: int) -> VecEnv:
    return VecFrameStack(DummyVecEnv([lambda i=i: Ragged(SPACES[name], i) for i in range(3)]), k)


def make(env: VecEnv, name: str, **kwargs: Any) -> RecurrentDQN:
    policy = "MultiInputPolicy" if name == "dict" else "MlpPolicy" if name == "vector" else "CnnPolicy"
    extractor = {} if name != "floats, channels last" else dict(features_extractor_class="plain_cnn")
    options = dict(buffer_size=3 * 32, learning_starts=10**9, sequence_length=8, burn_in=4, n_steps=3, seed=0)
    return RecurrentDQN(policy, env, policy_kwargs=dict(SMALL, **extractor), **{**options, **kwargs})


def flat(batch: SequenceSamples) -> list[th.Tensor]:
    """:return: all that a batch holds but the states, of which some are never read"""
    parts = [part for part in (batch.burn_in, batch.window) if part is not None]
    happened = [tensor * batch.transitions for tensor in (batch.actions, batch.rewards)]  # the rest is padding
    tensors = [*happened, batch.transitions, batch.terminals, batch.learning]
    for part in parts:
        observations = part.observations
        tensors += list(observations.values()) if isinstance(observations, dict) else [observations]
        tensors += [part.position, part.present, part.episode_starts]
    return tensors


class Collector:
    """
    Steps an environment at random, and adds what comes to buffers, as SB3 does.

    :param env: that stacks frames
    :param buffers: to add to
    """

    def __init__(self, env: VecEnv, buffers: list[SequenceReplayBuffer]) -> None:
        self.env, self.buffers, self.rng = env, buffers, np.random.default_rng(0)

    def go_on(self, n_steps: int, reset: bool) -> None:
        """:param reset: before that, reset the environment, which cuts its episodes"""
        if reset:
            self.obs = self.env.reset()
            for buffer in self.buffers:
                buffer.cut()
        for _ in range(n_steps):
            actions = self.rng.integers(2, size=self.env.num_envs)
            following, rewards, dones, infos = self.env.step(actions)
            successor = copy_observation(following)
            for row in np.flatnonzero(dones):
                for array, final in zip(
                    arrays_of(successor), arrays_of(infos[row]["terminal_observation"]), strict=True
                ):
                    array[row] = final
            for buffer in self.buffers:
                buffer.stage_state(())
                buffer.add(self.obs, successor, actions, rewards, dones, infos)  # type: ignore[arg-type]
            self.obs = following


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(("k", "interval"), [(2, 4), (4, 1), (4, 4), (7, 2)])
def test_sampled_stacks_are_the_originals(name: str, k: int, interval: int) -> None:
    """While the ring fills and turns, across episode starts, time limits, cuts and the ring's edge."""
    env = make_env(name, k)
    if name in ("image, channels last", "dict"):
        env = VecTransposeImage(env)
    lean, whole = (
        SequenceReplayBuffer(
            3 * 32,
            env.observation_space,
            env.action_space,
            n_envs=3,
            sequence_length=8,
            burn_in=4,
            n_steps=3,
            state_interval=interval,
            frame_stack=stack,
        )
        for stack in (find_frame_stack(env), None)
    )
    collector = Collector(env, [lean, whole])
    for n_steps, reset in PHASES:
        collector.go_on(n_steps, reset)
        batches = []
        for buffer in (lean, whole):
            buffer.seed(n_steps)
            batches.append(buffer.sample(100))
        for ours, theirs in zip(flat(batches[0]), flat(batches[1]), strict=True):
            assert th.equal(ours, theirs)
    assert lean.frame_stack is not None and lean.size() == whole.size()
    assert lean.tapes is not None and whole.tapes is not None
    sizes = [sum(a.nbytes / a.shape[1] for a in arrays_of(x.tapes.observations)) for x in (lean, whole)]  # type: ignore[union-attr]
    assert sizes[0] * k == sizes[1]


def test_stacks_over_an_episode_s_start_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    rebuild = FrameStack.rebuild

    def over_starts(self: FrameStack, tapes: Tapes, rows: np.ndarray, slots: np.ndarray) -> Any:
        starts, tapes.starts = tapes.starts, np.zeros_like(tapes.starts)
        try:
            return rebuild(self, tapes, rows, slots)
        finally:
            tapes.starts = starts

    monkeypatch.setattr(FrameStack, "rebuild", over_starts)
    with pytest.raises(AssertionError):
        test_sampled_stacks_are_the_originals("vector", 4, 4)


def test_a_ring_that_frees_the_frames_before_its_oldest_slot_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sb3_attnmem.replay.tape_buffer.Tapes", lambda *args, n_before: Tapes(*args))
    with pytest.raises(AssertionError):
        test_sampled_stacks_are_the_originals("vector", 4, 4)


def test_save_and_load(tmp_path: Any) -> None:
    model = make(make_env("image, channels last", 4), "image").learn(3 * 70)
    model.save_replay_buffer(tmp_path / "buffer")
    other = make(make_env("image, channels last", 4), "image")
    other.load_replay_buffer(tmp_path / "buffer")
    batches = []
    for x in (model, other):
        assert x.replay_buffer is not None
        x.replay_buffer.seed(1)
        batches.append(x.replay_buffer.sample(100))
    for ours, theirs in zip(flat(batches[0]), flat(batches[1]), strict=True):
        assert th.equal(ours, theirs)
    assert other.replay_buffer is not None and other.replay_buffer.frame_stack == FrameStack(4, 0)
    other.learn(60)
    fewer = make(VecFrameStack(DummyVecEnv([lambda: Ragged(SPACES["image, channels last"])] * 2), 4), "image")
    fewer.load_replay_buffer(tmp_path / "buffer")
    assert fewer.learn(60).replay_buffer is not None


def test_a_wrapper_that_may_change_stacks_turns_it_off() -> None:
    env = make_env("vector", 4)
    assert find_frame_stack(env) == FrameStack(4, -1)
    assert find_frame_stack(VecMonitor(env)) == FrameStack(4, -1)
    assert find_frame_stack(VecNormalize(env)) == FrameStack(4, -1)
    image = make_env("image, channels last", 4)
    assert find_frame_stack(image) == FrameStack(4, -1)
    assert find_frame_stack(VecTransposeImage(image)) == FrameStack(4, 0)
    assert find_frame_stack(VecTransposeImage(make_env("dict", 2))) == FrameStack(2, {"image": 0, "vector": -1})
    assert find_frame_stack(DummyVecEnv([lambda: World()])) is None
    assert find_frame_stack(None) is None

    class Doubling(VecEnvWrapper):
        def reset(self) -> Any:
            return self.venv.reset()

        def step_wait(self) -> Any:
            return self.venv.step_wait()

    assert find_frame_stack(Doubling(env)) is None


def test_a_stack_that_begins_with_other_frames_is_refused() -> None:
    model = make(make_env("vector", 4), "vector", state_init="zero")
    assert model.env is not None and model.replay_buffer is not None
    model.learn(30)
    model.replay_buffer.cut()
    obs = np.ones((3, 12), np.float32)
    with pytest.raises(ValueError, match=r"older frames are not zero.*frame_stack=None"):
        model.replay_buffer.add(obs, obs, np.zeros(3), np.zeros(3), np.zeros(3), [{}] * 3)
