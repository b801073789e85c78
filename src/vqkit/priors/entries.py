"""The entries of the tokenizer's codebooks, for priors that see codes as vectors."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from vqkit.codes import LevelSpec
from vqkit.priors.slots import Slots, slots_of


class Entries(nn.Module):
    """One table of vectors for each codebook, saved with the prior; empty before ``take``.

    Args:
        specs: The shapes of the levels, coarsest first.
    """

    def __init__(self, specs: Sequence[LevelSpec]) -> None:
        super().__init__()
        self.slots = slots_of(specs)
        for number, slots in enumerate(self.slots):
            self.register_buffer(f"table{number}", torch.zeros(slots.size, 0))

    def __iter__(self) -> Iterator[tuple[Tensor, Slots]]:
        """The vectors (K, D) of each codebook, and its slots."""
        for number, slots in enumerate(self.slots):
            yield getattr(self, f"table{number}"), slots

    @property
    def is_empty(self) -> bool:
        """Whether there are no vectors."""
        return any(table.shape[1] == 0 for table, _ in self)

    @property
    def num_coordinates(self) -> int:
        """Length F of the vectors of all slots together."""
        return sum(table.shape[1] * len(slots.places) for table, slots in self)

    def take(self, tables: Sequence[Tensor]) -> None:
        """Takes the vectors of each codebook, (K, D) each.

        Raises:
            ValueError: If they do not fit the codebooks.
        """
        if len(tables) != len(self.slots):
            raise ValueError(
                f"there are {len(tables)} tables; give one for each of {len(self.slots)} codebooks"
            )
        for number, (table, slots) in enumerate(zip(tables, self.slots, strict=True)):
            if table.dim() != 2 or len(table) != slots.size or table.shape[1] < 1:
                shape = tuple(table.shape)
                raise ValueError(f"table {number} has shape {shape}; give ({slots.size}, D)")
            if not table.isfinite().all():
                raise ValueError(f"table {number} has numbers that are not finite; mend it")
            device = getattr(self, f"table{number}").device
            setattr(self, f"table{number}", table.detach().to(device, torch.float32).clone())

    def resize(self, shapes: Mapping[str, tuple[int, ...]], prefix: str) -> None:
        """Makes room for saved tables, whose names begin with ``prefix``."""
        for number, slots in enumerate(self.slots):
            name = f"table{number}"
            shape = shapes.get(prefix + name, (slots.size, 0))
            setattr(self, name, torch.zeros(shape, device=getattr(self, name).device))

    def vectors(self, items: Tensor) -> Tensor:
        """The vectors of items, codebook after codebook, slot after slot.

        Args:
            items: Integers in the order of ``Codes.flat``; -1 where masked, which becomes the mean
                of the slot. (N, L) int64

        Returns:
            (N, F)
        """
        found = []
        for table, slots in self:
            own = items[:, slots.where]
            real = (own >= 0).unsqueeze(-1)
            vectors = table[own.clamp(min=0)]
            mean = (vectors * real).sum(0) / real.sum(0).clamp(min=1)
            found.append(torch.where(real, vectors, mean).flatten(1))
        return torch.cat(found, dim=1)
