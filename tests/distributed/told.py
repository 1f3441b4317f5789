"""Ledgers in other processes, which write down what they did, and fail in every way when they are told to."""

import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from tests.ledger import Episode, Ledger, Place

ENDS = ("terminated", "truncated")


class ToldLedger(Ledger):
    """
    :param folder: where it writes what it did, a line a step
    :param failures: what it does at which of its steps, once in all processes: "kill", "raise" or "hang"
    """

    def __init__(self, folder: str, failures: dict[str, int]) -> None:
        self.folder, self.failures = Path(folder), failures
        env_id = next(number for number in itertools.count() if self._first(f"env-{number}"))
        super().__init__(env_id, lengths=(5, 3, 9), ends=ENDS)
        self._log = (self.folder / f"{env_id}.txt").open("w", buffering=1)

    def _first(self, name: str) -> bool:
        """:return: whether nobody asked for this name before"""
        try:
            os.close(os.open(self.folder / name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def step(self, action: int) -> Any:
        for failure, when in self.failures.items():
            if self.n_calls + 1 == when and self._first(failure):
                if failure == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if failure == "hang":
                    time.sleep(10**6)
                raise RuntimeError("the ledger was told to fail")
        place = self.episode, self.step_number
        frame, reward, terminated, truncated, info = super().step(action)
        end = "terminated" if terminated else "truncated" if truncated else "open"
        self._log.write(f"{place[0]} {place[1]} {int(action)} {reward} {end}\n")
        return frame, reward, terminated, truncated, info


def make_told(folder: str, failures: dict[str, int]) -> VecEnv:
    return DummyVecEnv([lambda: ToldLedger(folder, failures) for _ in range(2)])


def read_told(folder: Path) -> dict[tuple[int, int], Episode]:
    """:return: (environment, episode) -> what it was, from all that was written"""
    episodes: dict[tuple[int, int], Episode] = {}
    for path in folder.glob("*.txt"):
        env = int(path.stem)
        for line in path.read_text(encoding="utf-8").splitlines():
            number, step, action, reward, end = line.split()
            episode = episodes.setdefault((env, int(number)), Episode([]))
            assert len(episode.actions) == int(step)
            episode.actions.append(int(action))
            episode.rewards.append(float(reward))
            episode.end = end
    return episodes


def places_of(episodes: dict[tuple[int, int], Episode]) -> set[Place]:
    return {Place(*key, step) for key, one in episodes.items() for step in range(len(one.actions))}
