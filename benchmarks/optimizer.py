"""
What does Adam cost a stock DQN on a CPU? CPU time of an update as Stable-Baselines3 makes it, with ``fused=True``, and
with ``torch.set_flush_denormal(True)`` too, after 20,000 steps of MinAtar Freeway; and how much of Adam's first moments
is denormal by then (a weight without gradients lets them fall by a tenth an update, until 0.9 x rounds to x).

    pip install --no-deps minatar
    python benchmarks/optimizer.py
"""

import argparse
import copy
import statistics
import time

import torch as th
from attention_learning import make_model
from stable_baselines3 import DQN

SMALLEST_NORMAL = th.finfo(th.float32).tiny


def share_denormal(model: DQN) -> float:
    """:return: of Adam's first moments"""
    moments = th.cat([state["exp_avg"].flatten() for state in model.policy.optimizer.state.values()])
    return float(((moments != 0) & (moments.abs() < SMALLEST_NORMAL)).float().mean())


def milliseconds(model: DQN, updates: int, flush: bool) -> float:
    """:return: CPU time of an update, median"""
    th.set_flush_denormal(flush)
    times = []
    for _ in range(updates):
        begun = time.process_time()
        model.train(gradient_steps=1, batch_size=32)
        times.append(time.process_time() - begun)
    th.set_flush_denormal(False)
    return 1e3 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    th.set_num_threads(1)
    print("| extractor | parameters | denormal | as it is | fused | fused, flushed |\n|---|--:|--:|--:|--:|--:|")
    for extractor in ("plain_cnn", "spatial_attention_cnn"):
        model = make_model("MinAtar Freeway", extractor, seed=0, fused=False)
        model.learn(args.steps)
        moments = copy.deepcopy(model.policy.optimizer.state_dict())
        denormal = share_denormal(model)
        times: dict[tuple[bool, bool], list[float]] = {(False, False): [], (True, False): [], (True, True): []}
        for _ in range(args.rounds):
            for (fused, flush), found in times.items():
                group = copy.deepcopy(moments)
                group["param_groups"][0].update(fused=fused, foreach=None)
                model.policy.optimizer.load_state_dict(group)
                found.append(milliseconds(model, updates=20, flush=flush))
        default, *others = (statistics.median(found) for found in times.values())
        parameters = sum(parameter.numel() for parameter in model.q_net.parameters())
        ratios = " | ".join(f"{other / default:.2f}" for other in others)
        print(f"| `{extractor}` | {parameters:,} | {denormal:.2f} | {default:.1f} ms | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
