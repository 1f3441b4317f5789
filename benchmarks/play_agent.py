"""
Trains the agent of the page that plays in the browser (``docs/play.md``) and writes it as ONNX: about half a minute of
processor time. ``python benchmarks/play_agent.py``
"""

import argparse
from pathlib import Path

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import sb3_attnmem.envs  # noqa: F401  registers the T-Maze
from sb3_attnmem import RecurrentDQN
from sb3_attnmem.export import export_onnx

ENV_ID = "PassiveTMaze10-v0"
AGENT = Path(__file__).parents[1] / "docs" / "_static" / "play" / "tmaze.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--n-timesteps", type=int, default=30_000)
    parser.add_argument("-o", "--output", type=Path, default=AGENT)
    options = parser.parse_args()
    policy_kwargs = dict(memory_class="lstm", memory_kwargs=dict(hidden_size=32))
    model = RecurrentDQN("MlpPolicy", make_vec_env(ENV_ID, n_envs=8), policy_kwargs=policy_kwargs, seed=0)
    model.learn(options.n_timesteps)
    score, _ = evaluate_policy(model, make_vec_env(ENV_ID, n_envs=8, seed=9), n_eval_episodes=16)
    print(f"return {score:g} in 16 episodes; 1 is the best")
    print(export_onnx(model, options.output))


if __name__ == "__main__":
    main()
