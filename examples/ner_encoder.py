"""The encoder of ``ner_tagging.py``: a small transformer, and its pre-training by masked-token prediction."""

from pathlib import Path

import numpy as np
import torch as th
from ner_text import IDS, LONGEST, MASK, PAD, VOCABULARY, unlabelled
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from tqdm import trange

from sb3_attnmem.common.files import replacing

#: tokens in an observation
SEEN = 3
WIDTH = 32


def observe(words: list[str]) -> np.ndarray:
    """:return: (T, SEEN), the observation of each token: its id last, those before it, [pad] before the first"""
    ids = [IDS[PAD]] * (SEEN - 1) + [IDS[word] for word in words]
    return np.lib.stride_tricks.sliding_window_view(np.array(ids), SEEN)


class Encoder(nn.Module):
    """
    A small transformer over token ids.

    :param joined: give one vector, those of all tokens side by side
    """

    def __init__(self, joined: bool = False) -> None:
        super().__init__()
        self.joined = joined
        self.words = nn.Embedding(len(VOCABULARY), WIDTH)
        self.places = nn.Embedding(LONGEST, WIDTH)
        nn.init.normal_(self.words.weight, std=0.2)
        nn.init.normal_(self.places.weight, std=0.2)
        block = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, nn.LayerNorm(WIDTH), enable_nested_tensor=False)

    def forward(self, ids: th.Tensor) -> th.Tensor:
        """
        :param ids: (B, T) int64
        :return: (B, T, WIDTH), or (B, T * WIDTH)
        """
        tokens = self.blocks(self.words(ids) + self.places.weight[: ids.shape[1]])
        return tokens.flatten(1) if self.joined else tokens


def pretrain(path: Path, steps: int, seed: int) -> float:
    """
    Masked-token prediction (Devlin et al., 2019, https://arxiv.org/abs/1810.04805) on crops of unlabelled sentences.

    :param path: where the encoder is saved, as safetensors
    :param steps: updates of 64 crops
    :param seed: of text, crops, masks and weights
    :return: the loss, a mean of the last tenth
    """
    th.manual_seed(seed)
    rng = np.random.default_rng(seed)
    texts = [np.array([IDS[word] for word in words]) for words in unlabelled(12_000, seed)]
    encoder, bias = Encoder(), nn.Parameter(th.zeros(len(VOCABULARY)))
    optimizer = th.optim.AdamW([*encoder.parameters(), bias], lr=4e-3, weight_decay=0.01)
    schedule = th.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    losses = []
    bar = trange(steps, desc="pre-training")
    for _ in bar:
        length = rng.integers(SEEN, 17)  # observations are short: any token may come first
        crops = np.full((64, length), IDS[PAD])
        for row, i in zip(crops, rng.integers(len(texts), size=64), strict=True):
            start = rng.integers(-SEEN + 1, len(texts[i]) - 1)
            piece = texts[i][max(start, 0) : start + length]
            row[max(-start, 0) :][: len(piece)] = piece
        hidden = (rng.random(crops.shape) < 0.2) & (crops != IDS[PAD])
        hidden[np.arange(64), (crops != IDS[PAD]).argmax(axis=1)] |= not hidden.any()
        shown = np.where(hidden & (rng.random(crops.shape) < 0.8), IDS[MASK], crops)
        logits = encoder(th.as_tensor(shown))[th.as_tensor(hidden)] @ encoder.words.weight.T + bias
        loss = F.cross_entropy(logits, th.as_tensor(crops[hidden]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
    with replacing(path) as unfinished:
        save_file(encoder.state_dict(), unfinished)
    return float(np.mean(losses[-max(steps // 10, 1) :]))
