"""Files whose metadata are missing, cut off, changed or of another graph are refused when they are opened."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from sb3_attnmem.export import OnnxPolicy, export_onnx
from tests.dqn_recurrent.worlds import make_learner, make_world

BOX = dict(type="Box", shape=[3], dtype="float32")


@pytest.fixture(name="path", scope="module")
def _path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(make_learner(), tmp_path_factory.mktemp("export") / "model.onnx", check=False).path


@pytest.fixture(name="open_changed")
def _open_changed(path: Path, tmp_path: Path) -> Callable[..., OnnxPolicy]:
    def open_changed(graph: Callable[[Any], None] = lambda _: None, **metadata: str | None) -> OnnxPolicy:
        """:param metadata: key without its prefix -> new text, None: without it"""
        model = onnx.load(path)
        texts = {one.key: one.value for one in model.metadata_props}
        texts |= {f"sb3_attnmem.{key}": text for key, text in metadata.items()}  # type: ignore[dict-item]
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, {key: text for key, text in texts.items() if text is not None})
        graph(model.graph)
        onnx.save(model, tmp_path / "changed.onnx")
        return OnnxPolicy(tmp_path / "changed.onnx")

    return open_changed


@pytest.mark.parametrize("key", ["format", "observation_space", "action_space"])
def test_what_is_missing_is_named(open_changed: Callable[..., OnnxPolicy], key: str) -> None:
    with pytest.raises(ValueError, match=rf"changed.onnx is an ONNX file, but not one .*'sb3_attnmem.{key}'"):
        open_changed(**{key: None})


@pytest.mark.parametrize("text", ["", "1.0", "2", " 1"])
def test_formats_of_other_versions(open_changed: Callable[..., OnnxPolicy], text: str) -> None:
    with pytest.raises(ValueError, match=rf"has format '{text}' \(sb3_attnmem .*\), this version reads format '1'"):
        open_changed(format=text)


@pytest.mark.parametrize("key", ["observation_space", "action_space"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        json.dumps(BOX)[:-9],
        "null",
        "[]",
        '"Box"',
        json.dumps(dict(type="Box")),
        json.dumps({**BOX, "type": "Sphere"}),
        json.dumps({**BOX, "shape": "abc"}),
        json.dumps({**BOX, "shape": [-3]}),
        json.dumps({**BOX, "shape": [3.0]}),
        json.dumps({**BOX, "dtype": "nonsense"}),
        json.dumps({**BOX, "dtype": "complex64"}),
        json.dumps(dict(type="Dict")),
        json.dumps(dict(type="Dict", spaces={})),
        json.dumps(dict(type="Dict", spaces=dict(a=BOX, b=3))),
        json.dumps(dict(type="Discrete", shape=[], dtype="int64")),
        json.dumps(dict(type="Discrete", shape=[], dtype="int64", n=0)),
        json.dumps(dict(type="MultiDiscrete", shape=[2], dtype="int64", nvec=[3])),
        json.dumps(dict(type="MultiDiscrete", shape=[2], dtype="int64", nvec=[3, 0])),
    ],
)
def test_spaces_that_are_none(open_changed: Callable[..., OnnxPolicy], key: str, text: str) -> None:
    with pytest.raises(
        ValueError, match=rf"sb3_attnmem.{key} of .*changed.onnx cannot be read .* Export the agent again"
    ):
        open_changed(**{key: text})


@pytest.mark.parametrize("text", ["", "3", "null", '"true"'])
def test_whether_it_normalises(open_changed: Callable[..., OnnxPolicy], text: str) -> None:
    with pytest.raises(ValueError, match=r"sb3_attnmem.vec_normalize of .*changed.onnx cannot be read"):
        open_changed(vec_normalize=text)


def rename(kind: str, name: str) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        one = next(one for one in getattr(graph, kind) if one.name == name)
        for node in graph.node:
            for names in (node.input, node.output):
                for i, used in enumerate(names):
                    if used == name:
                        names[i] = "other"
        one.name = "other"

    return change


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            dict(observation_space=json.dumps({**BOX, "shape": [4]})),
            r"observation is float32 of shape \[3\].*of shape \[4\]",
        ),
        (dict(observation_space=json.dumps({**BOX, "dtype": "uint8"})), "its metadata tells of uint8"),
        (
            dict(observation_space=json.dumps(dict(type="Dict", spaces=dict(a=BOX)))),
            r"observation is none .*observation.a",
        ),
        (dict(action_space=json.dumps(BOX)), "its actions are a Box, not Discrete"),
        (dict(action_space=json.dumps(dict(type="Discrete", shape=[], dtype="int64", n=7))), "3 Q-values.* 7 actions"),
        (dict(graph=rename("output", "next_state.c")), "lacks the output next_state.c"),
        (dict(graph=rename("output", "q_values")), "lacks the output q_values"),
        (dict(graph=rename("input", "episode_start")), "its input other is none that its metadata tells of"),
    ],
)
def test_metadata_of_another_graph(open_changed: Callable[..., OnnxPolicy], changes: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"changed.onnx does not fit together: .*{told}"):
        open_changed(**changes)


def test_what_only_tells_may_be_missing(open_changed: Callable[..., OnnxPolicy]) -> None:
    policy = open_changed(version=None, algorithm=None, memory="", vec_normalize=None)
    assert not policy.normalizes and policy.predict(make_world().reset()[0])[0].shape == ()
