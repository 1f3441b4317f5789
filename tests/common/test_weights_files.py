"""Files of weights: what is no state dict, and what does not fit, is told before a tensor is filled."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch as th
from torch import nn

from sb3_attnmem.common.weights_files import differences, misfit, read_weights

HERE = th.zeros(2, 3)
MASK = th.tensor([0.0, -th.inf])


@pytest.mark.parametrize(
    "there, here, reason",
    [
        (th.ones(2, 3), HERE, None),
        (th.ones(2, 3, dtype=th.float64), HERE, None),
        (th.ones(2, 3, dtype=th.bfloat16), HERE, None),
        (MASK, MASK, None),
        (th.tensor([7]), th.tensor([0], dtype=th.int32), None),
        (th.ones(3, 2), HERE, "(3, 2) there, (2, 3) here"),
        (th.ones(2, 3, device="meta"), HERE, "a tensor of the meta device (it has no values) there"),
        (th.ones(2, 3), th.zeros(2, 3, device="meta"), "a tensor of the meta device (it has no values) here"),
        (th.ones(2, 3).to_sparse(), HERE, "a sparse or nested tensor (torch.sparse_coo) there"),
        (th.quantize_per_tensor(th.ones(2, 3), 0.1, 0, th.qint8), HERE, "a quantised tensor (torch.qint8) there"),
        (th.ones(2, 3), nn.LazyLinear(2).weight, "a lazy tensor (it has no shape yet) here"),
        ([1.0], HERE, "a list instead of a tensor there"),
        (th.ones(2, 3, dtype=th.complex64), HERE, "torch.complex64 there, torch.float32 here"),
        (th.ones(2, 3, dtype=th.int64), HERE, "torch.int64 there, torch.float32 here"),
        (th.ones(1, dtype=th.bool), th.tensor([1]), "torch.bool there, torch.int64 here"),
        (th.tensor([2**40]), th.tensor([0], dtype=th.int32), "torch.int64 there, too large for torch.int32 here"),
        (HERE.clone().index_fill(1, th.tensor([1]), th.nan), HERE, "not finite there (2 of 6 values)"),
        (th.tensor([-th.inf, -th.inf]), MASK, "not finite there (1 of 2 values)"),
        (th.full((2, 3), 1e300, dtype=th.float64), HERE, "not finite there (6 of 6 values)"),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:torch.quantize_per_tensor", "ignore:Lazy modules")
def test_what_a_tensor_cannot_be_filled_with(there: Any, here: th.Tensor, reason: str | None) -> None:
    assert misfit(there, here) == reason


def test_differences_name_each_tensor_once() -> None:
    here = {"a": HERE, "b": HERE, "c": HERE, "state": {"no": "tensor"}}
    there = {"a": HERE, "b": HERE.to_sparse(), "d": HERE.to("meta")}
    assert differences(there, here).splitlines() == [
        "  b: a sparse or nested tensor (torch.sparse_coo) there",
        "  c: missing there, (2, 3) here",
    ]
    assert differences(there, here, extras=True).splitlines()[2:] == [
        "  d: a tensor of the meta device (it has no values) there, missing here"
    ]
    many = differences({}, {str(i): HERE for i in range(9)}).splitlines()
    assert len(many) == 6 and many[-1] == "  and 4 more"


@pytest.mark.parametrize("loaded", [3, {1: HERE}, {"a": 3}, [HERE], {}, HERE, {"model": {"a": "b"}}], ids=str)
def test_what_is_no_state_dict(loaded: Any, tmp_path: Path) -> None:
    th.save(loaded, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="instead of a state dict"):
        read_weights(tmp_path / "weights.pt")


def damaged(path: Path) -> list[bytes]:
    """:return: the file in many ways that a broken disk or download leaves"""
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        starts = [info.header_offset for info in archive.infolist()]
    cuts = [whole[:n] for n in (0, 1, 3, 40, len(whole) // 2, len(whole) - 1)]
    # The method of compression, the size and the first bytes of each part
    flips = [(start + offset, value) for start in starts for offset in (8, 18, 30, 80) for value in (0, 9, 255)]
    return cuts + [whole[:place] + bytes([value]) + whole[place + 1 :] for place, value in flips]


def test_a_broken_file_is_told_or_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    th.save(nn.Linear(3, 2).state_dict(), path)
    told = 0
    for content in damaged(path):
        path.write_bytes(content)
        try:
            assert all(isinstance(tensor, th.Tensor) for tensor in read_weights(path).values())
        except ValueError as error:
            told += str(path) in str(error)
    assert told > 5
