"""Attention over the last K latents."""

from sb3_attnmem.attention import TransformerBlock
from sb3_attnmem.common.checks import check_integer
from sb3_attnmem.memory.banded import BandedTransformer
from sb3_attnmem.memory.steps import step_code


class WindowMemory(BandedTransformer):
    """
    Causal attention over the last K latents of an episode, the present one included, with rotary positions
    (DTQN, Esslinger et al., 2022, https://arxiv.org/abs/2206.01078). The paper recomputes its whole window at each
    step, so that a deeper layer's latents depend on where the window begins; here each layer has a window of its own,
    and acting agrees with training.

    State and recorded weights: see :class:`~sb3_attnmem.memory.banded.BandedTransformer`, with M = K - 1.
    Reach: num_layers * (K - 1) steps for information, and for gradients within the unroll.

    :param input_dim: D
    :param hidden_size: H; a multiple of twice ``n_heads``
    :param window: K, at least 2
    :param num_layers: transformer blocks
    :param n_heads: attention heads
    :param positions: ``"distance"``; or ``"episode"``: each step says, too, which step of its episode it is
    :raises ValueError: when a size is not a positive integer, ``window`` is below 2, ``n_heads`` does not divide
        ``hidden_size`` into an even number, or ``positions`` is unknown
    """

    def __init__(
        self,
        input_dim: int,
        hidden_size: int = 128,
        window: int = 32,
        num_layers: int = 2,
        n_heads: int = 4,
        positions: str = "distance",
    ) -> None:
        hidden_size, n_heads = check_integer("hidden_size", hidden_size), check_integer("n_heads", n_heads)
        window = check_integer("window", window, least=2)  # one step alone remembers nothing
        blocks = [
            TransformerBlock(hidden_size, n_heads, rotary=True) for _ in range(check_integer("num_layers", num_layers))
        ]
        super().__init__(input_dim, hidden_size, blocks, n_cached=window - 1, code=step_code(positions, "distance"))
