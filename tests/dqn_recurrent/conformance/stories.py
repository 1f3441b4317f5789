"""Lives of a model in which its episodes are cut, with everything that its environments told."""

from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from sb3_attnmem import RecurrentDQN, SequenceReplayBuffer
from tests.dqn_recurrent.conformance.reference import (
    States,
    check_rows,
    check_targets,
    disturb,
    every_window,
    learned,
    watch_acting,
)
from tests.ledger import LSTM, Recorder, make_env, make_model

LENGTHS = ((5, 3), (17,), (40,))


class StopsAt(BaseCallback):
    """Returns False at its n-th step."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def _on_step(self) -> bool:
        return self.n_calls < self.n


class RaisesAt(StopsAt):
    """Raises at its n-th step."""

    def _on_step(self) -> bool:
        if self.n_calls == self.n:
            raise RuntimeError("the callback was told to fail")
        return True


class Story:
    """
    A model's life, with everything that its environments told.

    :param model_class: ``RecurrentDQN``, or one with a mistake planted
    :param buffer_class: ``SequenceReplayBuffer``, or one with a mistake planted
    :param folder: where it is saved
    """

    def __init__(
        self,
        model_class: type[RecurrentDQN],
        buffer_class: type[SequenceReplayBuffer],
        folder: Path,
        fails_at: int = -1,
        **kwargs: Any,
    ) -> None:
        self.env = make_env(LENGTHS, fails_at=fails_at)
        self.envs = [self.env]
        self.folder = folder
        self.model = make_model(
            self.env,
            model_class,
            LSTM,
            burn_in=4,
            n_steps=3,
            replay_buffer_class=buffer_class,
            train_freq=1,
            **kwargs,
        )
        self.states: States = watch_acting(self.model)

    def new_env(self, lengths: tuple[tuple[int, ...], ...] = LENGTHS) -> Recorder:
        self.env = make_env(lengths, first_id=100 * len(self.envs))
        self.envs.append(self.env)
        return self.env

    def learn(self, n_steps: int, **kwargs: Any) -> None:
        """:param n_steps: of each environment"""
        self.model.learn(n_steps * self.env.num_envs, **kwargs)

    def save_and_load(self, lengths: tuple[tuple[int, ...], ...] = LENGTHS, **kwargs: Any) -> None:
        self.model.save(self.folder / "model.zip")
        self.model.save_replay_buffer(self.folder / "buffer.pkl")
        self.model = type(self.model).load(self.folder / "model.zip", env=self.new_env(lengths), **kwargs)
        self.model.load_replay_buffer(self.folder / "buffer.pkl")
        watch_acting(self.model, self.states)

    def check(self) -> None:
        episodes = {key: episode for env in self.envs for key, episode in env.episodes.items()}
        assert any(episode.end == "cut" and episode.actions for episode in episodes.values())
        disturb(self.model)
        batch = every_window(self.model)
        check_rows(batch, episodes, self.model.sequence_length)
        happened = {place for env in self.envs for transitions in env.transitions for place in transitions}
        assert set(learned(batch)) == happened
        check_targets(self.model, episodes, self.states, batch)


def second_learn(story: Story) -> None:
    story.learn(20)
    story.learn(1)
    story.learn(22)


def learn_on_and_anew(story: Story) -> None:
    story.learn(20)
    n_episodes = len(story.env.episodes)
    story.learn(2, reset_num_timesteps=False)
    assert len(story.env.episodes) <= n_episodes + 2, "going on does not reset"
    story.learn(22)


def set_env(story: Story) -> None:
    story.learn(20)
    story.model.set_env(story.new_env())
    story.env = story.envs[-1]
    story.learn(20, reset_num_timesteps=False)
    story.envs[0].reset()  # marks what was left open there


def load(story: Story) -> None:
    story.learn(20)
    story.save_and_load()
    story.learn(20, reset_num_timesteps=False)
    story.envs[0].reset()


def load_without_force_reset(story: Story) -> None:
    story.learn(20)
    story.save_and_load(force_reset=False)
    story.learn(20, reset_num_timesteps=False)
    story.envs[0].reset()


def load_into_fewer_environments(story: Story) -> None:
    story.learn(20)
    story.save_and_load(((9, 4), (30,)))
    story.learn(20, reset_num_timesteps=False)
    story.envs[0].reset()


def load_into_more_environments(story: Story) -> None:
    story.learn(20)
    story.save_and_load(((9, 4), (30,), (2,), (7,), (16,)))
    story.learn(20, reset_num_timesteps=False)
    story.envs[0].reset()


def load_a_replay_buffer_while_learning(story: Story) -> None:
    story.learn(20)
    story.model.save_replay_buffer(story.folder / "buffer.pkl")
    story.model.load_replay_buffer(story.folder / "buffer.pkl")
    story.learn(20, reset_num_timesteps=False)


def callback_stops_and_learning_begins_anew(story: Story) -> None:
    story.learn(30, callback=StopsAt(13))
    story.learn(20)


def callback_stops_and_learning_goes_on(story: Story) -> None:
    for n in (13, 1, 4, 2):  # 17 is where an episode ends
        story.learn(30, callback=CallbackList([StopsAt(n)]), reset_num_timesteps=False)
    story.learn(5, reset_num_timesteps=False)
    story.learn(20)


def callback_stops_before_set_env(story: Story) -> None:
    story.learn(30, callback=StopsAt(9))
    set_env(story)
