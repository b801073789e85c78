"""What is particular to texts, for all that shows, measures and writes items."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vqkit.atomic import atomic_file
from vqkit.modalities.base import Figure, Media
from vqkit.modalities.text.metrics import TextMetrics
from vqkit.modalities.text.symbols import BYTES, END, Symbols


class TextModality:
    """Texts, made of symbols.

    Args:
        symbols: What each integer stands for.
    """

    name, item, items, an_item, suffix = "text", "text", "texts", "a text", ".txt"
    collection = "text.txt"
    samples_apart = True
    dimension = "one byte"
    plain = (8, "plain bytes")
    shows_entries = False
    draws_all = True
    judges_new = False
    figures = (
        Figure("byte_accuracy", "bytes right", note="decoded from the codes alone; 1 is all"),
        Figure("exact_match", "texts right", note="without a single error; 1 is all"),
        Figure("codes_per_dim", "codes per byte"),
    )
    bits_unit = "bits/byte"
    scale = "Bits per byte are with what the end of a text costs."

    def __init__(self, symbols: Symbols = BYTES) -> None:
        self.symbols = symbols

    def size(self, shape: Sequence[int]) -> str:
        """Nothing: texts have any length."""
        return ""

    def num_dims(self, x: Tensor) -> Tensor:
        """How many bytes each item (B, 1, L) has; ends are none. (B,) int64"""
        return self.symbols.num_bytes(x)

    def raw_features(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """How frequent each symbol is in each item (B, 1, L), ends left out. (B, V)"""
        counts = torch.zeros(len(x), len(self.symbols), device=x.device)
        wanted = x.flatten(1).long()
        counts.scatter_add_(1, wanted, torch.ones_like(wanted, dtype=counts.dtype))
        counts[:, END] = 0
        return counts / counts.sum(1, keepdim=True).clamp(min=1)

    def metrics(self, device: torch.device | str) -> TextMetrics:
        """What measures reconstructions."""
        return TextMetrics(self.symbols, device=device)

    def stored(self, x: Tensor) -> Tensor:
        """Symbols in few bits. (B, 1, L) int16 or int32"""
        return x.to(self.symbols.dtype)

    def save(self, path: Path, x: Tensor) -> None:
        """Writes one text (1, L)."""
        self.save_all(path, [x])

    def save_all(self, path: Path, items: Iterable[Tensor]) -> None:
        """Writes texts one after another, with nothing between them."""
        with atomic_file(path) as part, part.open("wb") as file:
            file.writelines(self.symbols.text(item) for item in items)

    def pictures(self, x: Tensor) -> None:
        """None: a page shows the text itself."""

    def media(self, x: Tensor) -> Media:
        """One text (1, L), as bytes that may be no whole characters."""
        return Media("text", "text/plain", self.symbols.text(x))


TEXT = TextModality()
