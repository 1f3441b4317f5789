"""A task for memory that directs attention: the first frame tells which of two glyphs will matter."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env

from sb3_attnmem import RecurrentDQN, record_attention

from .attention_tasks import CELL, CELLS

#: Each place sees one cell, so that its weight says which cell was looked at
ONE_CELL = [(32, CELL, CELL), (64, 1)]
N_BOARDS = 6


class CuedTarget(gym.Env):
    """
    The first frame is red or blue all over: the cue. Six boards of 5×5 cells follow, each with a red, a blue and six
    green glyphs in random cells, a bar at one of the four edges of its cell. The reward is 1/6 for the action that
    names the edge of the glyph of the cue's colour. The first frame's action counts for nothing. Chance is 0.25; who
    follows one colour whatever the cue scores 0.625.
    """

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (CELLS * CELL, CELLS * CELL, 3), np.uint8)
        self.action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.cue = int(self.np_random.integers(2))
        self.n_shown = 0
        frame = np.zeros(self.observation_space.shape, np.uint8)
        frame[..., 2 * self.cue] = 255
        return frame, {}

    def _board(self) -> np.ndarray:
        rng = self.np_random
        self.cells = rng.choice(CELLS**2, size=8, replace=False)
        self.edges = rng.integers(4, size=8)
        board = np.zeros(self.observation_space.shape, np.uint8)
        for cell, edge, colour in zip(self.cells, self.edges, [0, 2, *[1] * 6], strict=True):
            glyph = np.zeros((CELL, CELL), bool)
            glyph[0] = True
            row, column = CELL * (cell // CELLS), CELL * (cell % CELLS)
            board[row : row + CELL, column : column + CELL, colour][np.rot90(glyph, edge)] = 255
        self.n_shown += 1
        return board

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        right = self.n_shown > 0 and int(action) == self.edges[self.cue]
        over = self.n_shown == N_BOARDS
        board = np.zeros(self.observation_space.shape, np.uint8) if over else self._board()
        where = {} if over else {"cued": int(self.cells[self.cue]), "other": int(self.cells[1 - self.cue])}
        return board, right / N_BOARDS, over, False, where


SETTINGS: dict[str, Any] = dict(
    learning_rate=1e-3,
    buffer_size=50_000,
    learning_starts=1_000,
    batch_size=32,
    sequence_length=N_BOARDS + 1,
    burn_in=0,
    n_steps=1,
    gamma=0.0,  # what one does has no consequence
    train_freq=4,
    tau=0.01,
    target_update_interval=8,
    target_update_unit="steps",
    exploration_fraction=0.5,
    exploration_final_eps=0.05,
    exploration_ladder=0.0,
    normalize_returns=False,
)


def train(steps: int, seed: int, **policy_kwargs: Any) -> RecurrentDQN:
    """
    :param steps: environment steps
    :param seed: of everything
    :param policy_kwargs: memory and extractor
    """
    model = RecurrentDQN(
        "CnnPolicy",
        make_vec_env(CuedTarget, n_envs=8, seed=seed),
        policy_kwargs=dict(policy_kwargs, net_arch=[]),
        seed=seed,
        device="cpu",
        **SETTINGS,
    )
    return model.learn(steps)


def play(
    model: RecurrentDQN, n_episodes: int = 200, layer: str | None = None
) -> tuple[float, list[float], list[float]]:
    """
    :param model: plays greedily
    :param n_episodes: episodes, all at once
    :param layer: that records (B, heads, 1, P)
    :return: mean return, and of each head the mean weight on the cell of the cued glyph, and on that of the other one
    """
    env = make_vec_env(CuedTarget, n_envs=n_episodes, seed=10_000)
    obs, state, starts = env.reset(), None, np.ones(n_episodes, bool)
    obs = obs.transpose(0, 3, 1, 2)
    total, masses, infos = np.zeros(n_episodes), [], None
    for _ in range(N_BOARDS + 1):
        if layer is None:
            actions, state = model.predict(obs, state, starts, deterministic=True)
        else:
            with record_attention(model) as record:
                actions, state = model.predict(obs, state, starts, deterministic=True)
            if infos is not None:
                weights = record[layer][:, :, 0]  # (B, heads, P)
                cells = [th.tensor([info[name] for info in infos]) for name in ("cued", "other")]
                masses.append([weights[th.arange(n_episodes), :, cell].mean(dim=0).tolist() for cell in cells])
        obs, rewards, _, infos = env.step(actions)
        obs, starts = obs.transpose(0, 3, 1, 2), np.zeros(n_episodes, bool)
        total += rewards
    cued, other = np.mean(masses, axis=0).tolist() if masses else ([], [])
    return float(total.mean()), cued, other
