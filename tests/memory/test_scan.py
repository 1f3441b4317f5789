"""The parallel scan is the recurrence, forwards and backwards, resets included."""

import pytest
import torch as th
from torch.overrides import TorchFunctionMode

from sb3_attnmem.memory import scan
from sb3_attnmem.memory.scan import linear_scan, linear_scan_pairs

DTYPES = [th.float32, th.float64, th.complex64, th.complex128]


def problem(
    n_steps: int, dtype: th.dtype, starts: float = 0.02, batch: int = 3, width: int = 4
) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
    """:return: decay (most of it near 1, as memories have it; 0 at episode starts), inputs, initial"""
    generator = th.Generator().manual_seed(n_steps)
    size = 1.0 - th.logspace(-4, -0.01, width, dtype=th.float64) * th.rand(
        batch, n_steps, width, generator=generator, dtype=th.float64
    )
    if dtype.is_complex:
        size = th.polar(size, 6.0 * th.rand(batch, n_steps, width, generator=generator, dtype=th.float64))
    size[th.rand(batch, n_steps, generator=generator) < starts] = 0.0
    inputs = th.randn(batch, n_steps, width, generator=generator, dtype=dtype)
    return size.to(dtype), inputs, th.randn(batch, width, generator=generator, dtype=dtype)


def sequential_scan(decay: th.Tensor, inputs: th.Tensor, initial: th.Tensor) -> th.Tensor:
    """The reference: the recurrence as one loop over time."""
    states = [initial]
    for a, b in zip(decay.unbind(1), inputs.unbind(1), strict=True):
        states.append(a * states[-1] + b)
    return th.stack(states[1:], dim=1)


def error(got: th.Tensor, expected: th.Tensor) -> float:
    """:return: the largest difference over the largest value; infinite when something is not finite"""
    if not got.isfinite().all():
        return th.inf
    got, expected = got.detach(), expected.detach()
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("starts", [0.0, 0.02, 0.5])
def test_it_equals_the_loop_over_1024_steps(dtype: th.dtype, starts: float) -> None:
    given = problem(1024, dtype, starts)
    exact = sequential_scan(*(tensor.to(th.complex128 if dtype.is_complex else th.float64) for tensor in given))
    assert error(linear_scan(*given), exact) < 1e-5


C = scan.CHUNK


@pytest.mark.parametrize(
    "n_steps", [1, 2, C - 1, C, 2 * C - 1, 2 * C, 2 * C + 1, 5 * C + 3, 2 * C * C - 1, 2 * C * C + C + 1]
)
def test_any_number_of_steps_around_the_chunks(n_steps: int) -> None:
    given = [tensor.requires_grad_() for tensor in problem(n_steps, th.float64)]
    states, expected = linear_scan(*given), sequential_scan(*given)
    assert error(states, expected) < 1e-12
    weights = th.randn_like(states)
    both = (th.autograd.grad((either * weights).sum(), given) for either in (states, expected))
    for got, wanted in zip(*both, strict=True):
        th.testing.assert_close(got, wanted)


def test_nothing_before_a_start_gets_through_exactly() -> None:
    decay, inputs, initial = problem(100, th.float32, starts=0.0)
    decay[:, 40] = 0.0
    junk = inputs.clone()
    junk[:, :40] = 1e30
    assert th.equal(linear_scan(decay, junk, initial * 1e30)[:, 40:], linear_scan(decay, inputs, initial)[:, 40:])


def check_gradients(dtype: th.dtype) -> None:
    given = [tensor.requires_grad_() for tensor in problem(2 * C + 3, dtype, starts=0.1, batch=2, width=2)]
    assert th.autograd.gradcheck(linear_scan, given)


@pytest.mark.parametrize("dtype", [th.float64, th.complex128])
def test_gradients(dtype: th.dtype) -> None:
    check_gradients(dtype)


@pytest.mark.parametrize("n_steps", [1, 2, 37])
def test_real_pairs_are_complex_numbers(n_steps: int) -> None:
    given = problem(n_steps, th.complex128)
    expected = th.view_as_real(linear_scan(*given))
    th.testing.assert_close(linear_scan_pairs(*(th.view_as_real(tensor) for tensor in given)), expected)


class Names(TorchFunctionMode):
    """Notes the names of the functions that are called, and counts the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))


def test_one_step_has_no_complex_numbers_in_it() -> None:
    given = [th.view_as_real(tensor) for tensor in problem(1, th.complex64)]
    with Names() as called:
        linear_scan_pairs(*given)
    assert called.names and not any("complex" in name for name in called.names)


def test_calls_grow_with_the_logarithm_of_time() -> None:
    def calls(n_steps: int) -> int:
        given = problem(n_steps, th.float32)
        with Names() as called:
            linear_scan(*given)
        return len(called.names)

    counts = [calls(4 * C**level) for level in (1, 2, 3)]
    assert counts[2] - counts[1] == counts[1] - counts[0] < 6 * C


# The tests' own teeth


def by_dividing(decay: th.Tensor, inputs: th.Tensor, initial: th.Tensor) -> th.Tensor:
    """Planted: h_t = A_t (h_{-1} + Σ b_k / A_k) with A the products of all decays so far."""
    products = decay.cumprod(dim=1)
    return products * (initial.unsqueeze(1) + (inputs / products).cumsum(dim=1))


@pytest.mark.parametrize("starts", [0.0, 0.02])
def test_dividing_by_small_powers_would_be_caught(starts: float) -> None:
    given = problem(1024, th.float32, starts)
    assert error(by_dividing(*given), sequential_scan(*given)) > 1e-5


def forwards_only(tensor: th.Tensor, dim: int, reverse: bool) -> list[th.Tensor]:
    """Planted: the backward scan runs forwards."""
    return list(tensor.unbind(dim))


def test_a_backward_scan_that_runs_forwards_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_in_order", forwards_only)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        check_gradients(th.float64)


def test_a_gradient_without_conjugates_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(th.Tensor, "conj", lambda tensor: tensor)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        check_gradients(th.complex128)
