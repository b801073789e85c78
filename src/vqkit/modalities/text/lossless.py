"""Exact copies: the codes of a text, and what the decoder gets wrong."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vqkit.codes import Codes
from vqkit.modalities.text.objective import Categorical, CategoricalObjective
from vqkit.modalities.text.symbols import byte_symbols

Choose = Callable[[Categorical, int], Tensor]


class Tokenizer(Protocol):
    """An autoencoder of texts."""

    @property
    def encoder(self) -> Any:
        """Has a ``patch``."""
        ...

    @property
    def objective(self) -> Any:
        """A ``CategoricalObjective``."""
        ...

    def encode(self, x: Tensor, mask: Tensor | None = None) -> Codes:
        """The codes of items."""
        ...

    def distribution(self, codes: Codes) -> Any:
        """What is said of the items that have these codes."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """A text without loss.

    Attributes:
        codes: Of the text. 1 item
        positions: Where the most probable symbol, given the codes and what stands before, is
            wrong. N
        symbols: What stands there. N
        bits: -log2 p(text | codes): what an entropy coder would need besides the codes.
    """

    codes: Codes
    positions: tuple[int, ...]
    symbols: tuple[int, ...]
    bits: float


@torch.no_grad()
def corrections(
    model: Tokenizer, text: str, cut: Callable[[bytes], np.ndarray] = byte_symbols
) -> Corrections:
    """The codes of a text of any length, and what it needs besides them to come back exactly.

    Args:
        model: In evaluation mode.
        text: Any string that UTF-8 can write.
        cut: From the bytes to symbols: ``Vocabulary.cut`` of a model with a vocabulary.

    Raises:
        ValueError: If the string holds a lone surrogate.
    """
    objective: CategoricalObjective = model.objective
    item = objective.symbols.item(cut(text.encode()), model.encoder.patch)
    x = item.unsqueeze(0).long()
    codes = model.encode(x)
    said = model.distribution(codes)
    expected = []

    def follow(distribution: Categorical, position: int) -> Tensor:
        expected.append(distribution.mode())
        return x[:, :, position : position + expected[-1].shape[2]]

    said.drawn(follow)
    wrong = (torch.cat(expected, dim=2) != x).flatten().nonzero().flatten()
    right = x.flatten()[wrong]
    bits = -float(said.log_prob(x)) / math.log(2)
    return Corrections(codes, tuple(wrong.tolist()), tuple(right.tolist()), bits)


@torch.no_grad()
def restore(model: Tokenizer, found: Corrections) -> str:
    """The text of which these are the codes and corrections, by the model that made them."""
    objective: CategoricalObjective = model.objective
    known = dict(zip(found.positions, found.symbols, strict=True))

    def correct(distribution: Categorical, position: int) -> Tensor:
        symbols = distribution.mode()
        for place in range(symbols.shape[2]):
            symbols[:, :, place] = known.get(position + place, symbols[:, :, place])
        return symbols

    x = model.distribution(found.codes).drawn(correct)
    return objective.symbols.text(x[0]).decode()
