"""Episodes to judge an environment by: random play, held actions, a search for what is rare, or a given agent."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_attnmem.doctor.observing import ObservationReader

#: what an episode was played by
UNIFORM, HELD, SEARCHED, AGENT = range(4)
#: observations kept as the environment gave them, to look at
N_KEPT = 2_000
#: steps of an episode before it is left
LONGEST = 5_000

#: (observation, state of its memory, whether an episode begins) -> action, next state
Player = Callable[[Any, Any, bool], tuple[Any, Any]]


class Play(NamedTuple):
    """
    All steps of all episodes, one after another: N steps, E episodes.

    :param observations: (N, D) what was seen before each step, flat
    :param successors: (N, D) what was seen after it
    :param actions: (N,) integers, or (N, A) numbers
    :param rewards: (N,)
    :param terminated: (N,) bool
    :param truncated: (N,) bool; also where an episode was left unfinished
    :param episodes: (N,) number of each step's episode
    :param times: (N,) steps of its episode before each
    :param behaviours: (E,) what each was played by
    :param successes: (E,) what ``info["is_success"]`` told; NaN where nothing did
    :param states: (N, S) the full state, where the environment has an attribute ``state``; None where it has not
    :param raw: observations as the environment gave them, at most ``N_KEPT``
    :param masks: (N, A) bool, the valid actions; None where there are no masks
    :param steps_per_second: of the environment alone
    :param unfinished: (E,) bool, episodes that were left before their end; None: none was
    """

    observations: np.ndarray
    successors: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    episodes: np.ndarray
    times: np.ndarray
    behaviours: np.ndarray
    successes: np.ndarray
    states: np.ndarray | None
    raw: list[Any]
    masks: np.ndarray | None
    steps_per_second: float
    unfinished: np.ndarray | None = None

    @property
    def n_steps(self) -> int:
        return len(self.rewards)

    @property
    def n_episodes(self) -> int:
        return len(self.behaviours)

    def lengths(self) -> np.ndarray:
        """:return: (E,) steps of each episode"""
        return np.bincount(self.episodes, minlength=self.n_episodes)

    def returns(self) -> np.ndarray:
        """:return: (E,) sum of rewards of each episode"""
        return np.bincount(self.episodes, weights=self.rewards, minlength=self.n_episodes)

    def complete(self) -> np.ndarray:
        """:return: (E,) bool, whether each was played to its end"""
        ended = np.zeros(self.n_episodes, dtype=bool)
        ended[self.episodes[self.terminated | self.truncated]] = True
        return ended if self.unfinished is None else ended & ~self.unfinished


class _Archive:
    """
    Situations and the shortest ways there, for a search that goes back to rare ones and explores from there (Ecoffet et
    al., 2021, "First return, then explore", without the reset to a state: actions are played again).
    """

    LARGEST = 5_000

    def __init__(self, reader: ObservationReader) -> None:
        self.reader = reader
        self.visits: dict[bytes, int] = {}
        self.ways: dict[bytes, list[Any]] = {}

    def add(self, observation: np.ndarray, way: list[Any]) -> None:
        cell = self.reader.cell(observation)
        self.visits[cell] = self.visits.get(cell, 0) + 1
        known = self.ways.get(cell)
        if (known is None and len(self.ways) < self.LARGEST) or (known is not None and len(way) < len(known)):
            self.ways[cell] = way[:]

    def draw(self, rng: np.random.Generator) -> list[Any]:
        if not self.ways:
            return []
        cells = list(self.ways)
        weights = np.array([1.0 / self.visits[cell] for cell in cells])
        return self.ways[cells[rng.choice(len(cells), p=weights / weights.sum())]]


class _Hand:
    """Draws the actions of an episode: uniformly, or held for a while."""

    def __init__(self, env: gym.Env, rng: np.random.Generator) -> None:
        self.env, self.rng = env, rng
        self.stay = 0.0
        self.held: Any = None

    def begin(self, behaviour: int) -> None:
        # Held for about 1, 4, 16, … steps, or for the whole episode
        self.stay = 0.0 if behaviour == UNIFORM else float(self.rng.choice([0.0, 0.75, 0.94, 0.985, 1.0]))
        self.held = None

    def draw(self, mask: np.ndarray | None) -> Any:
        if self.held is not None and self.rng.random() < self.stay and (mask is None or mask[int(self.held)]):
            return self.held
        space: Any = self.env.action_space
        if isinstance(space, spaces.Discrete):
            valid = np.arange(space.n) if mask is None else np.flatnonzero(mask)
            self.held = int(self.rng.choice(valid)) + int(space.start)
        else:
            self.held = space.sample()
        return self.held


class SeededResets(gym.Wrapper):
    """
    A reset that is given a seed begins the episode of that seed, as Gymnasium asks for.

    SB3's ``EpisodicLifeEnv`` (in ``AtariWrapper``) would only go on with the next life, or where the game was left.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None and self.env.has_wrapper_attr("was_real_done"):
            self.env.set_wrapper_attr("was_real_done", True)
        return self.env.reset(seed=seed, options=options)


def mask_of(env: gym.Env, info: dict[str, Any]) -> np.ndarray | None:
    """
    :param env: an environment
    :param info: of its last reset or step
    :return: (A,) bool, the valid actions; None where it tells none
    """
    if "action_mask" in info:
        return np.asarray(info["action_mask"], dtype=bool)
    if env.has_wrapper_attr("action_masks"):
        return np.asarray(env.get_wrapper_attr("action_masks")(), dtype=bool)
    return None


def play(
    env: gym.Env,
    n_steps: int,
    seed: int,
    player: Player | None = None,
    tick: Callable[[int], Any] = lambda steps: None,
) -> Play:
    """
    Play until there are enough steps. Of the steps 40 % are uniformly random, 15 % held actions, 45 % a search for what
    is rare; with an agent, a third is the agent's, where one step in ten is random.

    :param env: to play in
    :param n_steps: N, at least; the last episode is left where it is
    :param seed: of environment and actions
    :param player: of an agent
    :param tick: is told of steps made
    :return: what happened
    """
    rng = np.random.default_rng(seed)
    env.action_space.seed(seed)
    observation, info = SeededResets(env).reset(seed=seed)
    reader = ObservationReader(env.observation_space)
    archive, hand = _Archive(reader), _Hand(env, rng)
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("observations", "successors", "actions", "rewards", "terminated", "truncated", "episodes", "times")
    }
    states: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    raw: list[Any] = []
    behaviours: list[int] = []
    successes: list[float] = []
    unfinished: list[bool] = []
    made, seconds = np.zeros(4), 0.0
    shares = np.array([0.4, 0.15, 0.45, 0.0]) if player is None else np.array([0.3, 0.15, 0.2, 0.35])
    total = 0
    while total < n_steps:
        if behaviours:
            observation, info = env.reset()
        behaviour = int(np.argmax(shares * max(total, 1) - made))
        behaviours.append(behaviour)
        successes.append(np.nan)
        hand.begin(behaviour)
        way = archive.draw(rng) if behaviour == SEARCHED else []
        path: list[Any] = []
        memory: Any = None
        seen = reader.read(observation)
        for t in range(min(LONGEST, n_steps - total)):
            mask = mask_of(env, info)
            drawn = hand.draw(mask)
            if behaviour == AGENT and player is not None:
                choice, memory = player(observation, memory, t == 0)
                action = drawn if rng.random() < 0.1 else choice
            elif t < len(way) and (mask is None or mask[int(way[t])]):
                action = way[t]
            else:
                action = drawn
            if t < 1_000:
                archive.add(seen, path)
            path.append(action)
            state = getattr(env.unwrapped, "state", None)
            if state is not None and not callable(state):
                states.append(np.ravel(np.asarray(state, dtype=object)))
            if mask is not None:
                masks.append(mask)
            if len(raw) < N_KEPT:
                raw.append(observation)
            began = time.perf_counter()
            observation, reward, terminated, truncated, info = env.step(action)
            seconds += time.perf_counter() - began
            left = t + 1 == min(LONGEST, n_steps - total) and not terminated
            successor = reader.read(observation)
            row = (
                seen,
                successor,
                action,
                float(reward),
                bool(terminated),
                bool(truncated or left),
                len(behaviours) - 1,
                t,
            )
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
            seen = successor
            if "is_success" in info:
                successes[-1] = float(info["is_success"])
            if terminated or truncated:
                break
        unfinished.append(not (terminated or truncated))
        total += len(path)
        made[behaviour] += len(path)
        tick(len(path))
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    return Play(
        **arrays,
        behaviours=np.array(behaviours),
        successes=np.array(successes),
        states=_as_numbers(states, total),
        raw=raw,
        masks=np.stack(masks) if len(masks) == total else None,
        steps_per_second=total / max(seconds, 1e-9),
        unfinished=np.array(unfinished),
    )


def _as_numbers(states: list[np.ndarray], total: int) -> np.ndarray | None:
    """:return: (N, S), None unless every step had a state of the same numbers"""
    if len(states) != total or len({len(state) for state in states}) != 1:
        return None
    try:
        numbers = np.stack(states).astype(np.float32)
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(numbers).all() else None
