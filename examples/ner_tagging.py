"""
Tagging names in text, as a partially observable task: from pre-training on unlabelled text to a fine-tuned agent.

An environment reads a sentence to the agent, token by token (``ner_text.py`` writes them). The observation is the
newest three tokens, the action the newest one's tag (O, B-PER, I-PER, …), the reward 1 if it is right. What a name is
depends on words further back, so memory decides. A transformer encoder (``ner_encoder.py``) is pre-trained by
masked-token prediction, and reads the observation as a ``PretrainedExtractor``.

    python examples/ner_tagging.py                  # everything; finished lines are not done again
    python examples/ner_tagging.py --only lstm       # the agents whose name contains that
"""

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from ner_encoder import SEEN, Encoder, observe, pretrain
from ner_text import IDS, LONGEST, PAD, TAGS, VOCABULARY, Grammar, Sentence
from seqeval.metrics import f1_score
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from torch.nn import functional as F
from tqdm import trange

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.common.parameters import what_learns
from sb3_attnmem.replay import SequencePart
from sb3_attnmem.transfer import PretrainedExtractor, set_learning


class Tagging(gym.Env):
    """
    An episode is a sentence. The reward is 1 for the newest token's tag, else 0.

    :param split: whose sentences
    """

    observation_space = spaces.Box(0, len(VOCABULARY) - 1, (SEEN,), np.int64)
    action_space = spaces.Discrete(len(TAGS))

    def __init__(self, split: str = "train") -> None:
        self.split = split
        self.grammar: Grammar | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        if seed is not None or self.grammar is None:
            self.grammar = Grammar(self.split, int(self.np_random.integers(2**31)))
        sentence = self.grammar.sentence()
        self.seen = observe([*sentence.words, PAD])
        self.tags = [TAGS.index(tag) for tag in sentence.tags]
        self.at = 0
        return self.seen[0], {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = float(action == self.tags[self.at])
        self.at += 1
        return self.seen[self.at], reward, self.at == len(self.tags), False, {}


class Variant(NamedTuple):
    """
    An agent: its memory, and what of its encoder learns.

    :param memory: the memory's name
    :param memory_kwargs: its options
    :param fusion: what the head reads
    :param encoder: "frozen", "adapters", "full", or "scratch": not pre-trained, all of it learns
    :param supervised: learns from the right tags by cross-entropy, not from rewards
    """

    memory: str
    memory_kwargs: dict[str, Any]
    fusion: str
    encoder: str = "full"
    supervised: bool = False


ATTENTION = Variant("window", dict(hidden_size=48, window=24, num_layers=1), "gate")
VARIANTS = {
    "memoryless, full": Variant("none", {}, "none"),
    "lstm, full": Variant("lstm", dict(hidden_size=48), "gate"),
    "attention, frozen": ATTENTION._replace(encoder="frozen"),
    "attention, adapters": ATTENTION._replace(encoder="adapters"),
    "attention, full": ATTENTION,
    "attention, not pre-trained": ATTENTION._replace(encoder="scratch"),
    "supervised tagger, full": ATTENTION._replace(supervised=True),
}


def make_model(variant: Variant, weights: Path, seed: int) -> RecurrentDQN:
    """
    Make the agent of a variant.

    :param variant: what it is made of, and what of it learns
    :param weights: of the pre-trained encoder
    :param seed: of weights, sentences and exploration
    :return: untrained
    """
    extractor_kwargs = dict(
        module=Encoder,
        module_kwargs=dict(joined=True),
        weights=None if variant.encoder == "scratch" else str(weights),
        output="vector",
        freeze="all" if variant.encoder in ("frozen", "adapters") else "none",
    )
    model = RecurrentDQN(
        "MlpPolicy",
        make_vec_env(Tagging, n_envs=64, seed=seed),
        learning_rate=LinearSchedule(4e-3, 0.0, 1.0),
        buffer_size=100_000,
        learning_starts=4_000,
        batch_size=16,
        gamma=0.0,  # actions change nothing of what is read next
        n_steps=1,
        sequence_length=LONGEST,
        burn_in=0,
        train_freq=2,
        tau=0.01,
        target_update_interval=64,
        target_update_unit="steps",
        exploration_fraction=0.2,
        exploration_final_eps=0.2,
        exploration_ladder=0.0,
        normalize_observations=False,
        normalize_returns=False,
        policy_kwargs=dict(
            features_extractor_class=PretrainedExtractor,
            features_extractor_kwargs=extractor_kwargs,
            memory_class=variant.memory,
            memory_kwargs=variant.memory_kwargs,
            memory_fusion=variant.fusion,
        ),
        seed=seed,
        device="cpu",
    )
    if variant.encoder == "adapters":
        set_learning(model, adapters=dict(targets=["features_extractor"], rank=8))
    elif variant.encoder == "full":
        set_learning(model, learning_rates={"features_extractor": 0.5})
    return model


def tag(model: RecurrentDQN, sentences: list[Sentence]) -> list[list[str]]:
    """:return: the tags that the agent gives, reading all sentences at once, token by token"""
    seen = np.full((LONGEST, len(sentences), SEEN), IDS[PAD])
    for i, sentence in enumerate(sentences):
        seen[: len(sentence.words), i] = observe(sentence.words)
    state, given = None, []
    for t in range(LONGEST):
        actions, state = model.predict(seen[t], state, np.full(len(sentences), t == 0), deterministic=True)
        given.append(actions)
    return [[TAGS[given[t][i]] for t in range(len(sentences[i].words))] for i in range(len(sentences))]


def f1(model: RecurrentDQN, sentences: list[Sentence]) -> float:
    """:return: of whole names, their borders and kind right"""
    return float(f1_score([sentence.tags for sentence in sentences], tag(model, sentences), zero_division=0))


class KeepBest(BaseCallback):
    """
    Scores the agent on validation sentences on the way; its best weights come back at the end.

    :param sentences: of validation
    :param every: environment steps (or updates, of a tagger)
    """

    def __init__(self, sentences: list[Sentence], every: int) -> None:
        super().__init__()
        self.sentences, self.every = sentences, every
        self.curve: list[tuple[int, float]] = []
        self.best: dict[str, th.Tensor] = {}

    def score(self, model: RecurrentDQN, step: int) -> None:
        score = f1(model, self.sentences)
        if score >= max((before for _, before in self.curve), default=0.0):
            self.best = copy.deepcopy(model.policy.state_dict())
        self.curve.append((step, round(score, 3)))

    def restore(self, model: RecurrentDQN) -> None:
        model.policy.load_state_dict(self.best)

    def _on_step(self) -> bool:
        if self.num_timesteps // self.every > len(self.curve):
            self.score(self.model, self.num_timesteps)
        return True

    def _on_training_end(self) -> None:
        self.score(self.model, self.num_timesteps)
        self.restore(self.model)


def teach(model: RecurrentDQN, updates: int, best: KeepBest, seed: int, name: str) -> None:
    """
    Train the agent's network as a tagger: cross-entropy of its outputs with the right tags. An update reads two
    sentences for each window of an agent's, which is no fewer tokens.

    :param model: whose network it is
    :param updates: as many as an agent has
    :param best: keeps what was best
    :param seed: of the sentences
    :param name: for the progress bar
    """
    grammar, network, optimizer = Grammar("train", seed), model.q_net, model.policy.optimizer
    schedule = th.optim.lr_scheduler.LambdaLR(optimizer, lambda update: 1.0 - update / updates)
    for update in trange(updates, desc=name):
        sentences = grammar.sentences(2 * model.batch_size)
        present = th.zeros(len(sentences), LONGEST, dtype=th.bool)
        for i, sentence in enumerate(sentences):
            present[i, : len(sentence.words)] = True
        seen = th.as_tensor(np.concatenate([observe(sentence.words) for sentence in sentences]))
        right = th.tensor([TAGS.index(tag) for sentence in sentences for tag in sentence.tags])
        starts = th.zeros_like(present)
        starts[:, 0] = True
        part = SequencePart(seen, present.flatten().nonzero().squeeze(1), present, starts)
        model.policy.set_training_mode(True)
        logits = network.unroll(part, network.memory.initial_state(len(sentences)))[present]
        optimizer.zero_grad()
        F.cross_entropy(logits, right).backward()
        optimizer.step()
        schedule.step()
        if (update + 1) % best.every == 0 or update + 1 == updates:
            best.score(model, update + 1)
    best.restore(model)


def run(name: str, weights: Path, steps: int, n_sentences: int, seed: int) -> dict[str, Any]:
    """
    Train a variant, and score it on sentences that it was not trained on.

    :param name: of VARIANTS
    :param weights: of the pre-trained encoder
    :param steps: environment steps
    :param n_sentences: of validation; the test set has five times as many
    :param seed: of everything that is drawn
    :return: what came of it
    """
    variant = VARIANTS[name]
    begin, cpu = time.time(), time.process_time()
    th.manual_seed(seed)
    model = make_model(variant, weights, seed)
    learns = what_learns(model.q_net)
    print(f"{name}: {learns}", flush=True)
    validation = Grammar("validation", 1_000).sentences(n_sentences)
    if variant.supervised:
        updates = max((steps - model.learning_starts) // (2 * model.n_envs), 1)
        best = KeepBest(validation, max(updates // 10, 1))
        teach(model, updates, best, seed, name)
    else:
        best = KeepBest(validation, max(steps // 10, 1))
        model.learn(steps, best, progress_bar=True)
    test = Grammar("test", 2_000).sentences(5 * n_sentences)
    return dict(
        test_f1=round(f1(model, test), 3),
        validation_f1=max(score for _, score in best.curve),
        curve=best.curve,
        learns=learns,
        seconds=round(time.time() - begin),
        cpu_seconds=round(time.process_time() - cpu),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150_000, help="environment steps (tokens) of each agent")
    parser.add_argument("--pretrain-steps", type=int, default=2_000, help="updates of masked-token prediction")
    parser.add_argument("--sentences", type=int, default=200, help="of validation; five times as many of test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only variants whose name contains this")
    parser.add_argument("--out", type=Path, default=Path("outputs/ner"), help="folder of the encoder and results")
    args = parser.parse_args()
    th.set_num_threads(1)  # networks this small are fastest on one

    weights, results = args.out / f"encoder-{args.pretrain_steps}-{args.seed}.safetensors", args.out / "results.jsonl"
    if not weights.exists():
        begin, cpu = time.time(), time.process_time()
        loss = pretrain(weights, args.pretrain_steps, args.seed)
        used = f"{time.time() - begin:.0f} s ({time.process_time() - cpu:.0f} s of CPU time)"
        print(f"pre-training: loss {loss:.2f}, {used}", flush=True)
    settings = dict(steps=args.steps, pretrain_steps=args.pretrain_steps, sentences=args.sentences, seed=args.seed)
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for name in VARIANTS:
        line = {"variant": name, **settings}
        if args.only in name and not any(line.items() <= done.items() for done in lines):
            lines.append({**line, **run(name, weights, args.steps, args.sentences, args.seed)})
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(lines[-1]) + "\n")
    print("| agent | F1 on test | on validation | learns | seconds |\n|---|---|---|---|---|")
    for line in lines:
        if settings.items() <= line.items():
            cells = [line[key] for key in ("variant", "test_f1", "validation_f1", "learns", "cpu_seconds")]
            print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
