"""Operations that torch's exporter has no ONNX for, or not for all that our modules do with them."""

from collections.abc import Callable
from typing import Any

import torch as th


def translations() -> dict[Any, Callable[..., Any]]:
    """
    :return: operation -> function that builds its ONNX, for ``torch.onnx.export``'s ``custom_translation_table``
    """
    from onnxscript import opset18 as op

    def numbers(*values: int) -> Any:
        return op.Constant(value_ints=values)

    def number(value: float) -> Any:
        return op.Constant(value_float=value)

    def sort(values: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
        size = op.Gather(op.Shape(values), numbers(dim))
        # Of equals, TopK takes the first first
        return op.TopK(values, size, axis=dim, largest=int(descending), sorted=1)

    def prod(values: Any, dim: int, keepdim: bool = False, dtype: int | None = None) -> Any:
        return op.ReduceProd(values, numbers(dim), keepdims=int(keepdim))

    def cumprod(values: Any, dim: int, dtype: int | None = None) -> Any:
        rank = len(values.shape)
        if dim not in (-1, rank - 1):
            raise NotImplementedError(f"cumprod along dimension {dim} of {rank}; only along the last")
        # One product for each element, of those up to it: (..., N) -> (..., N, N) -> (..., N)
        size = op.Gather(op.Shape(values), numbers(dim))
        up_to = op.Trilu(op.Expand(numbers(1), op.Concat(size, size, axis=0)), upper=0)
        factors = op.Where(op.Greater(up_to, numbers(0)), op.Unsqueeze(values, numbers(-2)), number(1.0))
        return op.ReduceProd(factors, numbers(-1), keepdims=0)

    aten = th.ops.aten
    return {
        aten.sort.stable: sort,
        aten.prod.dim_int: prod,
        aten.cumprod.default: cumprod,
    }
