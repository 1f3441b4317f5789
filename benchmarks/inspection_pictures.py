"""
The pictures of docs/inspection.md: agents that are trained in minutes, and films of what they look at.

    python benchmarks/inspection_pictures.py --out docs/pictures [--only cue]

Writes inspect-NAME.mp4 and the contact sheet inspect-NAME.png.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3 import DQN
from tasks import cued_target

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.extractors import EntityAttention
from sb3_attnmem.inspection import record_attention_video

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import entity_attention


def cue() -> RecurrentDQN:
    """:return: an attentive LSTM that is told by the first frame what to look at afterwards"""
    return cued_target.train(
        20_000,
        0,
        memory_class="attentive_lstm",
        features_extractor_class="plain_cnn",
        features_extractor_kwargs=dict(output="map", trunk=cued_target.ONE_CELL),
    )


def entities() -> DQN:
    """:return: a stock DQN that looks for the entity whose key matches"""
    return entity_attention.train(entity_attention.MatchingKey(), 40_000, 0, features_extractor_class=EntityAttention)


# name -> (trains the agent, makes its environment, options of the film)
FILMS: dict[str, tuple[Callable[[], Any], Callable[[], Any], dict[str, Any]]] = {
    "cue": (cue, cued_target.CuedTarget, dict(n_pictures=4, fps=1)),
    "entities": (entities, entity_attention.MatchingKey, dict(episodes=8, n_pictures=2, fps=1)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(FILMS), default=list(FILMS))
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--agents", type=Path, help="folder of agents that are trained already, NAME.zip")
    args = parser.parse_args()
    th.set_num_threads(1)  # networks this small are fastest on one
    for name in args.only:
        train, make_env, options = FILMS[name]
        trained = None if args.agents is None else args.agents / f"{name}.zip"
        if trained is not None and trained.exists():
            model = (RecurrentDQN if name == "cue" else DQN).load(trained)
        else:
            model = train()
            if trained is not None:
                model.save(trained)
        print(record_attention_video(model, make_env(), args.out / f"inspect-{name}.mp4", **options), flush=True)


if __name__ == "__main__":
    main()
