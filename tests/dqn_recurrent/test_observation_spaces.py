"""Observation spaces that cannot be read are refused before anything is built, with the wrapper that helps."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent.policies import RecurrentDQNPolicy


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("something was built before the argument was checked")

    monkeypatch.setattr(RecurrentDQNPolicy, "__init__", refuse)
    monkeypatch.setattr("sb3_attnmem.replay.SequenceReplayBuffer.__init__", refuse)


class Spaced(gym.Env):
    """
    Nothing ever happens, in any space.

    :param space: of the observations
    """

    def __init__(self, space: spaces.Space) -> None:
        self.observation_space, self.action_space = space, spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        return self.observation_space.sample(), 0.0, False, False, {}


IMAGE = spaces.Box(0, 255, (7, 7, 3), np.uint8)
UNREADABLE: dict[str, tuple[str, spaces.Space, list[str]]] = {
    "Discrete from k": ("MlpPolicy", spaces.Discrete(4, start=2), ["does not start at 0", "TransformObservation"]),
    "MultiDiscrete from k": ("MlpPolicy", spaces.MultiDiscrete([3, 3], start=[0, 1]), ["does not start at 0"]),
    "MultiDiscrete of two dimensions": (
        "MlpPolicy",
        spaces.MultiDiscrete([[3, 2], [2, 2]]),
        ["shape (2, 2)", "flattens"],
    ),
    "a key from k": (
        "MultiInputPolicy",
        spaces.Dict(a=spaces.Discrete(3, start=1), b=spaces.Discrete(2)),
        ["The key 'a'", "does not start at 0"],
    ),
    "MiniGrid": (
        "MultiInputPolicy",
        spaces.Dict(direction=spaces.Discrete(4), image=IMAGE, mission=spaces.Text(10)),
        ["The key 'mission'", "Text", "FilterObservation(env, ['direction', 'image'])", "ImgObsWrapper"],
    ),
    "text": ("MlpPolicy", spaces.Text(10), ["Text", "Box, Discrete"]),
    "graph": ("MlpPolicy", spaces.Graph(IMAGE, None), ["Graph"]),
    "tuple": ("MlpPolicy", spaces.Tuple([spaces.Discrete(2)]), ["Tuple", "FlattenObservation"]),
    "nested": ("MultiInputPolicy", spaces.Dict(a=spaces.Dict(b=IMAGE)), ["The key 'a'", "without nesting"]),
    "a small image": ("CnnPolicy", IMAGE, ["7×7", "NatureCNN", "'plain_cnn'", "patch_transformer"]),
    "a small image in a Dict": ("MultiInputPolicy", spaces.Dict(image=IMAGE), ["7×7", "'attention_combined'"]),
    "an image of floats": (
        "CnnPolicy",
        spaces.Box(0, 1, (40, 40, 3), np.float32),
        ["uint8 from 0 to 255", "any number of channels", "MlpPolicy"],
    ),
}


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize("name", UNREADABLE)
def test_observations_that_cannot_be_read_are_named(name: str) -> None:
    policy, space, words = UNREADABLE[name]
    with pytest.raises(ValueError) as error:
        RecurrentDQN(policy, Spaced(space), buffer_size=100)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("policy", "space", "extractor"),
    [("CnnPolicy", IMAGE, "plain_cnn"), ("MultiInputPolicy", spaces.Dict(image=IMAGE), "attention_combined")],
)
def test_what_the_messages_recommend_works(policy: str, space: spaces.Space, extractor: str) -> None:
    options = dict(buffer_size=100, sequence_length=4, n_steps=1, learning_starts=4, train_freq=4)
    model = RecurrentDQN(policy, Spaced(space), policy_kwargs=dict(features_extractor_class=extractor), **options)
    model.learn(8)
    assert model._n_updates > 0


@pytest.mark.parametrize("n_channels", [2, 50])
def test_images_of_any_number_of_channels(n_channels: int) -> None:
    RecurrentDQN("CnnPolicy", Spaced(spaces.Box(0, 255, (n_channels, 60, 60), np.uint8)), buffer_size=100)


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([[3, 2], [2, 2]]), spaces.Discrete(4, start=2)])
def test_the_wrappers_that_messages_name_help(space: spaces.Space) -> None:
    env = Spaced(space)
    if isinstance(space, spaces.Discrete):
        start, n = space.start, space.n
        wrapped: gym.Env = gym.wrappers.TransformObservation(env, lambda number: number - start, spaces.Discrete(n))
    else:
        wrapped = gym.wrappers.FlattenObservation(env)
    RecurrentDQN("MlpPolicy", wrapped, buffer_size=100, sequence_length=4, burn_in=0, n_steps=1).learn(8)
