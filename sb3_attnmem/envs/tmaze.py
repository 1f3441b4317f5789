"""The passive T-Maze: see a cue once, walk a corridor, turn the way the cue said."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_attnmem.common.checks import check_choice, check_integer

RIGHT, UP, LEFT, DOWN = range(4)
_MOVES = {RIGHT: (1, 0), UP: (0, 1), LEFT: (-1, 0), DOWN: (0, -1)}
_COLOURS = {".": (255, 255, 255), "G": (60, 160, 60), "A": (200, 50, 50)}


class PassiveTMaze(gym.Env[np.ndarray, int | np.integer]):
    """
    Passive T-Maze of Ni et al. (2023), "When Do Transformers Shine in RL? Decoupling Memory from Credit Assignment",
    https://arxiv.org/abs/2307.03864, after Bakker (2001)::

                                   ┌───┐
                                   │ 1 │   y = +1
        ┌──────────────────────────┤   │
        │ start, cue               │ J │   y =  0
        └──────────────────────────┤   │
          x = 0                    │-1 │   y = -1
                                   └───┘   x = corridor_length

    - **Actions**, ``Discrete(4)``: right, up, left, down. A move into a wall leaves the agent where it is.
    - **Observations**, ``Box(-1, 1, (2,), float32)``: ``(0, cue)`` at the very first step only, the cue being +1 or -1
      with equal chance; ``(0, 0)`` along the corridor, the start included when it is visited again; ``(1, y)`` in the
      junction's column, y in {-1, 0, 1}.
    - **Rewards**: after step t = 1 … L (L = ``corridor_length``), -1/L where the agent lags behind walking straight
      ahead (x < t), else 0. After step L + 1, the last one, 1 if y equals the cue, else 0.
    - **End**: every episode lasts L + 1 steps and ends ``terminated``, never ``truncated``: the horizon belongs to the
      task, and there is no value beyond it to bootstrap from.

    Walking straight is learnt without memory; the turn is not. Best expected return: 1.0 with memory, 0.5 without.

    :param corridor_length: L, the number of moves from the start to the junction, at least 1
    :param render_mode: ``"ansi"``, ``"rgb_array"`` or None
    :raises ValueError: if ``corridor_length`` is not an integer of at least 1, or for an unknown ``render_mode``
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012 (gymnasium declares it so)

    def __init__(self, corridor_length: int = 10, render_mode: str | None = None) -> None:
        self.corridor_length = check_integer("corridor_length", corridor_length)
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(4)
        self._t, self._x, self._y, self._cue = 0, 0, 0, 1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._t, self._x, self._y = 0, 0, 0
        self._cue = 1 if self.np_random.random() < 0.5 else -1
        return self._observation(), {}

    def step(self, action: int | np.integer) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if not self.action_space.contains(action):
            raise ValueError(f"PassiveTMaze got action {action!r}, expected an integer from 0 to 3.")
        self._move(*_MOVES[int(action)])
        self._t += 1

        terminated = self._t > self.corridor_length
        if terminated:
            reward = float(self._y == self._cue)
        else:
            reward = -1.0 / self.corridor_length if self._x < self._t else 0.0
        return self._observation(), reward, terminated, False, {}

    def render(self) -> Any:
        """The agent A, the goal G: three lines of text ("ansi"), or (48, 16 (L + 1), 3) uint8 ("rgb_array")."""
        if self.render_mode is None:
            return None
        cells = np.full((3, self.corridor_length + 1), " ")
        cells[1, :] = cells[:, -1] = "."
        cells[1 - self._cue, -1] = "G"
        cells[1 - self._y, self._x] = "A"
        if self.render_mode == "ansi":
            return "\n".join("".join(row) for row in cells)
        colours = np.zeros((*cells.shape, 3), dtype=np.uint8)
        for sign, colour in _COLOURS.items():
            colours[cells == sign] = colour
        return colours.repeat(16, axis=0).repeat(16, axis=1)

    def _move(self, dx: int, dy: int) -> None:
        x, y = self._x + dx, self._y + dy
        in_corridor = y == 0 and 0 <= x <= self.corridor_length
        in_arms = abs(y) <= 1 and x == self.corridor_length
        if in_corridor or in_arms:
            self._x, self._y = x, y

    def _observation(self) -> np.ndarray:
        if self._t == 0:
            return np.array([0.0, self._cue], dtype=np.float32)
        if self._x == self.corridor_length:
            return np.array([1.0, self._y], dtype=np.float32)
        return np.zeros(2, dtype=np.float32)
