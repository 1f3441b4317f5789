"""The acting step as a graph: the operations of the Q-network without the calls of modules around them."""

import warnings
from typing import Any

import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_attnmem.common.observations import arrays_of, named_arrays
from sb3_attnmem.dqn_recurrent.q_network import RecurrentQNetwork
from sb3_attnmem.memory import MemoryState

#: steps before a graph is made: it takes as long as some hundred steps
PATIENCE = 1_000
#: packages whose modules have no branches that depend on values while they are traced
KNOWN = ("sb3_attnmem", "stable_baselines3", "torch")


class _FlatStep(nn.Module):
    """``q_net.step`` with tensors in a row: those of the observation, episode starts, those of the state."""

    def __init__(self, q_net: RecurrentQNetwork, keys: list[str | None]) -> None:
        super().__init__()
        self.q_net, self.keys = q_net, keys

    def forward(self, *inputs: th.Tensor) -> tuple[th.Tensor, ...]:
        n_keys = len(self.keys)
        observations: Any = inputs[0] if self.keys == [None] else dict(zip(self.keys, inputs[:n_keys], strict=True))
        q_values, state = self.q_net.step(observations, inputs[n_keys + 1 :], inputs[n_keys])
        return q_values, *state


class TracedStep:
    """
    Does what ``q_net.step`` does, traced (``torch.jit.trace``) where that gives the same numbers: two thirds of the
    time of a small network's step is spent in Python. The graph holds the network's own weights, so that it follows
    every update. A network with modules of other packages, whose branches may depend on values, with hooks, or
    with noise goes on as it is.

    :param q_net: the Q-network
    """

    def __init__(self, q_net: RecurrentQNetwork) -> None:
        self.q_net = q_net
        self._graph: Any = None
        self._n_steps = 0
        self._traced: tuple[Any, ...] = ()
        self._held: list[Any] = []

    def __call__(
        self, observations: PyTorchObs, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        """
        :param observations: (B, ...)
        :param state: tensors (B, ...)
        :param episode_starts: (B,) bool
        :return: Q-values (B, A) and the next state
        """
        self._n_steps += 1
        if self._graph is None:
            return self.q_net.step(observations, state, episode_starts)
        q_values, *after = self._graph(*arrays_of(observations), episode_starts, *state)
        return q_values, tuple(after)

    def refresh(self, observations: PyTorchObs, state: MemoryState, episode_starts: th.Tensor) -> None:
        """
        Make a graph where there is none yet, or another one where the network is no longer what was traced. To be
        called now and then, in eval mode, with what the next step is given.

        :param observations: (B, ...)
        :param state: tensors (B, ...)
        :param episode_starts: (B,) bool
        """
        if self._n_steps < PATIENCE:
            return
        inputs = [*arrays_of(observations), episode_starts, *state]
        described = self._describe(inputs)
        if described == self._traced:
            return
        self._traced = described
        modules = list(self.q_net.modules())
        self._held = [*modules, *self.q_net.parameters()]  # an id means something while its object lives
        as_written = not (self.q_net.is_noisy or "step" in vars(self.q_net)) and all(
            type(module).__module__.split(".")[0] in KNOWN and not (module._forward_hooks or module._forward_pre_hooks)
            for module in modules
        )
        self._graph = self._trace(inputs, [key for key, _ in named_arrays(observations)]) if as_written else None

    def _describe(self, inputs: list[th.Tensor]) -> tuple[Any, ...]:
        """:return: all that a graph depends on, but the values of weights and inputs"""
        normalization = self.q_net.normalization
        return (
            [
                (id(module), len(module._forward_hooks), len(module._forward_pre_hooks))
                for module in self.q_net.modules()
            ],
            [id(weight) for weight in self.q_net.parameters()],
            [statistics.active for statistics in (normalization.returns, *normalization.observations)],
            [(tensor.shape, tensor.dtype) for tensor in inputs],
            self.q_net.training,
            "step" in vars(self.q_net),  # somebody put a function of his own in its place
        )

    def _trace(self, inputs: list[th.Tensor], keys: list[str | None]) -> Any:
        """:return: the graph; None where there is none with the same numbers"""
        flat = _FlatStep(self.q_net, keys)
        with th.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shapes are constants of this graph, and meant to be
            try:
                graph = th.jit.trace(flat, tuple(inputs), check_trace=False)
                for starts in (inputs[len(keys)], ~inputs[len(keys)]):
                    others = [*inputs[: len(keys)], starts, *inputs[len(keys) + 1 :]]
                    for found, expected in zip(graph(*others), flat(*others), strict=True):
                        th.testing.assert_close(found, expected)
            except Exception:  # tracing may fail in any way; the module itself always works
                return None
        return graph
