"""ALE's vectorised Atari against Stable-Baselines3's own preprocessing of the same games."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecMonitor

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.envs import AtariTrainingView, AtariVecEnv, make_atari_vec_env


def play(env: VecEnv, n_steps: int, seed: int = 0, favour: float = 0.0) -> dict[str, list[Any]]:
    """:return: what random actions bring, all environments taking the same, and often action 1 with ``favour``"""
    rng = np.random.default_rng(seed)
    assert isinstance(env.action_space, gym.spaces.Discrete)
    told: dict[str, list[Any]] = {"observations": [env.reset().copy()], "rewards": [], "dones": [], "infos": []}  # type: ignore[union-attr]
    for _ in range(n_steps):
        action = 1 if rng.random() < favour else rng.integers(env.action_space.n)
        actions = np.full(env.num_envs, action)
        for name, value in zip(told, env.step(actions), strict=True):
            told[name].append(np.copy(value) if name != "infos" else value)  # type: ignore[arg-type]
    env.close()
    return told


def scores_of(told: dict[str, list[Any]]) -> list[float]:
    return [info["episode"]["r"] for infos in told["infos"] for info in infos if "episode" in info]


def theirs(game: str, max_frames: int = 108_000, **wrapper_kwargs: Any) -> VecEnv:
    return make_atari_env(
        f"{game}NoFrameskip-v4",
        2,
        env_kwargs=dict(max_num_frames_per_episode=max_frames),
        wrapper_kwargs=dict(noop_max=0, **wrapper_kwargs),
    )


def ours(game: str, max_frames: int = 108_000, **kwargs: Any) -> VecEnv:
    games = AtariVecEnv(game, 2, noop_max=0, max_frames=max_frames)
    return AtariTrainingView(VecMonitor(games), **kwargs)


# Freeway needs no "fire" to start, and without no-ops and sticky actions nothing is left to chance


def test_a_whole_game_is_the_same_as_through_sb3() -> None:
    n_steps = 2_100  # a game lasts 2,045 or so
    a, b = (
        play(env, n_steps, favour=0.7)  # up, across the road
        for env in (theirs("Freeway", clip_reward=False), ours("freeway", clip_reward=False))
    )
    np.testing.assert_array_equal(a["rewards"], b["rewards"])
    np.testing.assert_array_equal(a["dones"], b["dones"])
    assert np.sum(a["dones"]) == 2 and np.sum(a["rewards"]) > 0
    for x, y in zip(a["infos"], b["infos"], strict=True):
        for left, right in zip(x, y, strict=True):
            assert left["TimeLimit.truncated"] == right["TimeLimit.truncated"]
            assert ("episode" in left) == ("episode" in right)
            if "episode" in left:
                assert left["episode"]["r"] == right["episode"]["r"]
                assert left["episode"]["l"] == 4 * right["episode"]["l"]  # theirs counts frames
    frames = [np.stack(x["observations"]).squeeze() for x in (a, b)]  # (n, 2, 84, 84)
    assert frames[0].shape == frames[1].shape and frames[0].dtype == frames[1].dtype == np.uint8
    differences = np.abs(frames[0].astype(int) - frames[1].astype(int))
    worst = differences.mean((2, 3)).max()
    print(f"mean difference of a pixel {differences.mean():.2f} of 255, in the worst frame {worst:.2f}")
    assert differences.mean() < 3.0


def test_time_limits_are_as_through_sb3() -> None:
    a, b = (play(make("Freeway" if make is theirs else "freeway", max_frames=403), 230) for make in (theirs, ours))
    np.testing.assert_array_equal(a["dones"], b["dones"])
    n_ends = 0
    for x, y in zip(a["infos"], b["infos"], strict=True):
        for left, right in zip(x, y, strict=True):
            assert left["TimeLimit.truncated"] == right["TimeLimit.truncated"]
            assert ("terminal_observation" in left) == ("terminal_observation" in right)
            n_ends += right["TimeLimit.truncated"]
    assert n_ends == 2 * (230 // 101)
    # The last frame of a game is not the first of the next
    ends = [(i, info) for i, infos in enumerate(b["infos"]) for info in infos[:1] if "terminal_observation" in info]
    for i, info in ends:
        assert (info["terminal_observation"] != b["observations"][i + 1][0]).any()


def test_lost_lives_end_episodes_while_the_game_and_its_score_go_on() -> None:
    kwargs: dict[str, Any] = dict(env_id="BreakoutNoFrameskip-v4", n_envs=2, seed=3)
    whole = make_atari_vec_env(**kwargs, terminal_on_life_loss=False, clip_reward=False)
    lives = make_atari_vec_env(**kwargs)
    np.testing.assert_array_equal(whole.reset(), lives.reset())  # type: ignore[arg-type]
    rng, lost, n_games, n_ends, scores = np.random.default_rng(0), np.zeros(2, bool), np.zeros(2), np.zeros(2), []
    for _ in range(700):
        actions = rng.integers(4, size=2)
        # After a lost life "fire", which is 1, comes first, whatever the agent does
        frames, rewards, over, infos = whole.step(np.where(lost, 1, actions))
        frames_of_lives, signs, dones, infos_of_lives = lives.step(actions)
        np.testing.assert_array_equal(frames, frames_of_lives)  # type: ignore[arg-type]
        np.testing.assert_array_equal(np.sign(rewards), signs)
        for info, other, done in zip(infos, infos_of_lives, dones, strict=True):
            assert info.get("episode", {}).get("r") == other.get("episode", {}).get("r")
            assert not done or ("terminal_observation" in other and not other["TimeLimit.truncated"])
        scores += [info["episode"]["r"] for info in infos if "episode" in info]
        lost, n_games, n_ends = dones & ~over, n_games + over, n_ends + dones
    assert len(scores) >= 4
    assert ((5 * n_games <= n_ends) & (n_ends < 5 * (n_games + 1))).all(), "five lives a game"


@pytest.mark.parametrize("make", [theirs, ours])
def test_a_game_is_served_after_a_lost_life_though_the_agent_does_nothing(make: Any) -> None:
    env = make("Breakout" if make is theirs else "breakout")
    env.reset()
    dones = np.stack([env.step(np.zeros(2, dtype=int))[2] for _ in range(300)])
    assert (dones.sum(axis=0) >= 10).all()  # a life lasts 25 steps
    env.close()


def test_a_reset_forgets_the_lost_life(monkeypatch: pytest.MonkeyPatch) -> None:
    env = ours("breakout")
    sent: list[list[int]] = []
    step_async = env.venv.step_async  # type: ignore[attr-defined]
    monkeypatch.setattr(env.venv, "step_async", lambda actions: (sent.append(list(actions)), step_async(actions)))  # type: ignore[attr-defined]
    env.reset()
    while not env.step(np.zeros(2, dtype=int))[2].any():
        pass
    env.reset()
    env.step(np.zeros(2, dtype=int))
    assert sent[-1] == [0, 0]
    env.close()


def test_fire_is_found_where_there_is_one() -> None:
    kwargs: dict[str, Any] = dict(n_envs=1, n_threads=1)
    fires = {name: make_atari_vec_env(f"ALE/{name}-v5", **kwargs).unwrapped.fire for name in ("Pong", "Freeway")}  # type: ignore[attr-defined]
    assert fires == {"Pong": 1, "Freeway": None}
    assert AtariVecEnv("freeway", 1, full_action_space=True).fire == 1


def test_logged_scores_are_true_where_rewards_are_clipped() -> None:
    told = play(make_atari_vec_env("ALE/MsPacman-v5", 2, seed=0, terminal_on_life_loss=False), 800)
    assert set(np.unique(told["rewards"])) <= {-1.0, 0.0, 1.0}
    assert max(scores_of(told)) > 100


@pytest.mark.parametrize(("env_id", "sticky"), [("ALE/Pong-v5", True), ("PongNoFrameskip-v4", False)])
def test_the_seed_and_sticky_actions(env_id: str, sticky: bool) -> None:
    first, second, other = (
        np.stack(play(make_atari_vec_env(env_id, 2, seed=seed), 60)["observations"]) for seed in (0, 0, 7)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    # No-ops differ between the two; without them only sticky actions can make them differ
    games = AtariVecEnv("pong", 2, noop_max=0, action_repeat_probability=0.25 * sticky)
    games.seed(0)
    frames = np.stack(play(games, 60)["observations"])
    assert (frames[:, 0] != frames[:, 1]).any() == sticky


@pytest.mark.parametrize("n_stack", [1, 4])
def test_models_learn_and_are_evaluated_in_it(n_stack: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # A game that ends after 60 actions, not after a thousand
    kwargs = dict(game="pong", max_num_frames_per_episode=240)
    monkeypatch.setitem(gym.registry, "ShortPong-v0", EnvSpec("ShortPong-v0", "ale_py.env:AtariEnv", kwargs=kwargs))
    env = make_atari_vec_env("ShortPong-v0", 2, seed=0, n_stack=n_stack)
    assert env.observation_space.shape == (n_stack, 84, 84) and isinstance(env, VecFrameStack) == (n_stack > 1)
    for model_class in (DQN, RecurrentDQN):
        model = model_class("CnnPolicy", env, buffer_size=500, learning_starts=50, seed=0)
        model.learn(80)
        evaluation = make_atari_vec_env("ShortPong-v0", 1, seed=1, n_stack=n_stack)
        # Warns when no Monitor tells the true scores
        score, _ = evaluate_policy(model, evaluation, 1)
        assert -3 <= score <= 0
    assert model.replay_buffer.tapes.observations.shape[2:] == (1, 84, 84)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "words"),
    [
        ("CartPole-v1", {}, ["'CartPole-v1' is no Atari game"]),
        ("Ping-v5", {}, ["'Ping-v5' is no Atari game", "ALE/Pong-v5"]),
        ("ALE/Pong-v5", dict(n_envs=0), ["n_envs=0"]),
        ("ALE/Pong-v5", dict(n_stack=0), ["n_stack=0"]),
        ("ALE/Pomg-v5", {}, ["Did you mean 'ALE/Pong-v5'?"]),
        (None, {}, ["None is no Atari game"]),
        ("ALE/Pong-v5", dict(n_envs=1.5), ["n_envs=1.5 must be an integer"]),
        ("ALE/Pong-v5", dict(n_stack=True), ["n_stack=True must be an integer"]),
        ("ALE/Pong-v5", dict(seed=-1), ["seed=-1 must be an integer from 0 to 4294967295"]),
        ("ALE/Pong-v5", dict(seed=2**32), ["seed=4294967296 must be"]),
        ("ALE/Pong-v5", dict(seed=1.5), ["seed=1.5 must be"]),
        ("ALE/Pong-v5", dict(screen_size=0), ["screen_size=0 must be"]),
        ("ALE/Pong-v5", dict(frame_skip=float("nan")), ["frame_skip=nan must be"]),
        ("ALE/Pong-v5", dict(noop_max=-1), ["noop_max=-1 must be"]),
        ("ALE/Pong-v5", dict(n_threads=-1), ["n_threads=-1 must be"]),
        ("ALE/Pong-v5", dict(action_repeat_probability=float("nan")), ["action_repeat_probability=nan must be"]),
        ("ALE/Pong-v5", dict(action_repeat_probability=1.5), ["action_repeat_probability=1.5 must be", "Atari's own"]),
        ("ALE/Pong-v5", dict(terminal_on_life_loss="no"), ["terminal_on_life_loss='no' must be True or False"]),
        ("ALE/Pong-v5", dict(clip_reward=1), ["clip_reward=1 must be True or False"]),
    ],
)
def test_bad_input(env_id: str, kwargs: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        make_atari_vec_env(env_id, **kwargs)
    assert all(word in str(error.value) for word in words)


def test_bad_input_of_the_classes() -> None:
    for wrong in (dict(game="ping"), dict(game=3), dict(full_action_space="no"), dict(max_frames=0)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AtariVecEnv(**{"game": "pong", "n_envs": 1, **wrong})
    games = AtariVecEnv("pong", np.int64(1), screen_size=np.int32(42), frame_skip=np.int64(4), noop_max=np.int64(3))
    assert games.reset().shape == (1, 1, 42, 42)
    with pytest.raises(ValueError, match="clip_reward=None"):
        AtariTrainingView(games, clip_reward=None)  # type: ignore[arg-type]
    games.close()


def test_what_it_cannot_do_it_says() -> None:
    env = make_atari_vec_env("ALE/Pong-v5", 1)
    with pytest.raises(NotImplementedError, match="does not render"):
        env.get_images()
    with pytest.raises(AttributeError, match="no method 'get_ram'"):
        env.env_method("get_ram")
    env.close()


@pytest.mark.parametrize("seed", [None, 0, 5, 2**31 - 2, 2**31 - 1, 2**31, 2**32 - 1, np.uint32(2**32 - 1)])
def test_every_seed_is_taken(seed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Stable-Baselines3 draws one where none is given: the largest that it can draw
    monkeypatch.setattr(np.random, "randint", lambda low, high, dtype: np.array(high - 1, dtype))
    env = make_atari_vec_env("ALE/Pong-v5", 2, seed=seed)
    seeds: list[Any] = []
    reset = env.unwrapped.games.reset
    monkeypatch.setattr(env.unwrapped.games, "reset", lambda seed: seeds.append(seed) or reset(seed=seed))
    assert env.reset().shape == (2, 1, 84, 84)
    first = 2**32 - 2 if seed is None else int(seed)
    assert seeds[0].tolist() == [first % 2**31, (first + 1) % 2**31]
    env.reset()
    assert seeds[1].tolist() == [-1, -1]  # a seed is used once
    env.close()
