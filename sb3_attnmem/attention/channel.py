"""Gates on the channels of a feature map, and on its places."""

import torch as th
from torch import nn

from sb3_attnmem.attention.layout import PlaceGrid
from sb3_attnmem.attention.record import AttentionLayer
from sb3_attnmem.common.checks import check_integer, check_integers


def _gate_mlp(channels: int, reduction: int) -> nn.Sequential:
    channels, reduction = check_integers(channels=channels, reduction=reduction)
    hidden = max(channels // reduction, 8)  # fewer ReLU units may all be dead at the start
    return nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))


class SqueezeExcitation(AttentionLayer):
    """
    Squeeze-and-excitation: a gate on each channel, computed from the means of all
    (Hu et al., 2018, https://arxiv.org/abs/1709.01507). Records the gates (B, C), each in [0, 1].

    :param channels: C
    :param reduction: the hidden layer has C / reduction units, and at least 8
    :raises ValueError: when either is below 1
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.mlp = _gate_mlp(channels, reduction)

    def forward(self, maps: th.Tensor) -> th.Tensor:
        """
        Scale each channel by its gate.

        :param maps: (B, C, H, W)
        :return: (B, C, H, W)
        """
        gates = self.scores(maps).sigmoid()  # (B, C)
        self.record(gates)
        return maps * gates[:, :, None, None]

    def scores(self, maps: th.Tensor) -> th.Tensor:
        """
        Compute the gates before the sigmoid.

        :param maps: (B, C, H, W)
        :return: (B, C), the gates before the sigmoid
        """
        return self.mlp(maps.mean(dim=(2, 3)))


class ChannelGate(SqueezeExcitation):
    """
    The channel half of CBAM: as squeeze-and-excitation, from the means and the maxima of all channels
    (Woo et al., 2018, https://arxiv.org/abs/1807.06521). Records the gates (B, C), each in [0, 1].

    :param channels: C
    :param reduction: the hidden layer has C / reduction units, and at least 8
    :raises ValueError: when either is below 1
    """

    def scores(self, maps: th.Tensor) -> th.Tensor:
        return self.mlp(maps.mean(dim=(2, 3))) + self.mlp(maps.amax(dim=(2, 3)))


class PlaceGate(AttentionLayer):
    """
    The spatial half of CBAM: a gate on each place, from the mean and the maximum over its channels and its
    neighbours' (Woo et al., 2018). Records the gates (B, 1, H, W), each in [0, 1].

    :param grid: how the places lie over the image
    :param kernel_size: of the convolution that looks at the neighbours; odd
    :raises ValueError: when ``kernel_size`` is even
    """

    def __init__(self, grid: PlaceGrid | None = None, kernel_size: int = 7) -> None:
        super().__init__()
        kernel_size = check_integer("kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} has no middle; pass an odd number.")
        self.layout = grid
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, maps: th.Tensor) -> th.Tensor:
        """
        Scale each place by its gate.

        :param maps: (B, C, H, W)
        :return: (B, C, H, W)
        """
        summary = th.stack([maps.mean(dim=1), maps.amax(dim=1)], dim=1)  # (B, 2, H, W)
        gates = self.conv(summary).sigmoid()  # (B, 1, H, W)
        self.record(gates)
        return maps * gates


class CBAM(nn.Module):
    """
    Convolutional block attention module: first which channels, then which places
    (Woo et al., 2018, https://arxiv.org/abs/1807.06521).

    :param channels: C
    :param reduction: of the channel gate
    :param grid: how the places lie over the image
    :raises ValueError: when ``channels`` or ``reduction`` is below 1
    """

    def __init__(self, channels: int, reduction: int = 4, grid: PlaceGrid | None = None) -> None:
        super().__init__()
        self.channel = ChannelGate(channels, reduction)
        self.place = PlaceGate(grid)

    def forward(self, maps: th.Tensor) -> th.Tensor:
        """
        Scale each channel, then each place.

        :param maps: (B, C, H, W)
        :return: (B, C, H, W)
        """
        return self.place(self.channel(maps))
