"""Operations that torch's exporter has no ONNX for, and that the memories use."""

from collections.abc import Callable
from typing import Any

import torch as th


def translations() -> dict[Any, Callable[..., Any]]:
    """
    :return: operation -> function that builds its ONNX, for ``torch.onnx.export``'s ``custom_translation_table``
    """
    from onnxscript import opset18 as op

    def stable_sort(values: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
        # Of equals, TopK takes the first first
        size = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
        return op.TopK(values, size, axis=dim, largest=int(descending), sorted=1)

    def prod(values: Any, dim: int, keepdim: bool = False, dtype: int | None = None) -> Any:
        return op.ReduceProd(values, op.Constant(value_ints=[dim]), keepdims=int(keepdim))

    def cumprod(values: Any, dim: int, dtype: int | None = None) -> Any:
        rank = len(values.shape)
        if dim not in (-1, rank - 1):
            raise NotImplementedError(f"cumprod of {rank} dimensions along {dim}; only the last can be exported")
        # One product for each element, of those up to it: (..., N) -> (..., N, N) -> (..., N)
        size = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
        up_to = op.Trilu(op.Expand(op.Constant(value_float=1.0), op.Concat(size, size, axis=0)), upper=0)
        factors = op.Where(op.Cast(up_to, to=9), op.Unsqueeze(values, op.Constant(value_ints=[-2])), op.Constant(value_float=1.0))
        return op.ReduceProd(factors, op.Constant(value_ints=[-1]), keepdims=0)

    aten = th.ops.aten
    return {aten.sort.stable: stable_sort, aten.prod.dim_int: prod, aten.cumprod.default: cumprod}
