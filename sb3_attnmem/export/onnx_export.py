"""Agents written as ONNX files."""

import contextlib
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem import __version__
from sb3_attnmem.common.checks import check_flag
from sb3_attnmem.common.files import check_path, replacing
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.export import names
from sb3_attnmem.export.actors import Actor
from sb3_attnmem.export.graph import KNOWN, PolicyGraph
from sb3_attnmem.export.spaces import describe
from sb3_attnmem.export.translations import translations
from sb3_attnmem.extractors import in_float32
from sb3_attnmem.memory import MEMORIES

#: Between the values of the model and of its file, over the larger of 1 and the largest
TOLERANCE = 1e-4


class Exported(NamedTuple):
    """
    What :func:`export_onnx` wrote.

    :param path: of the file
    :param n_bytes: its size
    :param inputs: names of the graph's inputs
    :param outputs: names of the graph's outputs
    :param max_difference: largest difference to the model's Q-values and states in the check, over the larger of 1 and
        the largest of them; None without it
    """

    path: Path
    n_bytes: int
    inputs: list[str]
    outputs: list[str]
    max_difference: float | None


@in_float32()
def export_onnx(
    model: BaseAlgorithm,
    path: str | os.PathLike[str],
    vec_normalize: VecNormalize | None = None,
    check: bool = True,
) -> Exported:
    """
    Write an agent as an ONNX graph of one step, with all that stands between the environment and its values inside:
    VecNormalize's statistics, SB3's preprocessing, extractor, memory and head.

    Inputs, each with the batch first and of any size: ``observation`` (of a Dict one a key, ``observation.KEY``) as the
    environment gives it before ``VecNormalize``, in the shape of the model's observation space (images channels first);
    ``episode_start``, bool; the memory's state, ``state.h`` and so on. Outputs: ``q_values`` (B, A), of agents with
    quantiles also ``quantiles`` (B, N, A), of which the Q-values are the means; of actors ``logits``, or ``means`` and
    ``deviations`` of continuous actions, before these are squashed or clipped; ``next_state.h`` and so on. Of noisy
    heads the means are written.

    :param model: a ``RecurrentDQN`` or ``RecurrentQRDQN``, a stock ``DQN`` or ``QRDQN``, ``PPO``, ``A2C``, or
        sb3-contrib's ``TRPO``, ``RecurrentPPO`` or ``MaskablePPO``; it is not changed
    :param path: of the file, ``model.onnx``; one that is there is replaced
    :param vec_normalize: that the agent saw its observations through; by default that of the model's environment, if it
        has one (after ``load`` without an environment it has none)
    :param check: whether to play the file beside the model before it gets its name
    :return: what was written
    :raises ImportError: when the extra ``export`` is not installed
    :raises ValueError: for another algorithm, actions of another kind, a network that ONNX cannot hold, a
        ``vec_normalize`` of other observations, or an argument that makes no sense; nothing is written then
    :raises RuntimeError: when the file's values are not the model's
    """
    _import_exporter()
    if not isinstance(model, BaseAlgorithm):
        known = KNOWN.replace(" and ", " or ")
        raise ValueError(f"model={model!r} is a {type(model).__name__}; pass the agent: a {known}.")
    path, check = check_path("path", path), check_flag("check", check)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; add the name of the file, {path / 'model.onnx'}.")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}; make it first.")
    if vec_normalize is None:
        vec_normalize = model.get_vec_normalize_env()
    elif not isinstance(vec_normalize, VecNormalize):
        raise ValueError(f"vec_normalize is a {type(vec_normalize).__name__}; pass the agent's VecNormalize, or None.")
    graph = PolicyGraph(model, vec_normalize)
    program = _to_program(graph, model)
    for node in program.model.graph.all_nodes():  # where in which file of this machine it came from
        node.metadata_props.clear()
    program.model.metadata_props.update(_metadata(model, graph))
    with replacing(path) as unfinished:
        program.save(str(unfinished), external_data=False)
        difference = _compare(graph, unfinished) if check else None
    return Exported(path, path.stat().st_size, graph.input_names, graph.output_names, difference)


def _import_exporter() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{error}. Export needs more packages: pip install 'sb3_attnmem[export]'.") from error


def _metadata(model: BaseAlgorithm, graph: PolicyGraph) -> dict[str, str]:
    memory: dict[str, Any] = {"name": "none", "options": {}, "fusion": "none"}
    if isinstance(graph.network, Actor) and graph.network.lstm is not None:
        lstm = graph.network.lstm
        memory = {
            "name": "lstm",
            "options": {"hidden_size": lstm.hidden_size, "num_layers": lstm.num_layers},
            "fusion": "none",
        }
    if isinstance(model, RecurrentDQN):
        policy = model.policy
        known = {memory_class: name for name, memory_class in MEMORIES.items()}
        memory = {
            "name": known.get(policy.architecture.memory_class, policy.architecture.memory_class.__name__),
            "options": policy.architecture.memory_kwargs,
            "fusion": policy.architecture.memory_fusion,
        }
    return {
        names.FORMAT_KEY: names.FORMAT,
        names.VERSION_KEY: __version__,
        names.ALGORITHM_KEY: type(model).__name__,
        names.OBSERVATION_SPACE_KEY: json.dumps(describe(graph.space)),
        names.ACTION_SPACE_KEY: json.dumps(describe(model.action_space)),
        names.ACTION_MASKS_KEY: getattr(model, "mask_source", None) or "none",
        names.BRANCHING_KEY: json.dumps(isinstance(model, RecurrentDQN) and model.policy.architecture.branching),
        names.SQUASHED_KEY: json.dumps(bool(getattr(model.policy, "squash_output", False))),
        names.MEMORY_KEY: json.dumps(memory, default=str),
        names.NORMALIZED_KEY: json.dumps(bool(graph.normalizer.statistics)),
    }


def _to_program(graph: PolicyGraph, model: BaseAlgorithm) -> Any:
    """
    :return: torch's ``ONNXProgram``
    :raises ValueError: when the graph cannot be exported
    """
    # Not 0 or 1, which torch takes for constants
    examples = tuple(graph.examples(batch_size=3))
    batch = th.export.Dim("batch", min=1)
    try:
        with _quiet():
            return th.onnx.export(
                graph,
                examples,
                dynamo=True,
                dynamic_shapes=(tuple({0: batch} for _ in examples),),
                input_names=graph.input_names,
                output_names=graph.output_names,
                custom_translation_table=translations(),
                verbose=False,
            )
    except Exception as error:
        extractor = type(graph.network.features_extractor).__name__
        memory = type(graph.network.memory).__name__ if isinstance(model, RecurrentDQN) else "no memory"
        raise ValueError(
            f"{type(model).__name__} with {memory} behind {extractor} cannot be exported: {_reason(error)}. All "
            f"memories of sb3_attnmem ({', '.join(MEMORIES)}) and its extractors can; modules of your own can when no "
            "branch of theirs depends on values, see docs/export.md."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's exporter, which reports on torchvision, on its progress and on axes that it renamed."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: BaseException) -> str:
    """:return: the first line and the cause, out of the exporter's long report"""
    text = re.sub(r"\x1b\[\d+m", "", str(error))
    summary = text.partition("## Exception summary")[2] or text
    lines = [line.strip() for line in summary.splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith("Caused by")]
    return " ".join([*lines[:1], *causes[:1]]).rstrip(".")


def _compare(graph: PolicyGraph, path: Path) -> float:
    """
    :param graph: the model's
    :param path: of its file
    :return: the largest difference over a few steps of one and of several environments, some of which begin anew
    :raises RuntimeError: when that is too large
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    taken = {one.name for one in session.get_inputs()}
    worst = 0.0
    for batch_size in (1, 5):
        inputs = graph.examples(batch_size)
        for step in range(6):
            with th.no_grad():
                expected = [tensor.numpy() for tensor in graph(*inputs)]
            feed = {name: tensor.numpy() for name, tensor in zip(graph.input_names, inputs, strict=True)}
            outputs = session.run(graph.output_names, {name: feed[name] for name in feed if name in taken})
            for name, given, wanted in zip(graph.output_names, outputs, expected, strict=True):
                difference = float(np.abs(given - wanted).max() / max(1.0, np.abs(wanted).max()))
                if not difference <= TOLERANCE:
                    raise RuntimeError(
                        f"The exported {name} are {difference:.2g} away from the model's (allowed are {TOLERANCE:g}), "
                        f"in step {step} of {batch_size} environments. No file was written; please report it, with "
                        "the model's policy_kwargs."
                    )
                worst = max(worst, difference)
            observations = graph.examples(batch_size, seed=step + 1)[: len(graph.keys)]
            starts = th.arange(batch_size) % 5 == step
            n_values = len(expected) - len(graph.state_names)
            inputs = [*observations, starts, *map(th.as_tensor, expected[n_values:])]
    return worst
