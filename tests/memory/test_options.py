"""Every option of every memory and fusion is checked before a network is built."""

import inspect
import math
from typing import Any

import numpy as np
import pytest

from sb3_attnmem.memory import FUSIONS, MEMORIES
from tests.memory.laws import D, P

#: options that are not the numbers of something
FLAGS = ("layer_norm", "residual", "glu", "per_unit")
NUMBERS = ("horizon", "horizon_share", "min_radius", "max_radius", "max_phase", "gate_bias")
CHOICES = dict(positions="episode")  # option -> one of its words
DIMS = dict(input_dim=D, features_dim=D, latent_dim=D)

BUILDERS: dict[str, Any] = {**MEMORIES, **{f"fusion {name}": fusion for name, fusion in FUSIONS.items()}}
OPTIONS = [(name, option) for name, built in BUILDERS.items() for option in inspect.signature(built).parameters]


def build(name: str, **options: Any) -> Any:
    parameters = inspect.signature(BUILDERS[name]).parameters
    dims = {key: size for key, size in DIMS.items() if key in parameters}
    if getattr(BUILDERS[name], "reads", "vector") == "map":
        dims["input_dim"] = (P, D)  # type: ignore[assignment]
    return BUILDERS[name](**{**dims, **options})


def wrong_values(option: str) -> list[Any]:
    if option in FLAGS:
        return ["x", "False", 1, 0.0, None]
    if option in CHOICES:
        return ["x", CHOICES[option].upper(), True, None, 1]
    nonsense = [math.nan, math.inf, True, "3", -1]
    return nonsense[:4] if option == "gate_bias" else nonsense if option in NUMBERS else [*nonsense, 0, 2.5, 4.0]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_nonsense_is_refused(name: str, option: str) -> None:
    for wrong in wrong_values(option):
        with pytest.raises(ValueError, match=f"{option}.*(must be|needs 0 <=|choose from|reads a feature map)"):
            build(name, **{option: wrong})


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_numbers_of_numpy_are_taken_and_kept_as_pythons(name: str, option: str) -> None:
    if option in FLAGS:
        given: Any = np.bool_(True)
    elif option in CHOICES:
        given = np.str_(CHOICES[option])
    elif option in NUMBERS:
        given = np.float32({"min_radius": 0.5, "max_radius": 0.95, "horizon_share": 0.5}.get(option, 8.0))
    else:
        given = np.int64(16)  # that 4 heads divide into an even number
    if option == "input_dim" and getattr(BUILDERS[name], "reads", "vector") == "map":
        given = (np.int64(P), np.int64(D))
    built = build(name, **{option: given})
    kept = [value for value in vars(built).values() if isinstance(value, np.generic)]
    assert not kept, "what is written as JSON, or pickled, has no numpy in it"


@pytest.mark.parametrize("name", [name for name, option in OPTIONS if option == "horizon"])
def test_a_horizon_that_float32_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"horizon=1e\+40 must be .* at most 1e\+09"):
        build(name, horizon=1e40)
