"""
Makes ``trained_agents/``, in the layout of the RL Zoo: agents to load at once, with their settings, a score and an ONNX
file. Each is trained by the command line with its entry of ``zoo_configs/`` and seed 0; of Atari, the model is that of
``atari_learning.py``. What is there already is left.

    python benchmarks/trained_agents.py                   # train what is missing, and list all
    sb3-attnmem enjoy --algo rdqn --env PassiveTMaze30-v0 -f trained_agents
"""

import argparse
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch as th
import yaml
from resumable import origin
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_attnmem.export import export_onnx
from sb3_attnmem.zoo.registration import register
from sb3_attnmem.zoo.trained import add_agent_options, load_agent

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "trained_agents"
TRAINED = ROOT / "outputs" / "trained_agents"
ATARI = ROOT / "outputs" / "atari_learning"
#: bytes of an ONNX file, at most
ONNX_BYTES = 4_000_000
#: of an agent, from which on they ship with 16 bits
MANY_WEIGHTS = 1_000_000


class Agent(NamedTuple):
    """
    :param algo: as the command line names it
    :param env_id: trained in
    :param package: that registers the environment; None: the command line knows it
    :param model: file of a model that was trained elsewhere with these settings; None: the command line trains it
    :param episodes: of its evaluation
    """

    algo: str
    env_id: str
    package: str | None = None
    model: Path | None = None
    episodes: int = 100


AGENTS = [
    Agent("rdqn", "CartPoleNoVel-v1"),
    Agent("rdqn", "PassiveTMaze30-v0"),
    Agent("rdqn", "popgym-RepeatPreviousEasy-v0", "popgym"),
    Agent("rdqn", "PassiveTMaze10-v0"),
    Agent("rdqn", "MiniGrid-MemoryS9-v0", "minigrid"),
    Agent("rdqn", "PassiveTMaze100-v0"),
    Agent("rdqn", "PassiveTMaze500-v0"),
    Agent("rdqn", "PassiveTMaze1500-v0"),
    Agent("rdqn", "popgym-AutoencodeEasy-v0", "popgym"),
    Agent("rdqn", "PongNoFrameskip-v4", model=ATARI / "Pong-rdqn-0" / "model.zip", episodes=30),
    Agent("dqn", "PongNoFrameskip-v4", model=ATARI / "Pong-dqn,_42_pixels-0" / "model.zip", episodes=30),
]


def command_line(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "sb3_attnmem", *words], check=True, cwd=ROOT)


def packages(agent: Agent) -> list[str]:
    return [] if agent.package is None else ["--gym-packages", agent.package]


def make(agent: Agent) -> None:
    """Train an agent, and put what is worth keeping where it ships from."""
    words = ["train", "--algo", agent.algo, "--env", agent.env_id, "-f", str(TRAINED), "--seed", "0", *packages(agent)]
    run = TRAINED / agent.algo / f"{agent.env_id}_1"
    if not (run / f"{agent.env_id}.zip").is_file():
        shutil.rmtree(run, ignore_errors=True)
        command_line(*words, "--num-threads", "1", *([] if agent.model is None else ["-n", "1"]))
    if agent.model is not None:
        shutil.copyfile(agent.model, run / f"{agent.env_id}.zip")
    kept = SHIPPED / agent.algo / f"{agent.env_id}_1"
    (kept / agent.env_id).mkdir(parents=True)
    for name in ("config.yml", "args.yml", "command.txt", "vecnormalize.pkl"):
        source = run / agent.env_id / name
        if source.suffix == ".pkl" and source.is_file():
            shutil.copyfile(source, kept / agent.env_id / name)
        elif source.is_file():
            (kept / agent.env_id / name).write_text(without_paths(source.read_text(encoding="utf-8")), encoding="utf-8")
    ship(ALGOS[agent.algo].load(run / f"{agent.env_id}.zip", device="cpu"), kept / f"{agent.env_id}.zip")
    model, env, path = load(agent)
    score, spread = evaluate_policy(model, env, n_eval_episodes=agent.episodes)
    onnx = export_onnx(model, path.with_suffix(".onnx"))
    if onnx.n_bytes > ONNX_BYTES:
        onnx.path.unlink()
    evaluation = dict(score=round(float(score), 3), std=round(float(spread), 3), episodes=agent.episodes)  # type: ignore[arg-type]
    (kept / "evaluation.yml").write_text(yaml.safe_dump({**evaluation, **origin()}), encoding="utf-8")


def ship(trained: Any, path: Path) -> None:
    """
    Save what who plays an agent needs, in an eighth of the bytes: no moments of the optimizer, weights of 16 bits, a
    target that equals the network, packed.

    :param trained: the agent, which is changed
    :param path: of its file
    """
    policy = trained.policy
    policy.optimizer.state.clear()
    policy.q_net_target.load_state_dict(policy.q_net.state_dict())
    # Not every processor computes fast with the format that it was trained with
    trained.policy_kwargs.get("features_extractor_kwargs", {}).pop("precision", None)
    if sum(weights.numel() for weights in policy.q_net.parameters()) > MANY_WEIGHTS:
        policy.half()
    trained.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = [(part, archive.read(part)) for part in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for part, content in parts:
            archive.writestr(part.filename, content)


def without_paths(text: str) -> str:
    """:return: the text with folders as seen from the project's, and the command as users type it"""
    text = re.sub(r"\S*/(zoo_configs|outputs/trained_agents)", r"\1", text).replace(
        "outputs/trained_agents", SHIPPED.name
    )
    return re.sub(r"\S*python\S* -m sb3_attnmem", "sb3-attnmem", text)


def load(agent: Agent) -> Any:
    parser = argparse.ArgumentParser()
    add_agent_options(parser)
    words = ["--algo", agent.algo, "--env", agent.env_id, "-f", str(SHIPPED), "--seed", "10000", "--device", "cpu"]
    words += packages(agent)
    return load_agent(parser.parse_args(words))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    th.set_num_threads(1)
    register()
    for agent in AGENTS:
        if not (SHIPPED / agent.algo / f"{agent.env_id}_1" / "evaluation.yml").is_file():
            shutil.rmtree(SHIPPED / agent.algo / f"{agent.env_id}_1", ignore_errors=True)
            make(agent)
    print("| agent | environment | score | size (kB) |\n|---|---|--:|--:|")
    for path in sorted(SHIPPED.glob("*/*/evaluation.yml")):
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        size = sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file())
        score = f"{found['score']:g} ± {found['std']:g}"
        print(f"| `{path.parent.parent.name}` | {path.parent.name[:-2]} | {score} | {size / 1000:.0f} |")


if __name__ == "__main__":
    main()
