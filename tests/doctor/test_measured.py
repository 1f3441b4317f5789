"""What the doctor measures itself: in the replay buffer, with the agent, and of the time; and what it makes of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.save_util import save_to_pkl
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.doctor import diagnose_run
from sb3_attnmem.doctor.cause import Cause
from sb3_attnmem.doctor.causes_of_data import endless, exploration
from sb3_attnmem.doctor.causes_of_evaluation import evaluation
from sb3_attnmem.doctor.causes_of_replay import limit_as_end, rewards_rare, stale_states, windows_empty
from sb3_attnmem.doctor.causes_of_time import evaluates_too_often, measure_pace, one_at_a_time, too_many_updates
from sb3_attnmem.doctor.memory_use import memory_causes
from sb3_attnmem.doctor.progress_of_run import Progress
from sb3_attnmem.doctor.records import RunRecord
from sb3_attnmem.doctor.run import ILL, judge
from sb3_attnmem.doctor.stored import Stored, read_stored
from sb3_attnmem.doctor.trial import Trial
from sb3_attnmem.inspection.memory.history import score_against_history
from sb3_attnmem.replay import SequenceReplayBuffer
from tests.doctor import worlds

BOX, ACTIONS = spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(2)
GAINED = Progress(first=10.0, last=60.0, best=60.0, gain=9.0, rising=False, solved=False, n_scores=200)


def episodes_into(buffer: ReplayBuffer, lengths: list[tuple[int, bool, bool]]) -> None:
    """Steps of one environment, each of the number of its episode; (steps, terminated, truncated)"""
    for number, (length, terminated, truncated) in enumerate(lengths):
        for t in range(length):
            seen, done = np.full((1, 2), number, np.float32), t + 1 == length and (terminated or truncated)
            infos: list[dict[str, Any]] = [{"TimeLimit.truncated": done and truncated}]
            if done:
                infos[0]["terminal_observation"] = seen[0]
            buffer.add(seen, seen, np.array([0]), np.array([float(number)]), np.array([done]), infos)


def plain_buffer(size: int) -> ReplayBuffer:
    return ReplayBuffer(size, BOX, ACTIONS, device="cpu", handle_timeout_termination=True)


def sequence_buffer(size: int) -> ReplayBuffer:
    buffer = SequenceReplayBuffer(size, BOX, ACTIONS, device="cpu", sequence_length=4, state_interval=1)
    buffer.allocate()
    return buffer


@pytest.mark.parametrize("make", [plain_buffer, sequence_buffer], ids=["SB3's", "sequences"])
def test_what_a_buffer_holds(make: Callable[[int], ReplayBuffer], tmp_path: Path) -> None:
    buffer = make(100)
    episodes_into(buffer, [(3, True, False), (5, False, True), (2, False, False)])
    save_to_pkl(tmp_path / "replay_buffer.pkl", buffer)
    stored = read_stored(tmp_path / "replay_buffer.pkl")
    assert stored.rewards.tolist() == [0.0] * 3 + [1.0] * 5 + [2.0] * 2
    assert stored.lengths.tolist() == [3, 5, 2]
    assert stored.terminated.tolist() == [True, False, False], "a time limit is no termination"
    assert stored.whole.tolist() == [True, True, False], "the last one goes on"
    assert stored.observations is not None and stored.observations[:, 0].tolist() == stored.rewards.tolist()
    assert (stored.padding is None) == (make is plain_buffer)
    # Written over: the oldest piece lost its beginning
    episodes_into(buffer, [(96, True, False)])
    save_to_pkl(tmp_path / "replay_buffer.pkl", buffer)
    stored = read_stored(tmp_path / "replay_buffer.pkl")
    # SB3's buffer took the first of the 96 for what the open episode goes on with
    assert stored.lengths.sum() == len(stored.rewards) and not stored.whole[0] and stored.terminated[-1]


def test_padding_is_measured(tmp_path: Path) -> None:
    buffer = sequence_buffer(4)
    episodes_into(buffer, [(4, False, False)])
    save_to_pkl(tmp_path / "b.pkl", buffer)
    padding = read_stored(tmp_path / "b.pkl").padding
    # Seven windows of four steps touch four transitions, and hold 16 steps of 28
    assert padding == pytest.approx(1 - 16 / 28, abs=0.05)


def test_what_is_no_buffer_is_told(tmp_path: Path) -> None:
    save_to_pkl(tmp_path / "replay_buffer.pkl", [1, 2])
    with pytest.raises(ValueError, match="holds list"):
        read_stored(tmp_path / "replay_buffer.pkl")


def stored(rewards: Any = (), lengths: Any = (), terminated: Any = (), **more: Any) -> Stored:
    lengths = np.asarray(lengths, float)
    told: dict[str, Any] = dict(
        whole=np.ones(len(lengths), bool), room=1_000, padding=None, observations=None, buffer=None
    )
    return Stored(np.asarray(rewards, float), lengths, np.asarray(terminated, bool), **{**told, **more})


def record(**told: Any) -> RunRecord:
    settings = dict(
        batch_size=16, sequence_length=32, train_freq=(32, "transition"), gradient_steps=1, buffer_size=10_000
    )
    return RunRecord(Path(), algo="rdqn", total_steps=10_000, settings={**settings, **told.pop("settings", {})}, **told)


def names(found: Iterator[Cause]) -> list[tuple[str, bool]]:
    """Names, and whether each is an illness where nothing learns"""
    return [(cause.name, cause.score >= ILL) for cause in found]


def test_rewards_that_are_too_rare() -> None:
    once = np.zeros(5_000)
    once[7] = 1.0
    assert names(rewards_rare(record(stored=stored(once)), None)) == [("rewards_rare", True)]
    often = np.zeros(5_000)
    often[::100] = 1.0
    assert not names(rewards_rare(record(stored=stored(often)), None))
    # Where all rewards are the same, ends tell
    assert not names(rewards_rare(record(stored=stored(np.ones(5_000), [50] * 100, [True] * 100)), None))
    assert names(rewards_rare(record(stored=stored(np.ones(5_000), [50] * 100, [False] * 100)), None))


def test_limits_that_are_stored_as_ends() -> None:
    lengths, ends = [500] * 5 + [80, 90], [True] * 7
    told = record(env_id="CartPole-v1", stored=stored((), lengths, ends))
    assert names(limit_as_end(told, None)) == [("limit_as_end", True)]
    for env_id, lengths, ends in [
        ("CartPole-v1", [500] * 5 + [80, 90], [False] * 5 + [True] * 2),
        ("CartPole-v1", [500] * 7, [True] * 7),
        ("X", [500] * 5 + [80, 90], [True] * 7),
    ]:
        assert not names(limit_as_end(record(env_id=env_id, stored=stored((), lengths, ends)), None))


def test_windows_and_states() -> None:
    assert names(windows_empty(record(stored=stored(padding=0.5)), None)) == [("windows_empty", True)]
    assert not names(windows_empty(record(stored=stored(padding=0.1)), None))
    logged = {"train/padded_share": (np.ones(4), np.full(4, 0.5))}
    assert names(windows_empty(record(figures=logged), None)) == [("windows_empty", True)]
    assert names(stale_states(record(staleness=(0.9, 0.5)), None)) == [("states_stale", True)]
    assert not names(stale_states(record(staleness=(0.9, 0.02)), None))
    logged = {f"train/delta_q_{name}": (np.ones(4), np.full(4, 0.5)) for name in ("first", "last")}
    assert names(stale_states(record(figures=logged), None)) == [("states_stale", True)]


def timed(warm_up: float, training: float, **told: Any) -> RunRecord:
    """100 episodes of 20 steps in warm-up, 400 afterwards, at so many steps a second; once it paused for a day."""
    seconds = np.concatenate([np.full(100, 20 / warm_up), np.full(400, 20 / training)])
    seconds[300] += 86_400.0
    settings = {"learning_starts": 2_000, **told.pop("settings", {})}
    return record(episodes=(np.ones(500), np.full(500, 20.0)), ended_at=np.cumsum(seconds), settings=settings, **told)


def test_time_that_updates_take() -> None:
    pace = measure_pace(timed(1_000.0, 100.0))
    assert pace is not None and pace.warm_up == pytest.approx(1_000) and pace.update_share == pytest.approx(0.9)
    often = dict(train_freq=(1, "transition"))
    assert names(too_many_updates(timed(1_000.0, 100.0, settings=often), None)) == [("too_many_updates", True)]
    assert not names(too_many_updates(timed(1_000.0, 900.0, settings=often), None)), "they cost little"
    assert not names(too_many_updates(timed(1_000.0, 100.0), None)), "a replay ratio of 16"
    assert names(one_at_a_time(timed(100.0, 90.0, state=dict(n_envs=1)), None)) == [("one_environment", False)]
    assert not names(one_at_a_time(timed(100.0, 90.0, state=dict(n_envs=8)), None))
    assert names(one_at_a_time(record(settings=dict(num_threads=-1)), None)) == [("threads", False)]
    assert not names(one_at_a_time(record(settings=dict(num_threads=1)), None))


def evaluated(returns: Any, lengths: Any, **told: Any) -> RunRecord:
    returns, lengths = np.asarray(returns, float), np.asarray(lengths, float)
    return record(evaluations=(np.arange(len(returns)), returns, lengths), **told)


def test_evaluations_that_play_more_than_training() -> None:
    told = [("evaluates_too_often", True)]
    for times, steps, expected in [(9, 200_000, told), (9, 40_000, []), (60, 40_000, told), (60, 10_000, [])]:
        run = evaluated([1.0] * times, [9.0] * times, evaluation_steps=steps)
        assert names(evaluates_too_often(run, None)) == expected, (times, steps)


def test_evaluation_of_other_units_or_limits() -> None:
    training = (np.tile([20.0, 25.0], 20), np.tile([20.0, 25.0], 20))
    for returns, lengths, ill in [
        ([0.2] * 10, [20] * 10, True),  # cents
        ([2.5] * 10, [30] * 10, True),  # of an agent that lasts longer: a step tells it, not the return
        ([190.0] * 10, [10] * 10, True),
        ([2_000.0] * 10, [20] * 10, True),
        ([400.0] * 10, [400] * 10, True),  # beyond what half of the episodes of training end at
        ([24.0] * 10, [24] * 10, False),
        ([0.0] * 10, [20] * 10, False),  # it fails, perhaps
    ]:
        found = names(evaluation(evaluated(returns, lengths, episodes=training), None))
        assert found == [("evaluation_differs", True)] * ill, (returns, lengths)
    # A greedy agent may well last longer than it did when it explored, where nothing cut its episodes
    few = np.append(np.arange(5.0, 25.0), 24.0)  # two of the same length are no limit yet
    assert not names(evaluation(evaluated([400.0] * 10, [400] * 10, episodes=(few, few)), None))
    grown = (np.arange(5.0, 45.0), np.arange(5.0, 45.0))
    assert not names(evaluation(evaluated([400.0] * 10, [400] * 10, episodes=grown), None))


def trial(observations: np.ndarray | None = None, normalizes: bool = False, history: Any = None) -> Trial:
    return Trial(np.full(20, 9.0), np.full(20, 9.0), observations, normalizes, history)


def test_another_environment_to_play_in() -> None:
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(500, 3))
    known = stored(observations=seen.astype(np.float32))
    shifted = seen + np.array([0.0, 30.0, 0.0])
    assert names(evaluation(record(stored=known, trial=trial(shifted)), None)) == [("evaluation_differs", True)]
    assert not names(evaluation(record(stored=known, trial=trial(rng.normal(size=(500, 3)))), None))
    normalized = frozenset(["obs"])
    assert names(evaluation(record(normalizes=normalized, trial=trial()), None)) == [("evaluation_differs", True)]
    assert not names(evaluation(record(normalizes=normalized, trial=trial(normalizes=True)), None))


def test_whether_memory_is_used() -> None:
    rng = np.random.default_rng(0)

    def history(full: float, **less: float) -> Any:
        noise = rng.normal(size=20)
        by_k = {int(name[1:]): score for name, score in less.items()}
        return score_against_history(full + noise, lambda k: by_k[k] + noise + 0.01 * rng.normal(size=20), 8, 4, 0.05)

    unused = record(trial=trial(history=history(50, k1=50, k2=50, k4=50)))
    assert names(memory_causes(unused, GAINED, 16))[0] == ("memory_not_used", True)
    assert names(memory_causes(unused, None, None)) == [("memory_not_used", False)], "perhaps none is needed"
    assert not any(name == "memory_not_used" for name, _ in names(memory_causes(unused, None, 1)))
    used = record(trial=trial(history=history(50, k1=10, k2=20, k3=50, k4=50)))
    assert not names(memory_causes(used, None, None))
    misled = record(trial=trial(history=history(50, k1=10, k2=90, k3=80, k4=70)))
    assert names(memory_causes(misled, GAINED, 2)) == [("memory_misleads", True)]


def test_ends_that_a_wrapper_hides() -> None:
    hidden = record(state=dict(_episode_num=0), episodes=(np.ones(30), np.full(30, 20.0)))
    assert names(endless(hidden, None)) == [("endless", True)]
    hidden.state["_episode_num"] = 30
    assert not names(endless(hidden, None))


def test_a_score_that_rose_and_stopped_does_not_speak_for_exploration() -> None:
    never = record(settings=dict(exploration_initial_eps=0.0, exploration_final_eps=0.0))
    (cause,) = exploration(never, GAINED)
    assert judge(cause, GAINED).severity == "problem"
    assert judge(cause, GAINED._replace(rising=True)).severity != "problem"
    assert judge(cause, GAINED._replace(solved=True)).severity != "problem"
    assert judge(cause._replace(limits=False), GAINED).severity != "problem"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of an agent with memory, its replay buffer saved."""
    folder = tmp_path_factory.mktemp("runs") / "Echo_1"
    folder.mkdir()
    envs = make_vec_env(worlds.Echo, 2, seed=0, monitor_dir=str(folder))
    model = RecurrentDQN(
        "MlpPolicy", envs, seed=0, device="cpu", learning_starts=50, train_freq=8, buffer_size=1_000, batch_size=4,
        sequence_length=8, burn_in=0, n_steps=1, policy_kwargs=dict(memory_kwargs=dict(hidden_size=4)),
    )  # fmt: skip
    model.set_logger(configure(str(folder), ["csv"]))
    model.learn(300, log_interval=1)
    model.save(folder / "model.zip")
    model.save_replay_buffer(folder / "replay_buffer.pkl")
    return folder


def test_a_real_agent_is_played(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.iterdir()}
    th.manual_seed(3)
    expected = th.rand(1)
    th.manual_seed(3)
    report = diagnose_run(run, need=2, env=make_vec_env(worlds.Echo, 4), episodes=4)
    assert th.rand(1) == expected, "random generators are left alone"
    replay, played = report.figures["replay"], report.figures["trial"]
    assert replay["transitions"] >= 300 and replay["terminated"] > 10 and 0 <= replay["delta_q"][1] < 10
    assert len(played["returns"]) == 4 and set(played["history"]) >= {1, 2, 4} and '"trial"' in report.to_json()
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    # Nothing is played unless asked for; what is saved is read all the same
    quiet = diagnose_run(run, need=2)
    assert quiet.figures["trial"] is None and quiet.figures["replay"]["delta_q"] == replay["delta_q"]


def test_the_environment_must_fit(run: Path) -> None:
    with pytest.raises(ValueError, match="observation_space"):
        diagnose_run(run, env=worlds.Wide())
    with pytest.raises(ValueError, match="episodes=0"):
        diagnose_run(run, env=worlds.Echo(), episodes=0)


def test_a_file_that_cannot_be_read_is_told_and_the_rest_is_read(run: Path, tmp_path: Path) -> None:
    for name in ("progress.csv", "0.monitor.csv", "model.zip"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / "replay_buffer.pkl").write_bytes(b"no pickle")
    report = diagnose_run(tmp_path)
    assert any("replay buffer" in told for told in report.unseen) and report.figures["steps"] >= 300


def test_normalised_observations_are_not_taken_for_raw_ones(run: Path, tmp_path: Path) -> None:
    for path in run.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    VecNormalize(make_vec_env(worlds.Echo)).save(str(tmp_path / "vecnormalize.pkl"))
    assert diagnose_run(tmp_path).figures["replay"]["delta_q"] is None
    report = diagnose_run(tmp_path, env=make_vec_env(worlds.Echo), episodes=2)
    assert report.problems[0].name == "evaluation_differs"
