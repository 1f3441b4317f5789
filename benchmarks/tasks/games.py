"""
Games against an opponent that plays at random, for Gymnasium, with real action masks:
``pip install pettingzoo pygame rlcard``.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class AgainstRandom(gym.Env):
    """
    A game of two, in which chance says who begins. A win is 1, a loss -1, a draw 0. Subclasses know the rules.

    :param masked: whether the environment has ``action_masks()`` and refuses invalid actions; if not, an invalid action
        loses the game
    """

    me: Any

    def __init__(self, masked: bool = True) -> None:
        self._start(0)
        n_actions, n_numbers = len(self._mask()), len(self._observation())
        self.action_space = spaces.Discrete(n_actions)
        self.observation_space = spaces.Box(0.0, 1.0, (n_numbers,), np.float32)
        if masked:
            self.action_masks = self._mask

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._start(int(self.np_random.integers(2**31)))
        if not self._my_turn():
            self._other_moves()
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if not self._mask()[action]:
            if hasattr(self, "action_masks"):
                raise ValueError(f"The action {action} is not valid: {self._mask()}.")
            return self._observation(), -1.0, True, False, {"invalid": True}
        self._move(int(action))
        self._other_moves()
        result = self._result()
        return self._observation(), result or 0.0, result is not None, False, {}

    def _other_moves(self) -> None:
        while self._result() is None and not self._my_turn():
            self._move(int(self.np_random.choice(np.flatnonzero(self._mask()))))

    @abstractmethod
    def _start(self, seed: int) -> None:
        """Begin a game, and say who ``me`` is."""

    @abstractmethod
    def _my_turn(self) -> bool:
        """:return: whether the agent moves next"""

    @abstractmethod
    def _mask(self) -> np.ndarray:
        """:return: (A,) bool, what whoever moves next may do; all where the game is over"""

    @abstractmethod
    def _move(self, action: int) -> None:
        """Let whoever moves next do it."""

    @abstractmethod
    def _result(self) -> float | None:
        """:return: the agent's, None while the game goes on"""

    @abstractmethod
    def _observation(self) -> np.ndarray:
        """:return: (numbers,) of [0, 1], what the agent sees"""


class PettingZooGame(AgainstRandom):
    """
    A game of PettingZoo, whose observations have an ``"action_mask"``.

    :param make: its ``raw_env``
    :param masked: as for :class:`AgainstRandom`
    """

    def __init__(self, make: Callable[[], Any], masked: bool = True) -> None:
        self.game = make()
        super().__init__(masked)

    def _start(self, seed: int) -> None:
        self.game.reset(seed=seed)
        self.me = self.game.possible_agents[seed % 2]

    def _my_turn(self) -> bool:
        return self.game.agent_selection == self.me

    def _mask(self) -> np.ndarray:
        if self._result() is not None:
            return np.ones(self.game.action_space(self.me).n, bool)
        return self.game.observe(self.game.agent_selection)["action_mask"] != 0

    def _move(self, action: int) -> None:
        self.game.step(action)

    def _result(self) -> float | None:
        return float(self.game.rewards[self.me]) if self.game.terminations[self.me] else None

    def _observation(self) -> np.ndarray:
        return self.game.observe(self.me)["observation"].astype(np.float32).reshape(-1)


class Uno(AgainstRandom):
    """
    UNO of rlcard: 61 actions, of which less than two are valid on average. The hand of the other is hidden.

    :param masked: as for :class:`AgainstRandom`
    """

    me = 0

    def __init__(self, masked: bool = True) -> None:
        import rlcard

        self.game = rlcard.make("uno")
        super().__init__(masked)

    def _start(self, seed: int) -> None:
        self.game.seed(seed)
        self.state, self.turn = self.game.reset()  # who begins is drawn

    def _my_turn(self) -> bool:
        return self.turn == self.me

    def _mask(self) -> np.ndarray:
        mask = np.full(self.game.num_actions, self.game.is_over())
        mask[list(self.state["legal_actions"])] = True
        return mask

    def _move(self, action: int) -> None:
        self.state, self.turn = self.game.step(action)

    def _result(self) -> float | None:
        return float(self.game.get_payoffs()[self.me]) if self.game.is_over() else None

    def _observation(self) -> np.ndarray:
        state = self.state if self._my_turn() else self.game.get_state(self.me)
        return state["obs"].astype(np.float32).reshape(-1)


def tic_tac_toe(masked: bool = True) -> AgainstRandom:
    """:param masked: as for :class:`AgainstRandom`"""
    from pettingzoo.classic import tictactoe_v3  # not among the packages that the benchmarks share

    return PettingZooGame(tictactoe_v3.raw_env, masked)


def connect_four(masked: bool = True) -> AgainstRandom:
    """:param masked: as for :class:`AgainstRandom`"""
    from pettingzoo.classic import connect_four_v3

    return PettingZooGame(connect_four_v3.raw_env, masked)


#: name -> makes an environment; how many of the actions of a random game are valid: 5.6 of 9, 1.7 of 61, 6.7 of 7
GAMES: dict[str, Callable[..., AgainstRandom]] = {
    "tic-tac-toe": tic_tac_toe,
    "UNO": Uno,
    "connect four": connect_four,
}
