"""A search for sums of entries, one of each of several codebooks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vqkit.quantizers.search import full_precision

ELEMENTS_PER_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of entries that are followed for some vectors.

    Attributes:
        indices: One of each codebook so far. (N, beams, Q) int64
        left: What the sums leave of the vectors. (N, beams, D)
    """

    indices: Tensor
    left: Tensor

    @classmethod
    def nothing(cls, z: Tensor) -> "Sums":
        """The empty sum for each vector (N, D)."""
        return cls(torch.zeros(len(z), 1, 0, dtype=torch.int64, device=z.device), z.unsqueeze(1))

    def longer(self, table: Tensor, beams: int) -> "Sums":
        """The best of all sums with one entry more.

        |l - e|^2 = |l - c|^2 - 2 (l - c).(e - c) + |e - c|^2; far from the origin the products
        would lose the digits that matter, if c were not the mean of the entries.

        Args:
            table: The entries of the next codebook. (K, D)
            beams: Number of sums to follow.
        """
        center, (num, width, dim) = table.mean(0), self.left.shape
        left, entries = self.left - center, table - center
        errors = entries.square().sum(-1).repeat(num * width, 1)
        errors.addmm_(left.flatten(0, 1), entries.T, alpha=-2)  # in place: autocast leaves it alone
        errors = errors.view(num, width, -1) + left.square().sum(-1, keepdim=True)
        best = errors.flatten(1).topk(min(beams, width * len(table)), largest=False).indices
        before, entry = best // len(table), best % len(table)
        picked = before.unsqueeze(-1)
        indices = self.indices.gather(1, picked.expand(-1, -1, self.indices.shape[-1]))
        left = self.left.gather(1, picked.expand(-1, -1, dim)) - table[entry]
        return Sums(torch.cat([indices, entry.unsqueeze(-1)], -1), left)


# An operator, so that the precision of its products stays what it is here when it is compiled.
@torch.library.custom_op("vqkit::beam_search", mutates_args=())
def beam_search(z: Tensor, tables: Sequence[Tensor], beams: int) -> Tensor:
    """Entries whose sum is near to a vector: the best of several sums that are followed at a time.

    Args:
        z: Vectors. (N, D)
        tables: The entries of each codebook. Each (K, D)
        beams: Number of sums to follow.

    Returns:
        Indices. (N, Q) int64
    """
    found = torch.empty(len(z), len(tables), dtype=torch.int64, device=z.device)
    z = z.to(tables[0].dtype)
    num = max(1, ELEMENTS_PER_CHUNK // (beams * max(map(len, tables))))
    with full_precision(z.device.type):
        for first in range(0, len(z), num):
            sums = Sums.nothing(z[first : first + num])
            for table in tables:
                sums = sums.longer(table, beams)
            found[first : first + num] = sums.indices[:, 0]
    return found


@beam_search.register_fake
def _(z: Tensor, tables: Sequence[Tensor], beams: int) -> Tensor:
    return z.new_empty(len(z), len(tables), dtype=torch.int64)
