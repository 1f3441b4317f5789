"""
Updates a second on R2D2's shape, and the share of their floor: the same updates (burn-in and unroll of both networks,
backward, clip, optimiser step) on one fixed batch that lies on the device already.

    python benchmarks/gpu.py --device cuda                    # 64 sequences of 40 + 80, 84×84×4, LSTM 512
    python benchmarks/gpu.py --device cpu --batch 4 --burn-in 8 --length 16 --updates 5
"""

import argparse
import statistics
import time

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from sb3_attnmem import PrioritizedSequenceReplayBuffer, RecurrentDQN
from sb3_attnmem.replay import SequenceSamples


class Noise(gym.Env):
    """Frames of noise in episodes of 500 steps: an update costs the same whatever they show."""

    observation_space = spaces.Box(0, 255, (1, 84, 84), np.uint8)
    action_space = spaces.Discrete(18)

    def reset(self, *, seed: int | None = None, options: object = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.n_steps = 0
        return self._frame(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.n_steps += 1
        return self._frame(), float(self.n_steps % 7 == 0), self.n_steps == 500, False, {}

    def _frame(self) -> np.ndarray:
        return self.np_random.integers(1, 256, (1, 84, 84), dtype=np.uint8)


def make_model(args: argparse.Namespace) -> RecurrentDQN:
    """:return: an agent whose replay buffer holds ``args.stored`` transitions"""
    model = RecurrentDQN(
        "CnnLstmPolicy",
        VecFrameStack(DummyVecEnv([Noise] * 8), 4),
        buffer_size=args.stored,
        learning_starts=10**9,
        batch_size=args.batch,
        sequence_length=args.length,
        burn_in=args.burn_in,
        n_steps=5,
        gamma=0.997,
        learning_rate=1e-4,
        value_rescaling=True,
        replay_buffer_class=PrioritizedSequenceReplayBuffer,
        policy_kwargs=dict(memory_kwargs=dict(hidden_size=512)),
        seed=0,
        device=args.device,
    )
    model.set_logger(configure(None, []))
    return model.learn(args.stored)


def wait(device: th.device) -> None:
    if device.type == "cuda":
        th.cuda.synchronize(device)


def bare_update(model: RecurrentDQN, batch: SequenceSamples, targets: th.Tensor) -> None:
    """Everything that must happen, and nothing else."""
    with th.no_grad():
        states = [net.burn_in(batch.burn_in, batch.state) for net in (model.q_net, model.q_net_target)]
        model.q_net_target.unroll(batch.window, states[1])
    q_values = model.q_net.unroll(batch.window, states[0])
    loss = (q_values.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1) - targets).square().mean()
    model.policy.optimizer.zero_grad()
    loss.backward()
    th.nn.utils.clip_grad_norm_(model.q_net.parameters(), 10.0)
    model.policy.optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if th.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64, help="sequences an update")
    parser.add_argument("--burn-in", type=int, default=40)
    parser.add_argument("--length", type=int, default=80)
    parser.add_argument("--stored", type=int, default=20_000, help="transitions in the replay buffer")
    parser.add_argument("--updates", type=int, default=50, help="a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="torch's, on a CPU")
    args = parser.parse_args()
    th.set_num_threads(args.threads)
    model = make_model(args)
    assert model.replay_buffer is not None
    batch = model.replay_buffer.sample(args.batch)
    targets = th.zeros_like(batch.rewards)
    device = model.device
    ratios, speeds = [], []
    for round_ in range(-1, args.rounds):
        seconds = []
        for work in (
            lambda: model.update(args.updates, args.batch),
            lambda: [bare_update(model, batch, targets) for _ in range(args.updates)],
        ):
            wait(device)
            begin = time.perf_counter()
            work()
            wait(device)
            seconds.append(time.perf_counter() - begin)
        if round_ >= 0:  # the first warms up
            ratios.append(seconds[0] / seconds[1])
            speeds.append(args.updates / seconds[0])
    name = th.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {args.threads} thread(s)"
    print(
        f"{name}, torch {th.__version__}: {args.batch} sequences of {args.burn_in} + {args.length}, 84×84×4, LSTM 512"
    )
    print("| figure | measured |\n|---|---|")
    print(f"| updates a second | {statistics.median(speeds):.2f} |")
    print(f"| `train` over its floor | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    main()
