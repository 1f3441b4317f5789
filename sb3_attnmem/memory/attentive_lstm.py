"""Attention over the places of a feature map, asked for by an LSTM."""

import torch as th
from torch import nn

from sb3_attnmem.attention import AttentionLayer
from sb3_attnmem.common.checks import check_integer
from sb3_attnmem.memory.base import BaseMemory, MemoryState, separate_episodes


class AttentiveLSTMMemory(BaseMemory):
    """
    The soft deep attention recurrent Q-network (DARQN, Sorokin et al., 2015, https://arxiv.org/abs/1512.01693): the
    last hidden state looks at the places of a feature map, and an LSTM reads what it sees there:

        w = softmax_p(u · tanh(W v_p + U h_{t−1})),  h_t, c_t = LSTM(Σ_p w_p v_p, h_{t−1}, c_{t−1})

    It reads a feature map (B, T, P, C): give it an extractor with ``output="map"``. The extractor and W v run once over
    all steps; only the attention and the cell loop over time. Its layer ``attention`` records (B, 1, T, P).

    State: (h, c), each (B, H).
    Reach: unlimited for information, the length of the unroll for gradients.

    :param input_dim: (P, C), places and channels
    :param hidden_size: H, the width of the state and of the latents
    :param attention_dim: the length of u
    :raises ValueError: when ``input_dim`` is not a pair, or a size is not a positive integer
    """

    reads = "map"
    state_names = ("h", "c")

    def __init__(self, input_dim: tuple[int, int], hidden_size: int = 128, attention_dim: int = 64) -> None:
        if not isinstance(input_dim, (tuple, list)) or len(input_dim) != 2:
            raise ValueError(
                f"AttentiveLSTMMemory got input_dim={input_dim!r}; it reads a feature map, so pass (places, channels)."
            )
        n_places = check_integer("the places of input_dim", input_dim[0])
        n_channels = check_integer("the channels of input_dim", input_dim[1])
        attention_dim = check_integer("attention_dim", attention_dim)
        super().__init__(n_places * n_channels, latent_dim=check_integer("hidden_size", hidden_size))
        hidden_size = self.latent_dim
        self.of_place = nn.Linear(n_channels, attention_dim)  # W
        self.of_state = nn.Linear(hidden_size, attention_dim, bias=False)  # U
        self.score = nn.Linear(attention_dim, 1, bias=False)  # u; softmax would cancel a bias
        self.cell = nn.LSTMCell(n_channels, hidden_size)
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
            weights = self.score(asked).transpose(1, 2).softmax(dim=-1)  # (B, 1, P)
            state = self.cell((weights @ places).squeeze(1), state)
            latents.append(state[0])
            looks.append(weights)
        if self.attention.recording:
            self.attention.record(th.stack(looks, dim=2))
        return th.stack(latents, dim=1), state
