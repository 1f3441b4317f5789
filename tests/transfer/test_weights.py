"""Parts of other agents."""

import io
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import PPO

from sb3_attnmem import RecurrentQRDQN
from sb3_attnmem.extractors import PretrainedExtractor
from sb3_attnmem.transfer import load_pretrained, merge_adapters, set_learning
from tests.transfer.models import ALGORITHMS, Body, Drift, copy_of, make, moved, online_of


def saved(folder: Path, algorithm: str, steps: int = 64, **options: Any) -> tuple[Any, Path]:
    """:return: an agent that has learned something, and its file"""
    agent = make(algorithm, seed=1, **options)
    agent.learn(steps)
    agent.save(folder / "agent")
    return agent, folder / "agent.zip"


def extractor_of(model: Any) -> dict[str, th.Tensor]:
    return copy_of(online_of(model).features_extractor)  # type: ignore[arg-type]


# Names of parts are the same in all algorithms: what goes to DQN and from DQN goes anywhere
@pytest.mark.parametrize(
    "there, here", [*((name, "DQN") for name in ALGORITHMS), *(("DQN", name) for name in ALGORITHMS if name != "DQN")]
)
def test_an_extractor_goes_from_any_algorithm_to_any(there: str, here: str, tmp_path: Path) -> None:
    agent, path = saved(tmp_path, there)
    model = make(here)
    before = copy_of(model.policy)
    load_pretrained(model, path, "features_extractor")
    changed = moved(before, model.policy)
    assert changed and all("features_extractor" in name for name in changed)
    assert moved(extractor_of(agent), online_of(model).features_extractor) == set()  # type: ignore[arg-type]
    for name in ("q_net_target", "quantile_net_target"):
        if hasattr(model, name):
            assert moved(extractor_of(agent), getattr(model, name).features_extractor) == set()
    model.learn(64)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_all_that_both_have(algorithm: str, tmp_path: Path) -> None:
    agent, path = saved(tmp_path, algorithm)
    model = make(algorithm)
    names = load_pretrained(model, path.with_suffix(""))
    assert moved(copy_of(online_of(agent)), online_of(model)) == set()
    assert len(names) == len(set(names)) == len(online_of(model).state_dict())


def test_the_memory_of_a_recurrent_agent(tmp_path: Path) -> None:
    agent, path = saved(tmp_path, "RecurrentDQN")
    model = make("RecurrentDQN")
    before = copy_of(model.q_net)
    names = load_pretrained(model, path, ("memory", "encoder"))
    assert moved(before, model.q_net) == set(names)
    assert {name.split(".")[0] for name in names} == {"memory", "encoder"}
    assert moved(copy_of(agent.q_net.memory), model.q_net_target.memory) == set()


def test_a_quantile_agent_takes_parts_of_qrdqn_and_is_frozen_like_others(tmp_path: Path) -> None:
    """Extractor, and the head where there are as many quantiles; what learns outlives a file."""
    agent, path = saved(tmp_path, "QRDQN")
    options = dict(ALGORITHMS["RecurrentDQN"][2], features_extractor_class=Body, dueling=False, n_quantiles=5)
    settings = dict(ALGORITHMS["RecurrentDQN"][1], policy_kwargs=options, seed=0)
    model = RecurrentQRDQN("MlpPolicy", Drift(), **settings)
    before = copy_of(model.q_net)
    names = load_pretrained(model, path)
    assert {name.split(".")[0] for name in names} == {"features_extractor", "q_head"}
    assert {name.split(".")[0] for name in moved(before, model.q_net)} == {"features_extractor", "q_net"}
    for ours in (model.q_net, model.q_net_target):
        assert moved(copy_of(agent.quantile_net.quantile_net), ours.q_net) == set()
        assert moved(extractor_of(agent), ours.features_extractor) == set()  # type: ignore[arg-type]
    latents = th.randn(3, 8)
    theirs = agent.quantile_net.quantile_net(latents).view(-1, 5, 2)
    assert th.equal(model.q_net.q_net.quantiles(latents), theirs)  # type: ignore[operator]
    set_learning(model, freeze=["features_extractor"])
    before = copy_of(model.q_net)
    model.learn(64)
    assert "features_extractor" not in {name.split(".")[0] for name in moved(before, model.q_net)}
    model.save(tmp_path / "frozen")
    loaded = RecurrentQRDQN.load(tmp_path / "frozen")
    assert moved(copy_of(model.policy), loaded.policy) == set() and loaded.policy.architecture.n_quantiles == 5  # type: ignore[attr-defined]
    other = RecurrentQRDQN("MlpPolicy", Drift(), **{**settings, "policy_kwargs": dict(options, n_quantiles=7)})
    with pytest.raises(ValueError, match=re.escape("q_head.2.weight: (10, 8) there, (14, 8) here")):
        load_pretrained(other, path, "q_head")


def test_something_inside_a_part(tmp_path: Path) -> None:
    _, path = saved(tmp_path, "DQN")
    model = make("RecurrentDQN")
    names = load_pretrained(model, path, "features_extractor.layers.0")
    assert names == ["features_extractor.layers.0.weight", "features_extractor.layers.0.bias"]


def test_separate_extractors_of_actor_and_critic(tmp_path: Path) -> None:
    unshared = dict(share_features_extractor=False, features_extractor_class=Body)
    agent, path = saved(tmp_path, "PPO", policy_kwargs=unshared)
    model = make("PPO", policy_kwargs=unshared)
    load_pretrained(model, path, "features_extractor")
    pairs = [(getattr(m.policy, f"{head}_features_extractor")) for head in ("pi", "vf") for m in (agent, model)]
    assert moved(copy_of(pairs[0]), pairs[1]) == moved(copy_of(pairs[2]), pairs[3]) == set()
    assert moved(copy_of(pairs[0]), pairs[2])
    other, path = saved(tmp_path, "DQN")
    load_pretrained(model, path)
    for extractor in (model.policy.pi_features_extractor, model.policy.vf_features_extractor):
        assert moved(extractor_of(other), extractor) == set()


def test_a_mismatch_says_which_tensor_and_changes_nothing(tmp_path: Path) -> None:
    wide = dict(features_extractor_class=Body, features_extractor_kwargs=dict(width=12))
    _, path = saved(tmp_path, "DQN", policy_kwargs=wide)
    model = make("DQN")
    before = copy_of(model.policy)
    with pytest.raises(ValueError, match=re.escape("features_extractor.layers.0.weight: (12, 3) there, (8, 3) here")):
        load_pretrained(model, path)
    _, path = saved(tmp_path, "DQN", policy_kwargs=dict(net_arch=[8, 8]))
    with pytest.raises(ValueError, match=re.escape("q_head.4.weight: (2, 8) there, missing here")):
        load_pretrained(model, path, "q_head")
    _, path = saved(tmp_path, "DQN", policy_kwargs=dict(net_arch=[]))
    with pytest.raises(ValueError, match=re.escape("q_head.2.weight: missing there, (2, 8) here")):
        load_pretrained(model, path, "q_head")
    assert moved(before, model.policy) == set()


def test_adapters_before_or_after(tmp_path: Path) -> None:
    agent, path = saved(tmp_path, "DQN")
    model = make("DQN")
    set_learning(model, freeze="all", adapters=dict(targets="q_head", rank=2))
    load_pretrained(model, path)
    merge_adapters(model)
    assert moved(copy_of(agent.q_net), model.q_net) == set()
    set_learning(agent, adapters=dict(targets="q_head", rank=2))
    agent.save(path)
    with pytest.raises(ValueError, match=r"has adapters. Load it, merge_adapters\(agent\)"):
        load_pretrained(model, path)


def test_old_averages_of_the_optimiser_go(tmp_path: Path) -> None:
    _, path = saved(tmp_path, "DQN")
    model = make("DQN")
    model.learn(64)
    load_pretrained(model, path, "features_extractor")
    known = set(model.policy.optimizer.state)
    assert known == set(model.q_net.q_net.parameters())


def test_an_agent_s_weights_stand_in_for_a_missing_file(tmp_path: Path) -> None:
    options = dict(features_extractor_class=PretrainedExtractor)
    linear: dict[str, Any] = dict(module=th.nn.Linear, module_kwargs=dict(in_features=3, out_features=8))
    _, path = saved(tmp_path, "DQN", policy_kwargs=dict(options, features_extractor_kwargs=linear))
    model = make("DQN", policy_kwargs=dict(options, features_extractor_kwargs=dict(linear, weights="gone.pt")))
    load_pretrained(model, path, "q_head")
    with pytest.raises(ValueError, match="There is no file of weights gone"):
        model.learn(64)
    load_pretrained(model, path, "features_extractor")
    model.learn(64)


@pytest.mark.parametrize("algorithm", ["DQN", "PPO"])
def test_each_extractor_whose_file_is_missing_gets_an_agent_s_weights(algorithm: str, tmp_path: Path) -> None:
    """Actor and critic each have one; and what is filled beside the module (a layer behind it) is not enough."""
    linear: dict[str, Any] = dict(
        module=th.nn.Linear, module_kwargs=dict(in_features=3, out_features=8), features_dim=4
    )
    options: dict[str, Any] = dict(features_extractor_class=PretrainedExtractor, features_extractor_kwargs=linear)
    gone = dict(options, features_extractor_kwargs=dict(linear, weights="gone.pt"))
    if algorithm == "PPO":
        gone["share_features_extractor"] = False
    _, path = saved(tmp_path, "DQN", policy_kwargs=options)
    model = make(algorithm, policy_kwargs=gone)
    load_pretrained(model, path, "features_extractor.linear")
    with pytest.raises(ValueError, match="There is no file of weights gone"):
        model.predict(model.observation_space.sample(), deterministic=True)
    load_pretrained(model, path, "features_extractor")
    model.learn(32)


class Malice:
    """A pickle that runs a command where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def test_an_agent_s_file_executes_nothing(tmp_path: Path) -> None:
    _, path = saved(tmp_path, "DQN")
    mark = tmp_path / "executed"
    held = io.BytesIO()
    th.save({"q_net.q_net.0.weight": Malice(mark)}, held)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name, content in {"policy.pth": held.getvalue(), "data": pickle.dumps(Malice(mark))}.items():
        with zipfile.ZipFile(tmp_path / "planted.zip", "w") as archive:
            for part, written in {**parts, name: content}.items():
                archive.writestr(part, written)
        model = make("DQN")
        before = copy_of(model.policy)
        if name == "policy.pth":
            with pytest.raises(ValueError, match="nothing of it was executed"):
                load_pretrained(model, tmp_path / "planted.zip")
            assert moved(before, model.policy) == set()
        else:
            load_pretrained(model, tmp_path / "planted.zip")
    assert not mark.exists()
    th.load(io.BytesIO(held.getvalue()), weights_only=False)
    assert mark.exists(), "the file is harmless: the test would find nothing"


def with_weights(path: Path, weights: Any, target: Path) -> Path:
    """:return: a copy of an agent's file with other weights"""
    held = io.BytesIO()
    th.save(weights, held)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w") as written:
        for name in archive.namelist():
            written.writestr(name, held.getvalue() if name == "policy.pth" else archive.read(name))
    return target


SPOILT: dict[str, Any] = {
    "meta": lambda tensor: tensor.to("meta"),
    "sparse": lambda tensor: tensor.to_sparse(),
    "quantised": lambda tensor: th.quantize_per_tensor(tensor, 0.1, 0, th.qint8),
    "torch.complex64 there": lambda tensor: tensor.to(th.complex64),
    "torch.int64 there": lambda tensor: tensor.long(),
    "not finite there": lambda tensor: tensor.index_fill(0, th.tensor([0]), th.nan),
    "a list instead of a tensor": lambda tensor: tensor.tolist(),
}


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_the_last_tensor_that_cannot_be_copied_is_told_before_the_first_is(kind: str, tmp_path: Path) -> None:
    agent, path = saved(tmp_path, "DQN")
    weights = dict(agent.policy.state_dict())
    weights["q_net.q_net.2.bias"] = SPOILT[kind](weights["q_net.q_net.2.bias"])
    spoilt = with_weights(path, weights, tmp_path / "spoilt.zip")
    model = make("DQN")
    before = copy_of(model.policy)
    with pytest.raises(ValueError, match=rf"q_head\.2\.bias: .*{re.escape(kind)}"):
        load_pretrained(model, spoilt)
    assert moved(before, model.policy) == set()
    load_pretrained(model, spoilt, "features_extractor")
    precise = {name: weight.double() for name, weight in agent.policy.state_dict().items()}
    load_pretrained(model, with_weights(path, precise, tmp_path / "precise.zip"), "q_head")
    assert moved(copy_of(agent.q_net.q_net), model.q_net.q_net) == set()


def test_a_damaged_agent_is_told_and_changes_nothing(tmp_path: Path) -> None:
    _, path = saved(tmp_path, "DQN")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "small.zip", "w", zipfile.ZIP_DEFLATED) as small:
        for name in archive.namelist():
            small.writestr(name, archive.read(name))
    with zipfile.ZipFile(tmp_path / "small.zip") as archive:
        begin = archive.getinfo("policy.pth").header_offset
    whole = (tmp_path / "small.zip").read_bytes()
    model = make("DQN")
    before = copy_of(model.policy)
    for content in (b"", whole[:100], whole[: begin + 200], whole[: begin + 60] + b"x" * 20 + whole[begin + 80 :]):
        (tmp_path / "damaged.zip").write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged\.zip is no agent that Stable-Baselines3 saved"):
            load_pretrained(model, tmp_path / "damaged.zip")
    assert moved(before, model.policy) == set()


def test_wrong_arguments_are_told(tmp_path: Path) -> None:
    agent, path = saved(tmp_path, "DQN")
    for model, file, parts, message in (
        (None, path, None, "model=None must be a model of RecurrentDQN"),
        (agent.policy, path, None, "must be a model of RecurrentDQN"),
        (agent, None, None, "path=None must be the path"),
        (agent, {}, None, "path={} must be the path"),
        (agent, path, 3, "parts=3 must be names of parts"),
        (agent, path, ["q_head", None], "parts=['q_head', None] must be names of parts"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            load_pretrained(model, file, parts)  # type: ignore[arg-type]


def test_foreign_files(tmp_path: Path) -> None:
    model = make("DQN")
    for nothing in (tmp_path / "nothing", tmp_path, "", "."):
        with pytest.raises(FileNotFoundError, match="There is no agent"):
            load_pretrained(model, nothing)
    (tmp_path / "text.zip").write_text("no agent", encoding="utf-8")
    with pytest.raises(ValueError, match="is no agent that Stable-Baselines3 saved"):
        load_pretrained(model, tmp_path / "text.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "no agent")
    with pytest.raises(ValueError, match="holds no policy, only nothing"):
        load_pretrained(model, tmp_path / "empty.zip")


@pytest.mark.parametrize(
    "parts, message",
    [
        ("memory", "'memory' is not in the agent. The agent of "),
        ("memori", "'memori' is not in the model."),
        ("q_head", "'q_head' is not in the agent."),
        ("features_extractor.nrom", "'features_extractor.nrom' is not in the model."),
        ((), "nothing to load"),
    ],
)
def test_parts_that_are_not_there(parts: Any, message: str, tmp_path: Path) -> None:
    _, path = saved(tmp_path, "PPO")
    model = make("RecurrentDQN")
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_pretrained(model, path, parts)
    assert isinstance(model, PPO) or "features_extractor" in str(error.value)
