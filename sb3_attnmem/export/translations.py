"""Operations that torch's exporter has no ONNX for, or not for all that our modules do with them."""

import math
from collections.abc import Callable
from typing import Any

import torch as th

FLOAT = 1  # the number of float32 in ONNX


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

    def attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        """torch's own takes four dimensions only; modules of users' own may have three."""
        if dropout_p or is_causal or enable_gqa:
            raise NotImplementedError("scaled_dot_product_attention with dropout_p, is_causal or enable_gqa")
        rank = len(query.shape)
        turned = op.Transpose(key, perm=[*range(rank - 2), rank - 1, rank - 2])
        scores = op.MatMul(op.Mul(query, number(query.shape[-1] ** -0.5 if scale is None else scale)), turned)
        if attn_mask is not None and attn_mask.dtype == FLOAT:
            scores = op.Add(scores, attn_mask)
        elif attn_mask is not None:  # True where a query may look
            scores = op.Where(attn_mask, scores, number(-math.inf))
        return op.MatMul(op.Softmax(scores, axis=-1), value)

    aten = th.ops.aten
    return {
        aten.sort.stable: sort,
        aten.prod.dim_int: prod,
        aten.cumprod.default: cumprod,
        aten.scaled_dot_product_attention.default: attention,
    }
