"""Small models of texts, and items of unequal lengths."""

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.data import Batch, Example, TensorExamples, collate
from vqkit.modalities.text import (
    BYTES,
    AutoregressiveConfig,
    DecoderConfig,
    ParallelConfig,
    TextModelConfig,
    TextNetworkConfig,
)
from vqkit.modalities.text.symbols import byte_symbols
from vqkit.quantizers import EMAConfig

WORDS = [
    "to be",
    "or not",
    "that is",
    "the question:",
    "ä",
    "whether 'tis nobler in the mind\n",
    "a",
]
SMALL = AutoregressiveConfig(width=16, layers=2, heads=2)
DECODERS = {"parallel": ParallelConfig(), "autoregressive": SMALL}


def network(patch: int = 2, **options) -> TextNetworkConfig:
    small = {"symbol_width": 6, "width": 16, "heads": 2, "dim": 8}
    return TextNetworkConfig(patch=patch, **(small | options))


def model(
    decoder: str = "parallel", *, patch: int = 2, seed: int = 0, started: bool = True, **options
) -> VQVAE:
    """A model whose patches see each other, and whose codebook was started from data if wanted."""
    torch.manual_seed(seed)
    kind: DecoderConfig = DECODERS[decoder]
    config = TextModelConfig(
        network=network(patch, **options), quantizer=EMAConfig(codebook_size=16), decoder=kind
    )
    made = VQVAE.from_config(config.fitted((1, patch)))
    if made.encoder.blocks.transformer is not None:
        torch.nn.init.constant_(made.encoder.blocks.share, 0.5)
    if not started:
        return made
    batch = collated(items(patch))
    made.initialize([(batch.x, batch.mask)], seed=0)
    return made


def items(patch: int = 2, words: list[str] = WORDS) -> list[Tensor]:
    """Each (1, L) int16"""
    return [BYTES.item(byte_symbols(word.encode()), patch) for word in words]


def collated(xs: list[Tensor]) -> Batch:
    return collate([Example(x) for x in xs], range(len(xs)))


class Texts(TensorExamples):
    """Items in memory that tell their lengths."""

    def __init__(self, xs: list[Tensor]) -> None:
        super().__init__(xs)
        self.lengths = [x.shape[1] for x in xs]


def many(num: int = 60, patch: int = 2) -> Texts:
    """Pieces of a few sentences, of many lengths."""
    text = " ".join(WORDS).replace("\n", " ")
    words = [text[i % 7 : i % 7 + 4 + (i * 5) % 23] for i in range(num)]
    return Texts(items(patch, words))
