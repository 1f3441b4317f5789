"""What the doctor says of runs: planted illnesses, and none where there is none."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.doctor import diagnose_run
from sb3_attnmem.doctor.algorithms import FAMILIES
from sb3_attnmem.doctor.cause import per_update
from sb3_attnmem.doctor.causes_of_data import endless
from sb3_attnmem.doctor.records import RunRecord, read_run
from tests.doctor import worlds

#: a run of RecurrentDQN in which nothing is odd but the score
PLAIN: dict[str, Any] = dict(
    learning_rate=1e-3, gamma=0.99, tau=0.02, target_update_interval=1, target_update_unit="updates", batch_size=16,
    sequence_length=64, burn_in=0, train_freq=(32, "transition"), gradient_steps=1, learning_starts=1_000,
    buffer_size=1_000_000, exploration_initial_eps=1.0, exploration_final_eps=0.05, exploration_ladder=0.0,
    max_grad_norm=10.0, normalize_returns=True, value_rescaling=False, state_init="stored", policy_kwargs={},
)  # fmt: skip
FIGURES = {"train/q_mean": 3.0, "train/td_error": 0.2, "train/grad_norm": 1.0, "train/replay_ratio": 32.0,
           "train/n_updates": 3_000.0, "rollout/exploration_rate": 0.05}  # fmt: skip
STUCK, RISING = np.tile([8.0, 12.0], 100), np.linspace(10, 90, 200)


def write_run(
    folder: Path, scores: np.ndarray, figures: dict[str, float], evaluations: np.ndarray | None = None, length: int = 50
) -> Path:
    """A folder as a run of 100,000 steps leaves it."""
    steps = np.linspace(2_000, 100_000, 20)
    with (folder / "progress.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time/total_timesteps", *figures])
        for step in steps:
            rows.writerow([step, *figures.values()])
    with (folder / "0.monitor.csv").open("w", newline="") as file:
        file.write('#{"t_start": 0.0, "env_id": "X"}\n')
        rows = csv.writer(file)
        rows.writerow(["r", "l", "t"])
        rows.writerows([score, length, i] for i, score in enumerate(scores))
    if evaluations is not None:
        np.savez(
            folder / "evaluations.npz", timesteps=steps[: len(evaluations)], results=evaluations[:, None],
            ep_lengths=np.ones((len(evaluations), 1)),
        )  # fmt: skip
    return folder


CASES: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "no_updates": (dict(learning_starts=10**6), {"train/n_updates": 0.0}),
    "few_updates": (dict(train_freq=(4_096, "transition")), {"train/replay_ratio": 0.25, "train/n_updates": 24.0}),
    "target_rarely_copied": (dict(tau=1.0, target_update_interval=10_000), {}),
    "target_follows": (dict(tau=1.0), {}),
    "rate_too_small": (dict(learning_rate=1e-8), {}),
    "rate_too_large": (dict(learning_rate=0.3), {}),
    "gradient_clipped": (dict(max_grad_norm=1e-3), {}),
    "values_too_large": (dict(normalize_returns=False), {"train/q_mean": 600.0, "train/td_error": 90.0}),
    "values_diverge": ({}, {"train/q_mean": 1e5}),
    "gamma_too_small": (dict(gamma=0.3), {}),
    "gamma_one": (dict(gamma=1.0), {}),
    "explores_too_much": (dict(exploration_final_eps=0.9), {"rollout/exploration_rate": 0.9}),
    "explores_too_little": (dict(exploration_initial_eps=0.0), {"rollout/exploration_rate": 0.0}),
    "buffer_too_small": (dict(buffer_size=300), {}),
    "window_too_short": (dict(sequence_length=3), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_an_illness_is_named_first_or_second_and_only_where_it_is(name: str, tmp_path: Path) -> None:
    settings, figures = CASES[name]
    length = 150 if name == "gamma_one" else 50
    write_run(tmp_path, STUCK, {**FIGURES, **figures}, length=length)
    report = diagnose_run(tmp_path, {**PLAIN, **settings}, "rdqn")
    assert name in [finding.name for finding in report.problems[:2]], str(report)
    assert report.exit_code == 1 and report.problems[0].advice
    assert report.findings[0].name == "progress" and "does not learn" in report.findings[0].title
    # With plain settings the same score has no such cause
    write_run(tmp_path, STUCK, FIGURES, length=length)
    assert diagnose_run(tmp_path, PLAIN, "rdqn").problems == []


@pytest.mark.parametrize("name", CASES)
def test_evaluations_in_other_units_tell_nothing_of_progress(name: str, tmp_path: Path) -> None:
    """10,000 in thousands of the environment's rewards is no score that solves it, and hides no illness."""
    settings, figures = CASES[name]
    folder = tmp_path / "CartPole-v1_1"  # whose threshold is 475
    folder.mkdir()
    length = 150 if name == "gamma_one" else 50
    write_run(folder, STUCK, {**FIGURES, **figures}, evaluations=np.linspace(5_000, 10_000, 20), length=length)
    report = diagnose_run(folder, {**PLAIN, **settings}, "rdqn")
    assert {name, "evaluation_differs"} <= {finding.name for finding in report.problems}, str(report)
    assert "does not learn" in report.findings[0].title


def test_what_learns_is_not_ill(tmp_path: Path) -> None:
    write_run(tmp_path, RISING, {**FIGURES, "train/replay_ratio": 2.0})
    report = diagnose_run(tmp_path, PLAIN, "rdqn")
    assert report.exit_code == 0 and "It learns" in report.findings[0].title
    assert "few_updates" in [finding.name for finding in report.findings], "but it is told"


def test_evaluation_that_sees_something_else(tmp_path: Path) -> None:
    write_run(tmp_path, RISING, FIGURES, evaluations=np.full(20, 9.0))
    report = diagnose_run(tmp_path, PLAIN, "rdqn")
    assert [finding.name for finding in report.problems] == ["evaluation_differs"]
    write_run(tmp_path, RISING, FIGURES, evaluations=np.linspace(10, 100, 20))
    assert diagnose_run(tmp_path, PLAIN, "rdqn").problems == []


def test_memory_that_the_task_asks_for(tmp_path: Path) -> None:
    write_run(tmp_path, RISING, FIGURES)
    for settings, need, name in [
        (dict(policy_kwargs=dict(memory_class="none")), 2, "no_memory"),
        (dict(sequence_length=16, n_steps=3), 32, "window_too_short"),
        (dict(policy_kwargs=dict(memory_class="window", memory_kwargs=dict(window=4))), 32, "memory_too_short"),
    ]:
        report = diagnose_run(tmp_path, {**PLAIN, **settings}, "rdqn", need=need)
        assert name in [finding.name for finding in report.problems]
        assert name not in [finding.name for finding in diagnose_run(tmp_path, {**PLAIN, **settings}, "rdqn").problems]


@pytest.mark.parametrize(
    "name", ["rdqn", "rqrdqn", "dqn", "qrdqn", "ppo", "ppo_mask", "ppo_lstm", "a2c", "trpo", "sac"]
)
def test_what_algorithm_and_whether_it_has_a_memory(name: str, tmp_path: Path) -> None:
    other: dict[str, type] = {"ppo_mask": MaskablePPO, "sac": SAC}
    algorithm: Any = {**FAMILIES, **other}[name]
    policy = {"rdqn": "MlpLstmPolicy", "rqrdqn": "MlpLstmPolicy", "ppo_lstm": "MlpLstmPolicy"}.get(name, "MlpPolicy")
    folder = tmp_path / ("sac" if name == "sac" else "named by a user") / "X_1"
    folder.mkdir(parents=True)
    algorithm(policy, "Pendulum-v1" if name == "sac" else "CartPole-v1", device="cpu").save(folder / "model.zip")
    write_run(folder, RISING, {})
    record, report = read_run(folder), diagnose_run(folder, need=2)
    assert record.algo == {"ppo_mask": "ppo"}.get(name, name)
    without = name not in ("rdqn", "rqrdqn", "ppo_lstm")
    assert (record.memory == "none") == without
    assert ("no_memory" in [one.name for one in report.findings]) == without


def test_windows_of_a_recurrent_ppo(tmp_path: Path) -> None:
    write_run(tmp_path, RISING, {})
    for n_steps, expected in [(16, True), (128, False)]:
        report = diagnose_run(tmp_path, dict(n_steps=n_steps), "ppo_lstm", need=32)
        assert ("window_too_short" in [finding.name for finding in report.problems]) == expected


@pytest.mark.parametrize("name", ["ppo", "ppo_lstm", "a2c", "trpo"])
def test_values_too_large_of_an_actor_critic(name: str, tmp_path: Path) -> None:
    """Their value loss tells, squared, where Monitor wrote down rewards before they were made large."""
    for value_loss, expected in [(1e6, True), (10.0, False)]:
        write_run(tmp_path, STUCK, {"train/value_loss": value_loss})
        report = diagnose_run(tmp_path, dict(gamma=0.99), name)
        assert ("values_too_large" in [finding.name for finding in report.problems]) == expected


def test_nothing_found_and_no_end(tmp_path: Path) -> None:
    write_run(tmp_path, np.full(50, -200.0), FIGURES)
    assert diagnose_run(tmp_path, PLAIN, "rdqn").problems[0].name == "nothing_found"
    write_run(tmp_path, np.zeros(0), FIGURES)
    assert diagnose_run(tmp_path, PLAIN, "rdqn").problems[0].name == "endless"


def test_a_run_of_which_only_evaluations_tell(tmp_path: Path) -> None:
    write_run(tmp_path, RISING, {}, evaluations=np.linspace(-20, 20, 20))
    for name in ("progress.csv", "0.monitor.csv"):
        (tmp_path / name).unlink()
    report = diagnose_run(tmp_path, {**PLAIN, "learning_starts": 0}, "rdqn")
    assert report.problems == [] and "It learns" in report.findings[0].title
    assert "Evaluations: -17.9 at first" in report.findings[0].evidence
    record = read_run(tmp_path)
    record.total_steps = 100_000
    for told, is_ill in [({}, False), (dict(_episode_num=9), False), (dict(_episode_num=0), True)]:
        record.state = told
        assert ("endless" in [cause.name for cause in endless(record, None)]) == is_ill


@pytest.mark.parametrize(
    "train_freq, n_envs, expected", [((32, "transition"), 8, 32.0), ((4, "step"), 8, 32.0), (4, 1, 4.0)]
)
def test_steps_an_update(train_freq: Any, n_envs: int, expected: float, tmp_path: Path) -> None:
    record = RunRecord(tmp_path, settings=dict(train_freq=train_freq, gradient_steps=1), state=dict(n_envs=n_envs))
    assert per_update(record) == expected
    record.settings["gradient_steps"] = -1
    assert per_update(record) == 1.0


def test_steps_an_update_of_a_saved_model(tmp_path: Path) -> None:
    """Its ``train_freq`` is in steps of its environments, at least one."""
    model = RecurrentDQN("MlpPolicy", make_vec_env("CartPole-v1", 4), train_freq=(1, "transition"), buffer_size=100)
    model.save(write_run(tmp_path, np.zeros(30), {}) / "model.zip")
    assert per_update(read_run(tmp_path)) == 1.0


def test_a_run_that_went_on_is_read_as_one(tmp_path: Path) -> None:
    for name, rows in {"progress.csv": [(100, 1.0), (200, 2.0), (300, 3.0)], "progress_2.csv": [(200, 5.0)]}.items():
        lines = [f"{step},{value}" for step, value in rows]
        (tmp_path / name).write_text("\n".join(["time/total_timesteps,train/loss", *lines]) + "\n")
    record = read_run(tmp_path, {}, "dqn")
    assert record.values("train/loss").tolist() == [1.0, 5.0] and record.total_steps == 200


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no figures of a training"):
        read_run(tmp_path)


@pytest.mark.parametrize("kind", ["csv", "tensorboard"])
@pytest.mark.parametrize(
    "algorithm, env, changes, cause",
    [
        (RecurrentDQN, worlds.Map, {}, "codes_as_image"),
        (DQN, worlds.Echo, dict(target_update_interval=100_000), "target_rarely_copied"),
        (PPO, worlds.Echo, dict(learning_rate=1e-9), "rate_too_small"),
    ],
    ids=["rdqn", "dqn", "ppo"],
)
def test_real_runs(algorithm: Any, env: Any, changes: dict[str, Any], cause: str, kind: str, tmp_path: Path) -> None:
    small: dict[str, Any] = dict(policy_kwargs=dict(net_arch=[8]))
    if algorithm is PPO:
        small.update(n_steps=64, batch_size=32, n_epochs=1)
    else:
        small.update(learning_starts=50, train_freq=2, buffer_size=1_000, batch_size=4)
    if algorithm is RecurrentDQN:
        small.update(sequence_length=8, train_freq=8, policy_kwargs=dict(memory_kwargs=dict(hidden_size=4)))
    envs = make_vec_env(env, 2, seed=0, monitor_dir=str(tmp_path))
    model = algorithm("MlpPolicy", envs, seed=0, device="cpu", **{**small, **changes})
    model.set_logger(configure(str(tmp_path), [kind]))
    model.learn(400, log_interval=1)
    model.logger.close()
    model.save(tmp_path / "model.zip")
    report = diagnose_run(tmp_path)
    assert report.figures["algo"] == {RecurrentDQN: "rdqn", DQN: "dqn", PPO: "ppo"}[algorithm]
    assert report.figures["steps"] >= 400 and report.figures["last"]["rollout/ep_rew_mean"] > 0
    assert cause in [finding.name for finding in report.problems[:2]], str(report)
    told = json.loads(report.to_json())
    assert told["exit_code"] == 1 and told["findings"][1]["score"] >= 0.5


def test_spaces_that_are_pictures_are_let_be(tmp_path: Path) -> None:
    from sb3_attnmem.doctor.causes_of_values import spaces_of

    for shape, ill in [((84, 84, 1), False), ((4, 84, 84), False), ((7, 7, 20), True), ((20, 7, 7), True)]:
        space = spaces.Box(0, 255, shape, np.uint8)
        record = RunRecord(tmp_path, state=dict(observation_space=space), settings=dict(policy_kwargs={}))
        assert bool(list(spaces_of(record, None))) == ill, shape
        record.settings["policy_kwargs"] = dict(normalize_images=False)
        assert not list(spaces_of(record, None))
