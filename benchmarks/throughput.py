"""
How close ``RecurrentDQN.learn`` comes to its floor, and how fast it is beside sb3-contrib's ``RecurrentPPO``.

The floor of a run is the same number of bare ``env.step`` calls, bare one-step forwards and bare updates (forward of
both networks, backward, clip, optimiser step) on one fixed batch of the same shapes: no replay buffer, no resets
inside sequences, no callbacks, no logs. Every figure is a ratio of CPU times of one run, measured in turns on one
thread: nothing waits here, and other work on the machine disturbs CPU time least.

    python benchmarks/throughput.py [--steps 32000] [--rounds 3]
    python benchmarks/throughput.py --pong [--steps 4000]        # CNN and LSTM 512 on Pong instead, overhead only
    python benchmarks/throughput.py --defaults [--steps 16000]   # default arguments, 8 and 1 environments
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from functools import partial

import gymnasium as gym
import numpy as np
import torch as th
from rl_zoo3 import import_envs  # noqa: F401  registers the NoVel environments
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage
from torch import nn
from torch.nn import functional as F

from sb3_attnmem import RecurrentDQN, SequenceReplayBuffer
from sb3_attnmem.memory import get_memory_class

N_ENVS = 8
HIDDEN = 128
BATCH, LENGTH = 32, 40
STEPS_PER_UPDATE = 320  # environment steps; 32 * 40 / 320 = 4 trained samples an environment step


def make_env(n_envs: int = N_ENVS) -> VecEnv:
    return make_vec_env("CartPoleNoVel-v1", n_envs, seed=0)


def seconds(run: Callable[[], object]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def recurrent_dqn(env: VecEnv) -> RecurrentDQN:
    # Always exploring, so that learning and floor step through episodes of the same lengths
    return RecurrentDQN(
        "MlpLstmPolicy",
        env,
        buffer_size=100_000,
        learning_starts=0,
        batch_size=BATCH,
        sequence_length=LENGTH,
        burn_in=0,
        n_steps=1,
        train_freq=STEPS_PER_UPDATE // N_ENVS,
        target_update_interval=STEPS_PER_UPDATE,  # the target network moves once an update
        exploration_initial_eps=1.0,
        exploration_final_eps=1.0,
        policy_kwargs=dict(memory_kwargs=dict(hidden_size=HIDDEN)),
        seed=0,
    )


def recurrent_dqn_by_default(env: VecEnv) -> RecurrentDQN:
    # Its floor makes updates from the beginning, too
    return RecurrentDQN("MlpPolicy", env, learning_starts=0, seed=0)


def dqn(env: VecEnv) -> DQN:
    # As many trained samples an environment step: 128 every 32
    return DQN(
        "MlpPolicy",
        env,
        buffer_size=100_000,
        learning_starts=0,
        batch_size=128,
        train_freq=4,
        exploration_initial_eps=1.0,
        exploration_final_eps=1.0,
        seed=0,
    )


def recurrent_ppo(env: VecEnv) -> RecurrentPPO:
    return RecurrentPPO(
        "MlpLstmPolicy",
        env,
        n_steps=128,
        batch_size=256,
        n_epochs=4,
        policy_kwargs=dict(lstm_hidden_size=HIDDEN, shared_lstm=True, enable_critic_lstm=False),
        seed=0,
    )


def vector_encoder() -> nn.Module:
    """:return: for (N, 4) vectors"""
    return nn.Sequential(nn.Linear(4, 64), nn.ReLU())


def image_encoder() -> nn.Module:
    """:return: for (N, 1, 84, 84) images in [0, 1]; the layers of ``NatureCNN``"""
    layers: list[nn.Module] = []
    for sizes in ((1, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)):
        layers += [nn.Conv2d(*sizes), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3136, 512), nn.ReLU())


class BareNetwork(nn.Module):
    """The layers of ``RecurrentDQN``'s network around a bare ``nn.LSTM``, with the dueling head.

    :param beside: whether the head reads what is seen beside what is remembered, as by default
    """

    def __init__(
        self, encoder: nn.Module, width: int, hidden: int, net_arch: list[int], n_actions: int, beside: bool = True
    ) -> None:
        super().__init__()
        self.encoder, self.beside = encoder, beside
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.value, self.advantage = (
            nn.Sequential(*create_mlp(hidden + width * beside, n_outputs, net_arch)) for n_outputs in (1, n_actions)
        )

    def forward(self, x: th.Tensor, state: tuple[th.Tensor, th.Tensor]) -> tuple[th.Tensor, tuple]:
        if x.dtype == th.uint8:
            x = x.float() / 255
        seen = self.encoder(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        latents, state = self.lstm(seen, state)
        if self.beside:
            latents = th.cat((seen, latents), -1)
        advantage = self.advantage(latents)
        return self.value(latents) + advantage - advantage.mean(-1, keepdim=True), state


class BareMlp(nn.Module):
    """The layers of SB3's default DQN network."""

    def __init__(self, n_inputs: int, n_actions: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions)
        )

    def forward(self, x: th.Tensor, state: None) -> tuple[th.Tensor, None]:
        return self.layers(x), None


def floor(
    env: VecEnv, steps: int, bare: Callable[[], nn.Module], batch_shape: tuple[int, ...], steps_per_update: int
) -> None:
    """
    :param bare: makes a network
    :param batch_shape: (B, T) of the fixed batch, or (B,)
    :param steps_per_update: environment steps an update
    """
    assert isinstance(env.action_space, gym.spaces.Discrete)
    n_actions = int(env.action_space.n)
    online, target = bare(), bare()
    optimizer = th.optim.Adam(online.parameters(), lr=1e-4)
    recurrent = isinstance(online, BareNetwork)

    n_envs = env.num_envs

    def zeros(n: int) -> tuple[th.Tensor, th.Tensor] | None:
        if not isinstance(online, BareNetwork):
            return None
        return th.zeros(1, n, online.lstm.hidden_size), th.zeros(1, n, online.lstm.hidden_size)

    batch = th.as_tensor(np.stack([env.observation_space.sample() for _ in range(math.prod(batch_shape))]))
    batch = batch.clamp(-1, 1) if batch.is_floating_point() else batch
    batch = batch.unflatten(0, batch_shape)
    picked = th.zeros(*batch_shape, 1, dtype=th.long)
    targets = th.randn(batch_shape)
    env.reset()
    obs, state = env.reset(), zeros(n_envs)
    rng = np.random.default_rng(0)
    for i in range(steps // n_envs):
        with th.no_grad():
            x = th.as_tensor(obs)
            q, state = online(x.unsqueeze(1) if recurrent else x, state)
            q.argmax(-1).numpy()
        obs, *_ = env.step(rng.integers(n_actions, size=n_envs))
        if (i + 1) % (steps_per_update // n_envs) == 0:
            q, _ = online(batch, zeros(len(batch)))
            with th.no_grad():
                target(batch, zeros(len(batch)))
            loss = F.smooth_l1_loss(q.gather(-1, picked).squeeze(-1), targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(online.parameters(), 10)
            optimizer.step()


def make_pong() -> VecEnv:
    return VecTransposeImage(make_atari_env("PongNoFrameskip-v4", N_ENVS, seed=0))


def pong_dqn(env: VecEnv) -> RecurrentDQN:
    return RecurrentDQN(
        "CnnLstmPolicy",
        env,
        buffer_size=20_000,
        learning_starts=0,
        batch_size=16,
        sequence_length=LENGTH,
        burn_in=0,
        n_steps=1,
        train_freq=STEPS_PER_UPDATE // N_ENVS,
        target_update_interval=STEPS_PER_UPDATE,
        exploration_initial_eps=1.0,
        exploration_final_eps=1.0,
        policy_kwargs=dict(memory_kwargs=dict(hidden_size=512)),
        seed=0,
    )


def bytes_per_transition() -> float:
    """84 x 84 x 1 frames, LSTM 128, states at the default interval."""
    space = gym.spaces.Box(0, 255, (1, 84, 84), np.uint8)
    buffer = SequenceReplayBuffer(100_000, space, gym.spaces.Discrete(6), n_envs=8, sequence_length=LENGTH)
    buffer.allocate(get_memory_class("lstm")(512, hidden_size=128).initial_state(1))  # type: ignore[call-arg]
    assert buffer.tapes is not None
    return buffer.tapes.nbytes / 100_000


def measure(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """:return: seconds of each run in each round"""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
            print(f"round {round_ + 1}: {name.strip():<14} {times[name][-1]:6.2f} s", flush=True)
    return times


def ratio_of(times: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def by_default(steps: int, rounds: int) -> None:
    """Measure what a new user runs, with 8 environments and with 1."""
    model = recurrent_dqn_by_default(make_env())
    # One column more than is trained on: the observation to bootstrap from
    shape = model.batch_size, model.sequence_length + model.n_steps
    every = model._transitions_per_update
    assert every is not None
    network = partial(BareNetwork, vector_encoder(), 64, HIDDEN, [64], 2)
    print("| environments | default `RecurrentDQN.learn` over its floor | to reach | steps/s |\n|--:|--:|--:|--:|")
    for n_envs, most in ((8, 1.20), (1, 1.35)):
        times = measure(
            {
                f"{n_envs}, learn": lambda n_envs=n_envs: recurrent_dqn_by_default(make_env(n_envs)).learn(steps),
                f"{n_envs}, floor": lambda n_envs=n_envs: floor(make_env(n_envs), steps, network, shape, every),
            },
            rounds,
        )
        learn, least = times.values()
        print(f"| {n_envs} | {ratio_of(learn, least):.2f} | <= {most:.2f} | {steps / statistics.median(learn):,.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="environment steps a measurement; 32,000 or 4,000 of Pong")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each; the medians count")
    parser.add_argument("--pong", action="store_true", help="the overhead with images")
    parser.add_argument("--defaults", action="store_true", help="the overhead of default arguments")
    args = parser.parse_args()
    th.set_num_threads(1)
    if args.defaults:
        return by_default(args.steps or 16_000, args.rounds)
    steps = args.steps or (4_000 if args.pong else 32_000)
    runs: dict[str, Callable[[], object]]
    if args.pong:
        network = partial(BareNetwork, image_encoder(), 512, 512, [], 6)
        runs = {
            "RecurrentDQN": lambda: pong_dqn(make_pong()).learn(steps),
            "its floor": lambda: floor(make_pong(), steps, network, (16, LENGTH + 1), STEPS_PER_UPDATE),
        }
    else:
        network = partial(BareNetwork, vector_encoder(), 64, HIDDEN, [64], 2)
        runs = {
            "RecurrentDQN": lambda: recurrent_dqn(make_env()).learn(steps),
            "its floor": lambda: floor(make_env(), steps, network, (BATCH, LENGTH + 1), STEPS_PER_UPDATE),
            "DQN": lambda: dqn(make_env()).learn(steps),
            "its floor ": lambda: floor(make_env(), steps, partial(BareMlp, 4, 2), (128,), 32),
            "RecurrentPPO": lambda: recurrent_ppo(make_env()).learn(steps),
        }
    times = measure(runs, args.rounds)

    def ratio(one: str, other: str) -> float:
        return ratio_of(times[one], times[other])

    task, hidden = ("Pong", 512) if args.pong else ("CartPoleNoVel-v1", HIDDEN)
    print(f"\n{task}, {N_ENVS} environments, LSTM {hidden}, {steps} steps, 1 thread")
    print("| figure | measured | to reach |\n|---|---|---|")
    overhead = ratio("RecurrentDQN", "its floor")
    if args.pong:
        print(f"| `RecurrentDQN.learn` over its floor | {overhead:.2f} | <= 1.10 |")
        return
    print(f"| `RecurrentDQN.learn` over its floor | {overhead:.2f} | <= 1.25 |")
    print(f"| stock `DQN.learn` over its floor | {ratio('DQN', 'its floor '):.2f} | - |")
    print(f"| steps/s over `RecurrentPPO`, 4 samples a step | {ratio('RecurrentPPO', 'RecurrentDQN'):.1f} | >= 6 |")
    print(f"| steps/s of `RecurrentDQN` | {steps / statistics.median(times['RecurrentDQN']):,.0f} | - |")
    per = bytes_per_transition()
    print(f"| bytes a transition, 84x84x1, LSTM 128 | {per:,.0f} = {per / 7056:.3f} x 7,056 | <= 1.15 x 7,056 |")


if __name__ == "__main__":
    main()
