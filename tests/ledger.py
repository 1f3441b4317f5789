"""An environment whose observations say where they were made, and a recorder of what really happened to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN
from tests.toys import SumMemory


class Place(NamedTuple):
    """Where an observation was made: which environment, its how many-th episode, how many steps into it."""

    env: int
    episode: int
    step: int


def place_of(frame: Any) -> Place:
    """
    :param frame: an observation of ``Ledger``; array or tensor
    """
    env, episode, step, one = (int(number) for number in frame)
    assert one == 1, f"{frame} is no observation of the ledger: padding, most likely"
    return Place(env, episode, step)


class Ledger(gym.Env):
    """
    Observations are (environment, episode, step in the episode, 1), rewards depend on all of these and on the action.

    :param env_id: the first number
    :param lengths: steps of its successive episodes, again and again
    :param ends: "terminated" or "truncated" for each of them, again and again
    :param n_actions: number of actions
    :param fails_at: the call of ``step`` (counted from 1) that raises ``RuntimeError``
    """

    def __init__(
        self,
        env_id: int,
        lengths: Sequence[int] = (5,),
        ends: Sequence[str] = ("terminated",),
        n_actions: int = 3,
        fails_at: int = -1,
    ) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.action_space = spaces.Discrete(n_actions)
        self.env_id, self.lengths, self.ends, self.fails_at = env_id, lengths, ends, fails_at
        self.episode, self.n_calls = -1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        self.episode += 1
        self.step_number = 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.n_calls += 1
        if self.n_calls == self.fails_at:
            raise RuntimeError("the ledger was told to fail")
        reward = ((7 * self.env_id + 5 * self.episode + 3 * self.step_number + 2 * int(action)) % 11) / 11
        self.step_number += 1
        over = self.step_number >= self.lengths[self.episode % len(self.lengths)]
        end = self.ends[self.episode % len(self.ends)]
        return self._observation(), reward, over and end == "terminated", over and end == "truncated", {}

    def _observation(self) -> np.ndarray:
        return np.array([self.env_id, self.episode, self.step_number, 1], dtype=np.float32)


N_MASKED = 11  # more than a byte of them


def valid_at(place: Place) -> np.ndarray:
    """:return: (N_MASKED,) bool, the valid actions at a place, other ones at each"""
    numbers = np.arange(N_MASKED)
    some = (numbers * (2 + place.step) + 3 * place.env + place.episode + place.step) % 4 == 0
    return some | (numbers == (5 * place.step + place.env + place.episode) % N_MASKED)


class MaskedLedger(Ledger):
    """
    A ledger in which a few actions are valid at each place. The others raise.

    :param told: how it tells: "env", by ``action_masks()``; "info", or "key", in a Dict observation
    """

    def __init__(self, *args: Any, told: str = "env", **kwargs: Any) -> None:
        super().__init__(*args, n_actions=N_MASKED, **kwargs)
        self.told = told
        if told == "env":
            self.action_masks = self.mask
        if told == "key":
            bits = spaces.Box(0, 1, (N_MASKED,), np.int8)
            self.observation_space = spaces.Dict(place=self.observation_space, action_mask=bits)

    def mask(self) -> np.ndarray:
        return valid_at(Place(self.env_id, self.episode, self.step_number))

    def reset(self, **kwargs: Any) -> Any:
        frame, info = super().reset(**kwargs)
        return self._told(frame), self._info(info)

    def step(self, action: int) -> Any:
        if not self.mask()[action]:
            raise ValueError(f"the action {action} is not valid at {self._observation()}")
        frame, reward, terminated, truncated, info = super().step(action)
        return self._told(frame), reward, terminated, truncated, self._info(info)

    def _told(self, frame: np.ndarray) -> Any:
        return dict(place=frame, action_mask=self.mask().astype(np.int8)) if self.told == "key" else frame

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        return {**info, "action_mask": self.mask().astype(np.int8)} if self.told == "info" else info


@dataclass
class Episode:
    """``frames`` are one more than ``actions``; ``end`` is "terminated", "truncated", "cut" or still "open"."""

    frames: list[np.ndarray]
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    end: str = "open"


class Recorder(VecEnvWrapper):
    """
    Writes down what the environments told, in the order in which they told it. A step that raised told nothing.

    :param venv: ledgers
    """

    def __init__(self, venv: DummyVecEnv) -> None:
        super().__init__(venv)
        self.episodes: dict[tuple[int, int], Episode] = {}
        self.current: list[Episode] = []
        self.transitions: list[list[Place]] = [[] for _ in range(venv.num_envs)]

    def _begin(self, frame: np.ndarray) -> Episode:
        place = place_of(frame)
        assert place.step == 0
        episode = self.episodes[place[:2]] = Episode([frame.copy()])
        return episode

    def reset(self) -> np.ndarray:
        for episode in self.current:
            episode.end = "cut"
        observations = self.venv.reset()
        assert isinstance(observations, np.ndarray)
        self.current = [self._begin(frame) for frame in observations]
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions.copy()
        super().step_async(actions)

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        assert isinstance(observations, np.ndarray)
        for row, episode in enumerate(self.current):
            self.transitions[row].append(place_of(episode.frames[-1]))
            episode.frames.append(np.copy(infos[row]["terminal_observation"] if dones[row] else observations[row]))
            episode.actions.append(int(self.actions[row]))
            episode.rewards.append(float(rewards[row]))
            if dones[row]:
                episode.end = "truncated" if infos[row]["TimeLimit.truncated"] else "terminated"
                self.current[row] = self._begin(observations[row])
        return observations, rewards, dones, infos

    def forget_last_step(self) -> None:
        """Take the last step back: the agent never heard of it."""
        for transitions in self.transitions:
            episode = self.episodes[transitions.pop()[:2]]
            for column in (episode.frames, episode.actions, episode.rewards):
                column.pop()
            episode.end = "cut"


def make_env(
    lengths: Sequence[Sequence[int]] = ((5, 3), (7,), (1, 2, 9)),
    ends: Sequence[str] = ("terminated", "truncated"),
    n_actions: int = 3,
    first_id: int = 0,
    fails_at: int = -1,
) -> Recorder:
    """
    :param lengths: for each environment the steps of its episodes
    :param ends: how episodes end, the same for all environments
    :param n_actions: number of actions
    :param first_id: the first environment's number
    :param fails_at: the call of ``step`` that raises in the last environment
    """
    last = first_id + len(lengths) - 1
    return Recorder(
        DummyVecEnv(
            [
                lambda i=i, steps=steps: Ledger(i, steps, ends, n_actions, fails_at if i == last else -1)
                for i, steps in enumerate(lengths, first_id)
            ]
        )
    )


class Waves(BaseFeaturesExtractor):
    """Tells the ledger's observations apart with numbers in [-1, 1], so that no gate saturates."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, features_dim=4)
        self.weight = th.nn.Parameter(th.tensor([1.3, 0.7, 0.9, 0.5]))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return th.sin(observations * self.weight)


#: The memory reads the observations themselves, so that what ``SumMemory`` holds is known exactly
BARE: dict[str, Any] = dict(memory_class=SumMemory, encoder_arch=[], net_arch=[], dueling=False)
LSTM: dict[str, Any] = dict(
    memory_class="lstm",
    memory_kwargs=dict(hidden_size=6),
    features_extractor_class=Waves,
    encoder_arch=[],
    net_arch=[8],
)
MEMORY_KWARGS: dict[str, dict[str, Any]] = {
    "sum": {**BARE, "features_extractor_class": Waves},
    "none": dict(memory_class="none", features_extractor_class=Waves, encoder_arch=[5], net_arch=[], dueling=True),
    "lstm": LSTM,
    "gru": dict(
        memory_class="gru",
        memory_kwargs=dict(hidden_size=6, num_layers=2),
        features_extractor_class=Waves,
        encoder_arch=[5],
        net_arch=[],
    ),
}


def make_model(
    env: Recorder,
    model_class: type[RecurrentDQN] = RecurrentDQN,
    policy_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> RecurrentDQN:
    """
    :param env: what it acts in
    :param model_class: ``RecurrentDQN``, or one with a mistake planted
    :param policy_kwargs: one of the dictionaries above
    :param kwargs: arguments of the model, in place of defaults under which it acts at random and never trains
    """
    options: dict[str, Any] = dict(
        buffer_size=200 * env.num_envs,
        learning_starts=10**9,
        batch_size=16,
        gamma=0.9,
        train_freq=1,
        target_update_interval=10_000,
        tau=1.0,
        sequence_length=8,
        burn_in=0,
        n_steps=1,
        max_grad_norm=1e9,
        seed=0,
        policy_kwargs=policy_kwargs or BARE,
    )
    if issubclass(model_class, RecurrentQRDQN):
        options["policy_kwargs"] = {"n_quantiles": 5, **options["policy_kwargs"]}
    return model_class("MlpPolicy", env, **{**options, **kwargs})
