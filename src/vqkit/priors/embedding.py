"""Integers of every slot as vectors, where the slots lie, and logits of what stands there."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.codes import LevelSpec
from vqkit.nn.transformer import INIT_STD
from vqkit.priors.slots import Slots, slots_of


class Places(nn.Module):
    """One vector for each slot: the sum of one for each axis of its grid, and one for its codebook.

    Args:
        specs: The shapes of the levels.
        width: Length W of the vectors.
    """

    def __init__(self, specs: Sequence[LevelSpec], width: int) -> None:
        super().__init__()
        self.specs = tuple(specs)
        self.axes = nn.ParameterList(
            nn.Parameter(torch.empty(length, width)) for spec in specs for length in spec.grid
        )
        self.codebooks = nn.Parameter(
            torch.empty(sum(len(spec.codebook_sizes) for spec in specs), width)
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=INIT_STD)

    def forward(self) -> Tensor:
        """The vectors, in the order of ``Codes.flat``. (L, W)"""
        axes, codebooks, found = iter(self.axes), self.codebooks, []
        for spec in self.specs:
            num = len(spec.codebook_sizes)
            own, codebooks = codebooks[:num], codebooks[num:]
            place = own.reshape(*[1] * len(spec.grid), num, -1)
            for axis in range(len(spec.grid)):
                shape = [1] * (len(spec.grid) + 1)
                shape[axis] = spec.grid[axis]
                place = place + next(axes).reshape(*shape, -1)
            found.append(place.flatten(0, -2))
        return torch.cat(found)


class CodeEmbedding(nn.Module):
    """One table of all codebooks' entries, and the way back from vectors to logits.

    Slots of one codebook share its rows. One more row stands for no integer: before the first, or
    hidden from the network.

    Args:
        specs: The shapes of the levels.
        width: Length W of the vectors.
        tied: Whether the table also predicts.
    """

    offsets: Tensor
    """Row where the codebook of each slot of ``Codes.flat`` begins. (L,) int64"""

    def __init__(self, specs: Sequence[LevelSpec], width: int, *, tied: bool = False) -> None:
        super().__init__()
        self.slots = slots_of(specs)
        vocabulary = sum(slots.size for slots in self.slots)
        self.table = nn.Embedding(vocabulary + 1, width)
        self.head = None if tied else nn.Linear(width, vocabulary)
        for name, parameter in self.named_parameters():
            nn.init.normal_(parameter, std=0.0 if name.endswith("bias") else INIT_STD)
        offsets = torch.zeros(sum(spec.num_tokens for spec in specs), dtype=torch.int64)
        for slots in self.slots:
            offsets[slots.where] = slots.offset
        self.register_buffer("offsets", offsets, persistent=False)

    @property
    def nothing(self) -> Tensor:
        """The vector of no integer. (W,)"""
        return self.table.weight[-1]

    def forward(self, flat: Tensor, mask: Tensor | None = None) -> Tensor:
        """The vectors of integers, 0 where they are not real.

        Args:
            flat: Integers in the order of ``Codes.flat``, of the first slots at least. (B, L) int64
            mask: True where real; None when all are. (B, L) bool

        Returns:
            (B, L, W)
        """
        vectors = self.table(flat + self.offsets[: flat.shape[1]])
        return vectors if mask is None else vectors.masked_fill(~mask.unsqueeze(-1), 0)

    def at(self, slot: int, integers: Tensor, mask: Tensor | None = None) -> Tensor:
        """The vectors (B, W) of the integers (B,) of one slot; ``mask`` as in ``forward``."""
        vectors = self.table(integers + self.offsets[slot])
        return vectors if mask is None else vectors.masked_fill(~mask[:, slot, None], 0)

    def logits(self, hidden: Tensor, slots: Slots) -> Tensor:
        """Logits of the entries of one codebook: (..., W) -> (..., K)."""
        rows = slice(slots.offset, slots.offset + slots.size)
        if self.head is None:
            return F.linear(hidden, self.table.weight[rows])
        return F.linear(hidden, self.head.weight[rows], self.head.bias[rows])

    def nats(self, hidden: Tensor, flat: Tensor) -> Tensor:
        """What integers cost, predicted from vectors.

        Args:
            hidden: What each slot is predicted from. (B, L, W)
            flat: The integers. (B, L) int64

        Returns:
            Nats, float32 at least. (B, L)
        """
        precise = torch.promote_types(hidden.dtype, torch.float32)
        if len(self.slots) == 1:
            logits = self.logits(hidden, self.slots[0]).to(precise)
            losses = F.cross_entropy(logits.flatten(0, 1), flat.flatten(), reduction="none")
            return losses.view_as(flat)
        nats = hidden.new_zeros(flat.shape, dtype=precise)
        for slots in self.slots:
            logits = self.logits(hidden[:, slots.where], slots).to(precise)
            targets = flat[:, slots.where]
            losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            nats[:, slots.where] = losses.view_as(targets)
        return nats

    def every_logits(self, hidden: Tensor) -> Tensor:
        """The logits of every slot from vectors (B, L, W): (B, L, K).

        K is that of the largest codebook, and -inf stands where a slot's own has no entry.
        """
        shape = (*hidden.shape[:2], max(slots.size for slots in self.slots))
        logits = hidden.new_full(shape, -torch.inf)
        for slots in self.slots:
            logits[:, slots.where, : slots.size] = self.logits(hidden[:, slots.where], slots)
        return logits
