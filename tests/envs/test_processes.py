"""No process of an environment outlives its run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sb3_attnmem.envs import EndingSubprocVecEnv

# The first environment answers after the run was killed, the second never
RUN = """
import sys, time
import numpy as np
import gymnasium as gym
from {module} import {name} as Envs

class Slow(gym.Env):
    observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    def __init__(self, seconds):
        self.seconds = seconds
    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {{}}
    def step(self, action):
        time.sleep(self.seconds)
        return np.zeros(1, np.float32), 0.0, False, False, {{}}

if __name__ == "__main__":
    env = Envs([lambda: Slow(0.5), lambda: Slow(1_000.0)], start_method={start_method!r})
    env.reset()
    env.step_async(np.zeros(2, int))
    print(*(process.pid for process in env.processes), flush=True)
    env.step_wait()
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill_a_run(folder: Path, start_method: str, name: str = "EndingSubprocVecEnv") -> tuple[list[int], Path]:
    """:return: the processes of its environments, and what they wrote"""
    module = "sb3_attnmem.envs" if name == "EndingSubprocVecEnv" else "stable_baselines3.common.vec_env"
    script, errors = folder / "run.py", folder / "errors"
    script.write_text(RUN.format(module=module, name=name, start_method=start_method), encoding="utf-8")
    with errors.open("w") as file:
        command = [sys.executable, str(script)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True) as run:
            assert run.stdout is not None
            workers = [int(pid) for pid in run.stdout.readline().split()]
            assert len(workers) == 2 and all(map(is_alive, workers))
            os.kill(run.pid, signal.SIGKILL)
    return workers, errors


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
@pytest.mark.parametrize("start_method", ["fork", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_processes_end_with_a_run_that_is_killed(tmp_path: Path, start_method: str) -> None:
    workers, errors = kill_a_run(tmp_path, start_method)
    deadline = time.monotonic() + 60
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in workers if is_alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
    assert "Traceback" not in errors.read_text(encoding="utf-8")


def test_it_steps_as_sb3_s_does() -> None:
    import gymnasium as gym
    import numpy as np

    env = EndingSubprocVecEnv([lambda: gym.make("CartPole-v1")], start_method="fork")
    env.seed(3)
    first = env.reset()
    np.testing.assert_array_equal(first[0], gym.make("CartPole-v1").reset(seed=3)[0])
    assert env.step(np.array([1]))[0].shape == (1, 4)
    env.close()
    assert not any(process.is_alive() for process in env.processes)
