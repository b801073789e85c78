"""How much of texts comes back, over a whole split."""

import torch
from torch import Tensor

from vqkit.distributed import all_reduce
from vqkit.modalities.text.symbols import BYTES, END, Symbols

PARTS = ("bytes", "right_bytes", "ends", "right_ends", "items", "right_items")


class TextMetrics:
    """Bytes, ends and whole texts that are right.

    A byte is right if its symbol is. Kept as whole numbers: the figures depend neither on the
    batches nor on the ranks.

    Args:
        symbols: What each integer of an item stands for.
        device: Where the items are.
    """

    def __init__(self, symbols: Symbols = BYTES, *, device: torch.device | str = "cpu") -> None:
        self.lengths = symbols.lengths.to(device)
        self.counts = torch.zeros(len(PARTS), dtype=torch.int64, device=device)

    @torch.no_grad()
    def add(self, x: Tensor, reconstruction: Tensor, mask: Tensor | None = None) -> None:
        """Counts a batch in.

        Args:
            x: Symbols. (B, 1, L) integers
            reconstruction: The model's. (B, 1, L) integers
            mask: True where a symbol is real; None when all are. (B, L) bool
        """
        wanted, found = x.squeeze(1).long(), reconstruction.squeeze(1).long()
        real = torch.ones_like(wanted, dtype=torch.bool) if mask is None else mask
        right, ends = wanted == found, (wanted == END) & real
        lengths = self.lengths[wanted] * real
        parts = (
            lengths.sum(),
            (lengths * right).sum(),
            ends.sum(),
            (ends & right).sum(),
            real.any(1).sum(),
            ((right | ~real).all(1) & real.any(1)).sum(),
        )
        self.counts += torch.stack(parts)

    def results(self) -> dict[str, float]:
        """The figures over all batches of all ranks; every rank must call it.

        Returns:
            ``byte_accuracy``, the share of bytes that are right; ``end_accuracy``, that of the
            symbols behind the last byte of each text, if there are any; ``exact_match``, that of
            texts of which everything is right; ``bytes_per_item``. Empty when there was nothing.
        """
        counts = all_reduce(self.counts.clone()).tolist()
        count = dict(zip(PARTS, counts, strict=True))
        if not count["items"]:
            return {}
        found = {"byte_accuracy": count["right_bytes"] / max(1, count["bytes"])}
        if count["ends"]:
            found["end_accuracy"] = count["right_ends"] / count["ends"]
        found["exact_match"] = count["right_items"] / count["items"]
        found["bytes_per_item"] = count["bytes"] / count["items"]
        return found
