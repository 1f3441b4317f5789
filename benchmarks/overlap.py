"""
What stepping environments beside updates could save at most: with ``SubprocVecEnv`` they could make the next
step while the network learns, one vectorised step an update. One torch thread; environments in processes of their own.

    python benchmarks/overlap.py [--steps 2000]
"""

import argparse
import time
from collections.abc import Callable

import torch as th
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecTransposeImage
from tasks.memory_tasks import TASKS

from sb3_attnmem import RecurrentDQN

N_ENVS = 8


def make_pong() -> VecEnv:
    return VecTransposeImage(make_atari_env("PongNoFrameskip-v4", N_ENVS, seed=0, vec_env_cls=SubprocVecEnv))


def make_minigrid() -> VecEnv:
    task = TASKS["MiniGrid-MemoryS7"]
    return make_vec_env(task.env_id, N_ENVS, seed=0, wrapper_class=task.wrapper, vec_env_cls=SubprocVecEnv)  # type: ignore[arg-type]


MODELS: dict[str, Callable[[], RecurrentDQN]] = {
    "Pong": lambda: RecurrentDQN("CnnPolicy", make_pong(), buffer_size=20_000, seed=0),
    "MiniGrid-MemoryS7": lambda: RecurrentDQN(
        "MlpPolicy", make_minigrid(), buffer_size=50_000, seed=0, policy_kwargs=dict(normalize_images=False)
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2_000, help="environment steps of each")
    args = parser.parse_args()
    th.set_num_threads(1)
    print("| task | ms a vectorised step | ms an update | ms an update's rollout and itself | saved at most |")
    print("|---|--:|--:|--:|--:|")
    for name, make in MODELS.items():
        model = make()
        env = model.env
        assert env is not None
        model.learn(1_000 + args.steps)
        begin = time.perf_counter()
        model.learn(args.steps, reset_num_timesteps=False)
        n_updates = args.steps // 32
        cycle = 1000 * (time.perf_counter() - begin) / n_updates
        begin = time.perf_counter()
        for _ in range(20):
            model.update(1, model.batch_size)
        update = 1000 * (time.perf_counter() - begin) / 20
        actions = [env.action_space.sample() for _ in range(N_ENVS)]
        env.reset()
        begin = time.perf_counter()
        for _ in range(100):
            env.step(actions)  # type: ignore[arg-type]
        step = 1000 * (time.perf_counter() - begin) / 100
        env.close()
        print(f"| {name} | {step:.1f} | {update:.0f} | {cycle:.0f} | {min(step, update) / cycle:.1%} |")


if __name__ == "__main__":
    main()
