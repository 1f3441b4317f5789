"""
The parallel scan behind linear recurrences: h_t = a_t * h_{t-1} + b_t without a loop over time.

Two pairs compose into one, (a, b) then (a', b') is (a' * a, a' * b + b'), so a tape can be cut into chunks: each chunk
is reduced to one pair, all chunks at once; the pairs are scanned in turn by the same rule, which tells each chunk the
state it begins with; then all chunks are unrolled at once. With chunks of a fixed length C that is about 3 C calls into
torch for each of the log_C T levels, and 3 multiplications a step. An episode start is a step with a = 0: nothing
before it gets through, exactly, as long as it is finite (``separate_episodes`` sees to the rest). Decays only ever
multiply, so nothing is divided by a small power.

Letters: B sequences, T steps, N channels.
"""

from typing import Any

import torch as th
from torch.autograd.function import once_differentiable

#: Steps a chunk. From 4 to 32 the time on a CPU changes by a quarter (benchmarks/memories.py --scan); 8 makes few calls
CHUNK = 8


def linear_scan(decay: th.Tensor, inputs: th.Tensor, initial: th.Tensor) -> th.Tensor:
    """
    h_t = decay_t * h_{t-1} + inputs_t, with h_{-1} = initial.

    :param decay: (B, T, N), real or complex, |a| <= 1; 0 where an episode starts
    :param inputs: (B, T, N) of the same dtype
    :param initial: (B, N)
    :return: all states (B, T, N)
    """
    if inputs.shape[1] == 1:
        return decay * initial.unsqueeze(1) + inputs
    return _LinearScan.apply(decay, inputs, initial)


def linear_scan_pairs(decay: th.Tensor, inputs: th.Tensor, initial: th.Tensor) -> th.Tensor:
    """
    The same for complex numbers kept as real pairs (real, imaginary) in the last axis. One step, as an agent takes it,
    has no complex tensors in it (ONNX knows none).

    :param decay: (B, T, N, 2)
    :param inputs: (B, T, N, 2)
    :param initial: (B, N, 2)
    :return: all states (B, T, N, 2)
    """
    if inputs.shape[1] == 1:
        (a, b), (x, y) = decay.unbind(-1), initial.unsqueeze(1).unbind(-1)
        return th.stack([a * x - b * y, a * y + b * x], dim=-1) + inputs
    complex_ones = (th.view_as_complex(tensor.contiguous()) for tensor in (decay, inputs, initial))
    return th.view_as_real(linear_scan(*complex_ones))


def decay_with_starts(decay: th.Tensor, episode_starts: th.Tensor) -> th.Tensor:
    """
    :param decay: (B, T, ...)
    :param episode_starts: (B, T) bool
    :return: 0 where an episode starts; of one step as it was, whose state the memory has reset
    """
    if episode_starts.shape[1] == 1:
        return decay
    return decay.masked_fill(episode_starts.view(*episode_starts.shape, *[1] * (decay.dim() - 2)), 0.0)


class _LinearScan(th.autograd.Function):
    """
    With g_t the gradient that arrives at h_t alone, the gradient of everything at h_t is
    l_t = g_t + conj(a_{t+1}) * l_{t+1}: the same recurrence, run backwards.
    """

    @staticmethod
    def forward(ctx: Any, decay: th.Tensor, inputs: th.Tensor, initial: th.Tensor) -> th.Tensor:
        states = _scan(decay, inputs, initial, reverse=False)
        ctx.save_for_backward(decay, initial, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        decay, initial, states = ctx.saved_tensors
        following = th.empty_like(decay)
        following[:, :-1] = decay[:, 1:].conj()
        following[:, -1] = 0.0
        total = _scan(following, grad, th.zeros_like(initial), reverse=True)
        grad_decay = following  # its memory is free again
        th.mul(total[:, 1:], states[:, :-1].conj(), out=grad_decay[:, 1:])
        th.mul(total[:, 0], initial.conj(), out=grad_decay[:, 0])
        return grad_decay, total, total[:, 0] * decay[:, 0].conj()


def _scan(decay: th.Tensor, inputs: th.Tensor, initial: th.Tensor, reverse: bool) -> th.Tensor:
    """
    :param decay: (B, T, N)
    :param inputs: (B, T, N)
    :param initial: (B, N), the state before the first step (after the last, if ``reverse``)
    :param reverse: whether to go from the last step to the first
    :return: (B, T, N)
    """
    states = th.empty_like(inputs, memory_format=th.contiguous_format)
    n_steps = inputs.shape[1]
    in_chunks = n_steps - n_steps % CHUNK if n_steps >= 2 * CHUNK else 0
    # What does not fill a chunk comes last in the order in which we go
    rest = n_steps - in_chunks
    chunks, left = (slice(rest, None), slice(rest)) if reverse else (slice(in_chunks), slice(in_chunks, None))
    if in_chunks:
        initial = _scan_chunks(decay[:, chunks], inputs[:, chunks], initial, reverse, states[:, chunks])
    if rest:
        a, b, out = (_in_order(tensor[:, left], 1, reverse) for tensor in (decay, inputs, states))
        _unroll(a, b, initial, out)
    return states


def _scan_chunks(
    decay: th.Tensor, inputs: th.Tensor, initial: th.Tensor, reverse: bool, states: th.Tensor
) -> th.Tensor:
    """
    :param decay: (B, T, N), T a multiple of ``CHUNK``
    :param inputs: (B, T, N)
    :param initial: (B, N), the state before the first step (after the last, if ``reverse``)
    :param reverse: whether to go from the last step to the first
    :param states: (B, T, N), where the result is written
    :return: (B, N), the state that the last chunk ends with
    """
    # CHUNK tensors (B, chunks, N) each
    a, b, out = (_in_order(tensor.unflatten(1, (-1, CHUNK)), 2, reverse) for tensor in (decay, inputs, states))
    whole_a, whole_b = a[0].clone(), b[0].clone()
    for a_k, b_k in zip(a[1:], b[1:], strict=True):
        th.addcmul(b_k, a_k, whole_b, out=whole_b)
        whole_a.mul_(a_k)
    ends = _scan(whole_a, whole_b, initial, reverse)  # (B, chunks, N), the state at the end of each chunk
    first = initial.unsqueeze(1)
    begins = th.cat([ends[:, 1:], first] if reverse else [first, ends[:, :-1]], dim=1)
    _unroll(a, b, begins, out)
    return ends[:, 0] if reverse else ends[:, -1]


def _unroll(decay: list[th.Tensor], inputs: list[th.Tensor], state: th.Tensor, out: list[th.Tensor]) -> None:
    """Write the states of a few steps to ``out``, one step an entry."""
    for a, b, target in zip(decay, inputs, out, strict=True):
        state = th.addcmul(b, a, state, out=target)


def _in_order(tensor: th.Tensor, dim: int, reverse: bool) -> list[th.Tensor]:
    """:return: the views of its steps, in the order in which we go"""
    steps = list(tensor.unbind(dim))
    return steps[::-1] if reverse else steps
