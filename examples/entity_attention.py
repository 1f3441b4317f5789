"""
Which entity matters? Stock DQN with EntityAttention on a shuffled set, and what it looked at.

    python examples/entity_attention.py --steps 60000        # about 2 minutes on one CPU thread
"""

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env

from sb3_attnmem.attention import record_attention
from sb3_attnmem.extractors import EntityAttention


class MatchingKey(gym.Env):
    """
    Entities in random order. One is the lock; it shows a key. Exactly one other holds the same key, and the reward is 1
    for the action that *that* one names. Every episode lasts one step; chance is 1 / n_actions.

    Row: [is the lock, key bits in {-1, 1}, the action it names (one-hot; zeros for the lock)].

    :param n_entities: N, the lock included
    :param n_bits: of a key; 2 ** n_bits keys must be enough for all entities
    :param n_actions: A
    """

    def __init__(self, n_entities: int = 16, n_bits: int = 6, n_actions: int = 4) -> None:
        self.n_entities, self.n_bits, self.n_actions = n_entities, n_bits, n_actions
        self.observation_space = spaces.Box(-1.0, 1.0, (n_entities, 1 + n_bits + n_actions), np.float32)
        self.action_space = spaces.Discrete(n_actions)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        rng, n = self.np_random, self.n_entities
        codes = rng.choice(2**self.n_bits, size=n, replace=False)
        named = rng.integers(self.n_actions, size=n)
        codes[0] = codes[1]  # row 0 is the lock, row 1 holds its key
        rows = np.zeros(self.observation_space.shape, np.float32)
        rows[0, 0] = 1.0
        rows[:, 1 : 1 + self.n_bits] = 2 * (codes[:, None] >> np.arange(self.n_bits) & 1) - 1
        rows[np.arange(1, n), 1 + self.n_bits + named[1:]] = 1.0
        self.right_action = int(named[1])
        order = rng.permutation(n)
        where = np.argsort(order)
        return rows[order], {"lock": int(where[0]), "match": int(where[1])}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.zeros(self.observation_space.shape, np.float32), float(action == self.right_action), True, False, {}


def score(model: DQN, env: gym.Env, episodes: int = 1000) -> float:
    """:return: share of right actions, greedy; chance is 1 / n_actions"""
    observations = []
    right = []
    for _ in range(episodes):
        observations.append(env.reset()[0])
        right.append(env.unwrapped.right_action)
    actions, _ = model.predict(np.stack(observations), deterministic=True)
    return float(np.mean(actions == np.array(right)))


def train(env: gym.Env, steps: int, seed: int, **policy_kwargs: Any) -> DQN:
    """:return: a stock DQN after ``steps`` environment steps"""
    model = DQN(
        "MlpPolicy",
        make_vec_env(lambda: env.__class__(), n_envs=16, seed=seed),
        learning_rate=1e-3,
        batch_size=128,
        gamma=0.0,  # episodes last one step
        learning_starts=1_000,
        train_freq=1,
        exploration_fraction=0.5,
        policy_kwargs=policy_kwargs,
        seed=seed,
        device="cpu",
    )
    return model.learn(steps)


def size_of(model: DQN) -> int:
    """:return: parameters of the Q-network"""
    return sum(parameter.numel() for parameter in model.q_net.parameters())


def mass_on_match(model: DQN, env: gym.Env, episodes: int = 500) -> dict[str, float]:
    """
    :return: for each layer, the mean weight that its best head puts on the matching entity: asked by the lock's row in
        the blocks, by the pool's query in the pool. Uniform is 1 / n_entities.
    """
    resets = [env.reset() for _ in range(episodes)]
    with record_attention(model.q_net) as record:
        model.q_net(th.as_tensor(np.stack([observation for observation, _ in resets])))
    episode = th.arange(episodes)
    lock, match = (th.tensor([info[key] for _, info in resets]) for key in ("lock", "match"))
    masses = {}
    for name, weights in record.items():  # (B, heads, queries, keys)
        asked = weights[episode, :, lock] if weights.shape[2] > 1 else weights[:, :, 0]  # (B, heads, keys)
        masses[name] = float(asked[episode, :, match].mean(dim=0).max())
    return masses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60_000, help="environment steps of each agent")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    th.set_num_threads(1)  # networks this small are fastest on one

    env = MatchingKey()
    env.reset(seed=args.seed + 1_000)  # other episodes than those of training
    attention = train(env, args.steps, args.seed, features_extractor_class=EntityAttention, net_arch=[])
    mlp = train(env, args.steps, args.seed, net_arch=[272, 272])
    print(f"{args.steps} environment steps; a random agent is right in {1 / env.n_actions:.2f}")
    print(f"EntityAttention ({size_of(attention):,} parameters) is right in {score(attention, env):.3f}")
    print(f"MLP             ({size_of(mlp):,} parameters) is right in {score(mlp, env):.3f}")
    print(f"Mean weight on the matching entity (uniform {1 / env.n_entities:.3f}):")
    for name, mass in mass_on_match(attention, env).items():
        print(f"  {name:45s} {mass:.3f}")


if __name__ == "__main__":
    main()
