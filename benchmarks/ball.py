"""
How soon does an extractor see a small thing? Supervised: where ball and paddle are in a frame of Pong, told by the
game's memory (bytes as in Anand et al., 2019, https://arxiv.org/abs/1906.08226). Mean squared error on 1,000 other
frames, 1 being that of the mean, after so many updates of 32; one seed; two minutes for three extractors.
``attentive_lstm`` is the first look of a memory that directs attention.

    python benchmarks/ball.py [--extractors plain_cnn attentive_lstm] [--precision bfloat16] [--updates 1000]
"""

import argparse
import time
from collections.abc import Callable

import ale_py  # noqa: F401  registers the games
import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.atari_wrappers import AtariWrapper
from torch import nn

from sb3_attnmem.extractors import IMAGE_EXTRACTORS, PlainCNN
from sb3_attnmem.memory import AttentiveLSTMMemory

N_FRAMES, N_TEST, BATCH, RATE, EVERY = 6_000, 1_000, 32, 2.5e-4, 200
#: of Pong's memory: the ball's column and row, the own paddle's row
BYTES = (49, 54, 51)


def frames() -> tuple[th.Tensor, th.Tensor]:
    """:return: uint8 (N, 4, 84, 84) of random play with a ball, and (N, 3) where things are, normalised"""
    env, rng = AtariWrapper(gym.make("PongNoFrameskip-v4")), np.random.default_rng(0)
    stacks: list[np.ndarray] = []
    places: list[np.ndarray] = []
    observation, _ = env.reset(seed=0)
    stack = [observation[..., 0]] * 4
    while len(stacks) < N_FRAMES:
        observation, _, terminated, truncated, _ = env.step(rng.integers(6))
        stack = [*stack[1:], observation[..., 0]]
        told = env.unwrapped.ale.getRAM()[list(BYTES)]  # type: ignore[attr-defined]
        if told[0] > 0 and told[1] > 0:
            stacks.append(np.stack(stack))
            places.append(told.astype(np.float32))
        if terminated or truncated:
            observation, _ = env.reset()
            stack = [observation[..., 0]] * 4
    wanted = th.as_tensor(np.array(places))
    return th.as_tensor(np.array(stacks)), (wanted - wanted.mean(dim=0)) / wanted.std(dim=0)


class FirstLook(nn.Module):
    """
    What an ``attentive_lstm`` sees at the first step of an episode.

    :param space: of images
    :param features_dim: of its state
    """

    def __init__(self, space: gym.spaces.Box, features_dim: int) -> None:
        super().__init__()
        self.extractor = PlainCNN(space, output="map")
        places = self.extractor.trunk.grid.n_places
        self.memory = AttentiveLSTMMemory((places, self.extractor.located.output_dim), features_dim)

    def forward(self, images: th.Tensor) -> th.Tensor:
        maps = self.extractor(images).unsqueeze(1)  # (B, 1, P, C)
        starts = th.zeros(len(images), 1, dtype=th.bool)
        return self.memory(maps, self.memory.initial_state(len(images)), starts)[0].squeeze(1)


#: name -> takes the space and ``features_dim``
SEERS: dict[str, Callable[..., nn.Module]] = {**IMAGE_EXTRACTORS, "attentive_lstm": FirstLook}


def learn(name: str, precision: str, images: th.Tensor, wanted: th.Tensor, updates: int) -> None:
    th.manual_seed(0)
    space = gym.spaces.Box(0, 255, images.shape[1:], np.uint8)
    options = {} if precision == "float32" else dict(precision=precision)  # not all take it
    extractor = SEERS[name](space, features_dim=512, **options)
    net = nn.Sequential(extractor, nn.Linear(512, len(BYTES)))
    optimizer = th.optim.Adam(net.parameters(), RATE)
    generator, n_train = th.Generator().manual_seed(0), N_FRAMES - N_TEST
    begun, cells = time.process_time(), []
    for update in range(1, updates + 1):
        rows = th.randint(n_train, (BATCH,), generator=generator)
        loss = (net(images[rows] / 255) - wanted[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % EVERY == 0:
            with th.no_grad():
                errors = (net(images[n_train:] / 255) - wanted[n_train:]).square().mean(dim=0)
            cells.append(", ".join(f"{error:.2f}" for error in errors))
    seconds = time.process_time() - begun
    print(f"| {name}, {precision} | {' | '.join(cells)} | {1_000 * seconds / updates:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--extractors",
        nargs="+",
        choices=SEERS,
        default=["plain_cnn", "channel_attention_cnn", "spatial_attention_cnn"],
    )
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--updates", type=int, default=1_000)
    args = parser.parse_args()
    th.set_num_threads(1)
    images, wanted = frames()
    heads = [f"after {update}" for update in range(EVERY, args.updates + 1, EVERY)]
    print(f"| ball's column, row, paddle's row | {' | '.join(heads)} | ms an update |\n|---|{'---|' * len(heads)}--:|")
    for name in args.extractors:
        learn(name, args.precision, images, wanted, args.updates)


if __name__ == "__main__":
    main()
