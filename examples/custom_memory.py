"""
A memory of your own: about 30 lines, then ``RecurrentDQN`` trains it like any other.

    python examples/custom_memory.py [--steps 40000]
"""

import argparse

import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import sb3_attnmem.envs  # noqa: F401  registers the T-Mazes
from sb3_attnmem import BaseMemory, MemoryState, RecurrentDQN
from sb3_attnmem.memory import linear_scan, separate_episodes


class Traces(BaseMemory):
    """
    Traces of the past that fade at learned speeds: h_t = a * h_{t-1} + (1 - a) * W x_t. State: (h,), (B, H).

    :param input_dim: D, given by the Q-network
    :param hidden_size: H, an option of its own: policy_kwargs=dict(memory_kwargs=dict(hidden_size=...))
    """

    def __init__(self, input_dim: int, hidden_size: int = 64) -> None:
        super().__init__(input_dim, latent_dim=hidden_size)
        self.linear = th.nn.Linear(input_dim, hidden_size)
        self.speed = th.nn.Parameter(th.linspace(0.0, 5.0, hidden_size))  # a from 0.5 to 0.993

    def initial_state(self, batch_size: int) -> MemoryState:
        return (self.speed.new_zeros(batch_size, self.latent_dim),)

    @separate_episodes  # resets the state where a row begins with an episode's first step
    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        keep = self.speed.sigmoid().expand(*features.shape[:2], -1)  # (B, T, H)
        decay = keep.masked_fill(episode_starts.unsqueeze(-1), 0.0)  # nothing from before the first steps further on
        latents = linear_scan(decay, (1.0 - keep) * self.linear(features), state[0])
        return latents, (latents[:, -1],)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40_000)
    args = parser.parse_args()
    th.set_num_threads(1)
    env = make_vec_env("PassiveTMaze10-v0", n_envs=8, seed=0)
    model = RecurrentDQN(
        "MlpPolicy",
        env,
        policy_kwargs=dict(memory_class=Traces, memory_kwargs=dict(hidden_size=64)),
        seed=0,
    )
    model.learn(args.steps)
    score, _ = evaluate_policy(model, env, n_eval_episodes=100)
    print(f"score: {score:.2f} (who remembers the cue reaches 1.00, who does not 0.50 on average)")


if __name__ == "__main__":
    main()
