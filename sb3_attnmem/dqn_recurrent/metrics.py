"""Metrics of training, to look at when it goes wrong. Letters: B sequences, T steps, A actions."""

import torch as th

from sb3_attnmem.dqn_recurrent.targets import masked_mean
from sb3_attnmem.replay import SequenceSamples

#: Steps before a window that its state is recomputed over, at most, for ΔQ
MAX_HISTORY = 512


def training_metrics(
    loss: th.Tensor, td_errors: th.Tensor, q_taken: th.Tensor, batch: SequenceSamples
) -> dict[str, float]:
    """
    :param loss: ()
    :param td_errors: (B, T)
    :param q_taken: (B, T)
    :param batch: what they were computed from
    :return: name -> value, over the learning steps; "n_steps" is their number. One copy from the device
    """
    learning = batch.learning
    with th.no_grad():
        absolute = td_errors.abs()
        metrics = {
            "loss": loss,
            "td_error": masked_mean(absolute, learning),
            "td_error_max": absolute.masked_fill(~learning, 0.0).max(),
            "q_mean": masked_mean(q_taken, learning),
            "padded_share": 1.0 - batch.window.present.float().mean(),
            "n_steps": learning.sum(),
        }
        return dict(zip(metrics, th.stack([metric.float() for metric in metrics.values()]).tolist(), strict=True))


def delta_q(q_replayed: th.Tensor, q_true: th.Tensor, learning: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    ΔQ of R2D2 (Kapturowski et al., 2019, section 3): ‖q̂ − q‖₂ / |max q̂|, q̂ being the Q-values from the recurrent
    states that the network would have had by itself, q those from the states that replay began from, and the maximum
    taken over the actions and the learning steps of the sequence.

    :param q_replayed: (B, T, A), q
    :param q_true: (B, T, A), q̂
    :param learning: (B, T) bool, at least one step a sequence
    :return: (B,) at the first learning step, (B,) at the last
    """
    gaps = q_gaps(q_replayed, q_true, learning)
    steps = th.arange(learning.shape[1], device=learning.device)
    first = th.where(learning, steps, learning.shape[1]).amin(dim=1, keepdim=True)
    last = th.where(learning, steps, -1).amax(dim=1, keepdim=True)
    return gaps.gather(1, first).squeeze(1), gaps.gather(1, last).squeeze(1)


def q_gaps(q_replayed: th.Tensor, q_true: th.Tensor, learning: th.Tensor) -> th.Tensor:
    """
    ΔQ at every step, see :func:`delta_q`.

    :param q_replayed: (B, T, A), q
    :param q_true: (B, T, A), q̂
    :param learning: (B, T) bool, at least one step a sequence: the steps whose largest q̂ is the unit
    :return: (B, T)
    """
    largest = q_true.amax(dim=-1).masked_fill(~learning, -th.inf).amax(dim=1).abs().clamp(min=1e-6)  # (B,)
    return (q_true - q_replayed).norm(dim=-1) / largest.unsqueeze(1)
