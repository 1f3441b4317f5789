"""The worked case of names in text: what its text is like, and that it runs."""

import importlib
import json
import sys
from itertools import combinations
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_checker import check_env

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(name="text", scope="module")
def _text() -> ModuleType:
    sys.path.insert(0, str(EXAMPLES))  # as for a script that lies there
    try:
        return importlib.import_module("ner_text")
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(name="ner", scope="module")
def _ner(text: ModuleType) -> ModuleType:
    for package in ("peft", "safetensors", "seqeval"):  # here, since they take seconds wherever tests are collected
        pytest.importorskip(package)
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module("ner_tagging")
    finally:
        sys.path.remove(str(EXAMPLES))


def kind_by_history(text: ModuleType, words: list[str]) -> str:
    """:return: the kind of what was last done, or last called by a noun with "the" or "this" before it"""
    kind_of = {word: kind for lists in (text.NOUNS, text.DONE) for kind, words in lists.items() for word in words}
    skipped = {*text.WORDS["ADJ"], *(word for words in text.LIKE.values() for word in words)}
    nouns = {word for words in text.NOUNS.values() for word in words}
    for i in range(len(words) - 1, -1, -1):
        if words[i] in kind_of:
            at = i - 1
            while words[at] in skipped:
                at -= 1
            if words[i] not in nouns or words[at] in ("the", "this"):
                return kind_of[words[i]]
    raise AssertionError(words)


def test_splits_share_no_names_and_no_patterns(text: ModuleType) -> None:
    for one, other in combinations(text.SPLITS, 2):
        assert not set(text.NAMES[one]) & set(text.NAMES[other])
        for pool in (text.LEADS, text.GAPS, text.TAILS, text.PLAIN):
            assert not (set(pool[one]) & set(pool[other])) - {""}
    drawn = {split: text.Grammar(split, 0).sentences(400) for split in text.SPLITS}
    for split, sentences in drawn.items():
        names = {w for s in sentences for w, tag in zip(s.words, s.tags, strict=True) if tag != "O"}
        assert len(names) > 20 and names <= set(text.NAMES[split])
    pieces = {split: {p for s in sentences for p in s.pattern} - {""} for split, sentences in drawn.items()}
    for one, other in combinations(text.SPLITS, 2):
        assert pieces[one] and not pieces[one] & pieces[other]


def test_unlabelled_text_has_every_name_and_no_pattern_of_other_splits(text: ModuleType) -> None:
    texts = text.unlabelled(3_000, 0)
    known = {word for words in texts for word in words}
    assert {name for names in text.NAMES.values() for name in names} <= known
    for split in ("validation", "test"):
        assert {word for s in text.Grammar(split, 0).sentences(400) for word in s.words} <= known
    texts_in_one = "\n".join(" ".join(words) for words in texts)
    assert ", as everyone knew ," in texts_in_one and "as the" not in texts_in_one  # of training, of the test


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_what_came_before_decides_the_tags(text: ModuleType, split: str) -> None:
    distances = []
    for words, tags, _ in text.Grammar(split, 3).sentences(400):
        assert len(words) == len(tags) <= text.LONGEST
        assert any(tag != "O" for tag in tags)
        for i, tag in enumerate(tags):
            if tag.startswith("B-"):
                assert tag[2:] == kind_by_history(text, words[:i]), (words, i)
                kinds = [w in {n for ns in (*text.NOUNS.values(), *text.DONE.values()) for n in ns} for w in words[:i]]
                distances.append(i - max(j for j, is_kind in enumerate(kinds) if is_kind))
            elif tag.startswith("I-"):
                assert tags[i - 1][2:] == tag[2:]
    assert np.mean(np.array(distances) > 2) > 0.5  # out of sight of an observation of three tokens


def test_a_name_may_be_of_any_kind(text: ModuleType) -> None:
    found: dict[str, set[str]] = {}
    for words, tags, _ in text.Grammar("train", 0).sentences(3_000):
        for word, tag in zip(words, tags, strict=True):
            if tag != "O":
                found.setdefault(word, set()).add(tag[2:])
    assert all(found[name] == set(text.KINDS) for name in text.NAMES["train"])


def test_environment(ner: ModuleType, text: ModuleType) -> None:
    env = ner.Tagging()
    check_env(env)
    observation, _ = env.reset(seed=7)
    first = env.seen.copy()
    assert observation[0] == observation[1] == text.IDS[text.PAD] and observation[2] > text.IDS[text.MASK]
    rewards, done, seen = [], False, [observation]
    right = list(env.tags)
    while not done:
        observation, reward, done, _, _ = env.step(right[len(rewards)] if len(rewards) != 2 else (right[2] + 1) % 7)
        rewards.append(reward)
        seen.append(observation)
    assert rewards == [1.0, 1.0, 0.0, *[1.0] * (len(right) - 3)]
    assert all((seen[t][:2] == seen[t - 1][1:]).all() for t in range(1, len(seen)))
    again, _ = env.reset(seed=7)
    assert (env.seen == first).all() and (again == first[0]).all()


def test_tags_are_those_of_acting_step_by_step(ner: ModuleType, text: ModuleType, tmp_path: Path) -> None:
    th.manual_seed(0)
    model = ner.make_model(ner.ATTENTION._replace(encoder="scratch"), tmp_path / "none", 0)
    sentences = text.Grammar("test", 0).sentences(5)
    for sentence, given in zip(sentences, ner.tag(model, sentences), strict=True):
        state = None
        for t, seen in enumerate(ner.observe(sentence.words)):
            action, state = model.predict(seen, state, np.array([t == 0]), deterministic=True)
            assert text.TAGS[action] == given[t]
    assert len({tag for given in ner.tag(model, sentences) for tag in given}) > 1


def test_it_runs_and_does_nothing_twice(
    ner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ner"
    words = ["--steps", "4200", "--pretrain-steps", "3", "--sentences", "4", "--out", str(out)]
    for variant in ("attention, adapters", "supervised", "supervised"):
        monkeypatch.setattr(sys, "argv", ["ner_tagging.py", *words, "--only", variant])
        ner.main()
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["variant"] for line in lines] == ["attention, adapters", "supervised tagger, full"]
    assert all(0.0 <= line["test_f1"] <= 1.0 and line["curve"] for line in lines)
    assert capsys.readouterr().out.count("| supervised tagger, full |") == 2
    assert (out / "encoder-3-0.safetensors").exists() and not list(out.glob("*.part"))
