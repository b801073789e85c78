"""Priors that draw one integer after another."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from vqkit.codes import Codes
from vqkit.priors.base import Prior
from vqkit.priors.conditioning import Conditioning
from vqkit.priors.known import Known
from vqkit.priors.sampling import Decoding
from vqkit.priors.trie import Trie

NextLogits = Callable[[int, Tensor], Tensor]
"""To be called with the slots in the prior's order and the integers (B,) of the slot before each in
that order, at the first with anything; gives the logits of the slot, up to a constant. (B, K)"""


class AutoregressivePrior(Prior):
    """p(codes) as a product over slots, each given those before it in an order.

    A subclass gives ``nats`` and ``next_logits``, which must agree.
    """

    @property
    def order(self) -> Tensor:
        """The slots of ``Codes.flat`` in the order in which they are drawn. (L,) int64"""
        return torch.arange(len(self.slot_sizes))

    def tree(self, valid: Codes) -> Trie:
        if valid.flat_mask() is not None:
            raise ValueError("valid codes have masks; give codes that are real everywhere")
        flat = self.check_codes(valid.to(self.slot_sizes.device))
        return Trie(flat, self.order.to(flat.device), int(self.slot_sizes.max()))

    @abstractmethod
    def next_logits(self, num: int, given: Conditioning, mask: Tensor | None) -> NextLogits:
        """Begins to draw, integer by integer.

        Args:
            num: Number of items B.
            given: What the items shall be; what is not there is left out. Checked
            mask: Which integers are real; None when all are. (B, L) bool
        """

    def completing(self, known: Known, given: Conditioning, mask: Tensor | None) -> NextLogits:
        """Begins to draw what is not known: ``next_logits``, unless what comes later matters.

        Args:
            known: Integers that are given. B items
            given: What the items shall be; what is not there is left out. Checked
            mask: Which integers are real; None when all are. (B, L) bool
        """
        return self.next_logits(len(known.flat), given, mask)

    def draw(
        self, known: Known, given: Conditioning, decoding: Decoding, mask: Tensor | None
    ) -> Tensor:
        order = self.order.to(known.flat.device)
        if not self.completes_any and not known.begins(order):
            raise ValueError(
                "known codes come after unknown ones, and this prior draws each code from those "
                "before it; give known codes that come first in its order, or use a diffusion prior"
            )
        told = self.completing(known, given, mask)
        untold = None if decoding.guidance == 1 else self.completing(known, given.left_out, mask)
        u = decoding.uniform(torch.arange(len(order), device=order.device))
        flat, previous = torch.zeros_like(known.flat), torch.zeros_like(decoding.items)
        walk = None if decoding.valid is None else decoding.valid.walk(len(flat))
        if mask is not None:  # nothing depends on what comes behind the last real one
            real = mask.any(0)[order].nonzero()
            order = order[: int(real[-1]) + 1] if len(real) else order[:0]
        for slot in order.tolist():
            logits = told(slot, previous)
            if untold is not None:
                logits = decoding.guided(logits, untold(slot, previous))
            if walk is not None:
                logits = logits.masked_fill(~walk.allowed(logits.shape[-1]), -torch.inf)
            drawn = decoding.choose(logits, u[:, slot])
            previous = torch.where(known.mask[:, slot], known.flat[:, slot], drawn)
            if mask is not None:
                previous = previous.masked_fill(~mask[:, slot], 0)
            if walk is not None:
                walk.step(previous)
            flat[:, slot] = previous
        return flat
