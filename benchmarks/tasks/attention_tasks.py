"""A task in which it is known where to look, and how much an extractor looks there."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.preprocessing import preprocess_obs

from sb3_attnmem.attention import record_attention

CELLS = 5  # along each side
CELL = 4  # pixels along each side of one
UNIFORM = 1 / CELLS**2


class TargetAmongDistractors(gym.Env):
    """
    A board of 5×5 cells of 4×4 pixels. One cell holds a red glyph, ``n_distractors`` others hold blue or green ones.
    A glyph is a bar at one of the four edges of its cell; the reward is 1 for the action that names the *red* bar's
    edge. Every episode lasts one step; chance is 0.25.

    :param odd_one_out: the target is not the red bar but the only one of its colour: the distractors share another.
        Then no place can tell by itself that it is the target; it has to look at others first.
    :param n_distractors: at most 24
    """

    def __init__(self, odd_one_out: bool = False, n_distractors: int = 12) -> None:
        self.odd_one_out = odd_one_out
        self.n_distractors = n_distractors
        self.observation_space = spaces.Box(0, 255, (CELLS * CELL, CELLS * CELL, 3), np.uint8)
        self.action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        rng = self.np_random
        cells = rng.choice(CELLS**2, size=1 + self.n_distractors, replace=False)
        edges = rng.integers(4, size=len(cells))
        if self.odd_one_out:
            target, others = rng.choice(3, size=2, replace=False)
            colours = np.array([target] + [others] * self.n_distractors)
        else:
            colours = np.concatenate([[0], rng.integers(1, 3, size=self.n_distractors)])
        board = np.zeros(self.observation_space.shape, np.uint8)
        for cell, edge, colour in zip(cells, edges, colours, strict=True):
            glyph = np.zeros((CELL, CELL), bool)
            glyph[0] = True
            row, column = CELL * (cell // CELLS), CELL * (cell % CELLS)
            board[row : row + CELL, column : column + CELL, colour][np.rot90(glyph, edge)] = 255
        self.right_action = int(edges[0])
        return board, {"target": int(cells[0])}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.zeros(self.observation_space.shape, np.uint8), float(action == self.right_action), True, False, {}


def train(steps: int, seed: int = 0, odd_one_out: bool = False, **policy_kwargs: Any) -> DQN:
    """
    :param steps: environment steps
    :param seed: of everything
    :param policy_kwargs: of the policy
    :return: a stock DQN
    """
    model = DQN(
        "CnnPolicy",
        make_vec_env(TargetAmongDistractors, n_envs=16, seed=seed, env_kwargs=dict(odd_one_out=odd_one_out)),
        learning_rate=1e-3,
        buffer_size=50_000,
        batch_size=128,
        gamma=0.0,  # episodes last one step
        learning_starts=1_000,
        train_freq=1,
        exploration_fraction=0.5,
        policy_kwargs=dict(policy_kwargs, net_arch=[]),
        seed=seed,
        device="cpu",
    )
    return model.learn(steps)


def boards(n: int, odd_one_out: bool = False, seed: int = 10_000) -> tuple[np.ndarray, np.ndarray, th.Tensor]:
    """
    :return: n boards (n, 3, 20, 20), the right actions (n,), the targets' cells (n,)
    """
    env = TargetAmongDistractors(odd_one_out)
    env.reset(seed=seed)
    resets = [(*env.reset(), env.right_action) for _ in range(n)]
    observations = np.stack([board for board, _, _ in resets]).transpose(0, 3, 1, 2)
    return observations, np.array([a for _, _, a in resets]), th.tensor([info["target"] for _, info, _ in resets])


def score(model: DQN, odd_one_out: bool = False, n: int = 1_000) -> float:
    """:return: share of right actions, greedy"""
    observations, right, _ = boards(n, odd_one_out)
    return float((model.predict(observations, deterministic=True)[0] == right).mean())


def mass_on_target(model: DQN, layer: str, odd_one_out: bool = False, n: int = 1_000) -> float:
    """
    :param model: whose map has a place a cell, as the medium trunk gives it
    :param layer: of the features extractor; of one query (pooling)
    :return: the mean weight that its best head puts on the target's cell; uniform is 0.04
    """
    observations, _, targets = boards(n, odd_one_out)
    images = preprocess_obs(th.as_tensor(observations), model.observation_space)
    with record_attention(model.q_net.features_extractor) as record, th.no_grad():
        model.q_net.features_extractor(images)
    heads = record.on_grid(layer).flatten(2)  # (B, heads, 25)
    assert heads.shape[2] == CELLS**2
    return float(heads[th.arange(n), :, targets].mean(dim=0).max())
