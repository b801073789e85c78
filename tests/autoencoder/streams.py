"""Codes and items that come chunk by chunk, joined again."""

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE, StreamDecoder, StreamEncoder
from vqkit.codes import Codes, Level


def joined(parts: list[Codes]) -> Codes:
    levels = [part.levels[0] for part in parts]
    indices = torch.cat([level.indices for level in levels], 1)
    return Codes((Level(indices, levels[0].codebook_sizes, levels[0].structure),))


def encoded(tokenizer: VQVAE, x: Tensor, size: int) -> Codes:
    stream = StreamEncoder(tokenizer)
    return joined([*(stream.push(part) for part in x.split(size, 2)), stream.end()])


def decoded(tokenizer: VQVAE, codes: Codes, size: int) -> Tensor:
    stream, level = StreamDecoder(tokenizer), codes.levels[0]
    parts = level.indices.split(size, 1)
    pieces = (Codes((Level(part, level.codebook_sizes, level.structure),)) for part in parts)
    return torch.cat([stream.push(piece) for piece in pieces], 2)
