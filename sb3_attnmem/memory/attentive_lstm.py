"""Attention over the places of a feature map, asked for by an LSTM."""

import torch as th
from torch import nn

from sb3_attnmem.attention import AttentionLayer
from sb3_attnmem.common.checks import check_integer, check_integers
from sb3_attnmem.memory.base import BaseMemory, MemoryState, separate_episodes

#: deviation of the scores that u gives to latents of size 1, at first
LARGE = 6.0


class AttentiveLSTMMemory(BaseMemory):
    """
    The soft deep attention recurrent Q-network (DARQN, Sorokin et al., 2015, https://arxiv.org/abs/1512.01693): the
    last hidden state looks at the places of a feature map, and an LSTM reads what it sees there:

        w = softmax_p(u · tanh(W v_p + U h_{t−1})),  h_t, c_t = LSTM(Σ_p w_p v_p, h_{t−1}, c_{t−1})

    Here it looks at ``n_heads`` places at once, each with its own u, and the LSTM reads what lies at all of them
    (the paper's has one). Each u begins large, so that a look picks places instead of averaging over all of them.

    It reads a feature map (B, T, P, C): give it an extractor with ``output="map"``. The extractor and W v run once over
    all steps; only the attention and the cell loop over time. Its layer ``attention`` records
    (B, n_heads, T, P).

    State: (h, c), each (B, H).
    Reach: unlimited for information, the length of the unroll for gradients.

    :param input_dim: (P, C), places and channels
    :param hidden_size: H, the width of the state and of the latents
    :param attention_dim: A, the length of each u
    :param n_heads: places that are looked at in a step; 1 is the paper's
    :raises ValueError: when ``input_dim`` is not a pair, or a size is not a positive integer
    """

    reads = "map"
    state_names = ("h", "c")

    def __init__(
        self, input_dim: tuple[int, int], hidden_size: int = 128, attention_dim: int = 64, n_heads: int = 4
    ) -> None:
        if not isinstance(input_dim, (tuple, list)) or len(input_dim) != 2:
            raise ValueError(
                f"AttentiveLSTMMemory got input_dim={input_dim!r}; it reads a feature map, so pass (places, channels)."
            )
        n_places = check_integer("the places of input_dim", input_dim[0])
        n_channels = check_integer("the channels of input_dim", input_dim[1])
        attention_dim, n_heads = check_integers(attention_dim=attention_dim, n_heads=n_heads)
        super().__init__(n_places * n_channels, latent_dim=check_integer("hidden_size", hidden_size))
        hidden_size = self.latent_dim
        self.of_place = nn.Linear(n_channels, attention_dim)  # W
        self.of_state = nn.Linear(hidden_size, attention_dim, bias=False)  # U
        self.score = nn.Linear(attention_dim, n_heads, bias=False)  # u; softmax would cancel a bias
        nn.init.normal_(self.score.weight, std=LARGE / attention_dim**0.5)
        self.cell = nn.LSTMCell(n_heads * n_channels, hidden_size)
        self.attention = AttentionLayer()

    def initial_state(self, batch_size: int) -> MemoryState:
        zeros = self.score.weight.new_zeros(batch_size, self.latent_dim)
        return zeros, zeros

    @separate_episodes
    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        resets = self.steps_with_starts(episode_starts)
        keys = self.of_place(features)  # (B, T, P, A)
        latents, looks = [], []
        for t, (key, places) in enumerate(zip(keys.unbind(dim=1), features.unbind(dim=1), strict=True)):
            if t > 0 and resets[t]:
                state = self.reset_where(episode_starts[:, t], state)
            asked = (key + self.of_state(state[0]).unsqueeze(1)).tanh()  # (B, P, A)
            weights = self.score(asked).transpose(1, 2).softmax(dim=-1)  # (B, heads, P)
            state = self.cell((weights @ places).flatten(1), state)
            latents.append(state[0])
            looks.append(weights)
        if self.attention.recording:
            self.attention.record(th.stack(looks, dim=2))
        return th.stack(latents, dim=1), state
