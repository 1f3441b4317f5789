"""A convolution over the last few steps of an episode."""

import torch as th
from torch.nn import functional as F


def convolve_steps(
    inputs: th.Tensor, before: th.Tensor, episode_starts: th.Tensor, taps: th.Tensor
) -> tuple[th.Tensor, th.Tensor]:
    """
    y_t = Σ_k w_k ⊙ x_{t−k}, over the steps of the same episode.

    :param inputs: x, (B, T, D)
    :param before: the K - 1 inputs before them, (B, K - 1, D), oldest first; zeros where there were fewer, or where the
        first step starts an episode
    :param episode_starts: (B, T) bool
    :param taps: w, (K, D), that of the present step first; K is at least 2
    :return: y (B, T, D), and the K - 1 inputs before the step to come, in the shape of ``before``
    """
    recent = th.cat([before, inputs], dim=1)  # (B, K - 1 + T, D)
    n_kept, n_steps = len(taps) - 1, inputs.shape[1]
    if n_steps == 1:  # as the agent acts, in fewer calls
        return (recent * taps.flip(0)).sum(dim=1, keepdim=True), recent[:, 1:]
    outputs = inputs * taps[0]
    reaches = ~episode_starts  # the input of k steps ago is of the same episode
    for k in range(1, n_kept + 1):
        first = n_kept - k
        outputs = th.addcmul(outputs, recent[:, first : first + n_steps] * reaches.unsqueeze(-1), taps[k])
        reaches = reaches & ~episode_starts.roll(k, dims=1).index_fill(
            1, th.arange(min(k, n_steps), device=inputs.device), False
        )
    starts = F.pad(episode_starts.int(), (n_kept, 0))[:, -n_kept:]
    later = starts.flip(1).cumsum(dim=1).flip(1) - starts  # (B, K - 1): starts behind each of the last inputs
    return outputs, recent[:, -n_kept:] * (later == 0).unsqueeze(-1)
