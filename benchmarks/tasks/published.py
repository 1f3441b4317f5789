"""What papers report of memory tasks."""

from typing import NamedTuple


class Published(NamedTuple):
    """
    A figure of a paper. Those of popgym's are the maximum over training (MMER), a milder measure than a final mean.

    :param task: as its environment is called
    :param agent: algorithm
    :param memory: its memory
    :param steps: environment steps
    :param score: mean return
    :param source: the paper
    """

    task: str
    agent: str
    memory: str
    steps: int
    score: float
    source: str


MORAD = "[Morad et al. 2023](https://arxiv.org/abs/2303.01859), MMER"
LE = "[Le et al. 2024](https://arxiv.org/abs/2410.10132), MMER"
PUBLISHED = [
    Published("popgym-AutoencodeEasy-v0", "PPO", "SHM", 15_000_000, 0.495, LE),
    Published("popgym-CountRecallEasy-v0", "PPO", "LSTM", 15_000_000, 0.509, MORAD),
    Published("popgym-RepeatPreviousMedium-v0", "PPO", "LMU", 15_000_000, 0.789, MORAD),
    Published("popgym-RepeatFirstMedium-v0", "PPO", "best of the paper", 15_000_000, 1.0, MORAD),
    Published("popgym-MultiarmedBanditEasy-v0", "PPO", "best of the paper", 15_000_000, 0.631, MORAD),
    Published("popgym-BattleshipEasy-v0", "PPO", "best of the paper", 15_000_000, -0.12, MORAD),
]
