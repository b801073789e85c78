"""An autoregressive prior: a decoder-only Transformer over the integers of an item."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.codes import Codes, LevelSpec
from vqkit.nn.dropout import StatelessDropout
from vqkit.nn.transformer import INIT_STD, Transformer
from vqkit.priors.base import Prior
from vqkit.priors.conditioning import Conditioning
from vqkit.priors.slots import Slots
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TransformerConfig:
    """A decoder-only Transformer over the code sequence."""

    type: Literal["transformer"] = "transformer"
    layers: Annotated[int, Field(ge=1)] = 4
    """Number of blocks."""
    width: Annotated[int, Field(ge=1)] = 256
    """Length of the vectors between the blocks."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Number of attention heads; divides the width."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability of dropping an element in training; raise it for little data."""
    tied: bool = False
    """Whether one table embeds the integers and predicts them."""

    @field_validator("heads")
    @classmethod
    def _divides_the_width(cls, heads: int, info: ValidationInfo) -> int:
        width = info.data.get("width")
        if width is not None and width % heads:
            raise ValueError(f"must divide the width, {width}")
        return heads

    def build(
        self, specs: Sequence[LevelSpec], num_classes: int | None = None
    ) -> "TransformerPrior":
        """The prior over codes of these levels, with new weights."""
        return TransformerPrior(
            specs,
            num_classes,
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            dropout=self.dropout,
            tied=self.tied,
        )


class TransformerPrior(Prior):
    """p(codes | label) as a product over the slots of ``Codes.flat``, each after those before it.

    Neural Discrete Representation Learning, section 3.3, https://arxiv.org/abs/1711.00937, with a
    Transformer for the PixelCNN. Every codebook has its own rows of one table; slots that share a
    codebook share them. A slot's input is the integer before it (nothing where that is masked), the
    slot's position and the label.

    Args:
        specs: The shapes of the levels, coarsest first.
        num_classes: Number of classes of labels, needed everywhere then; None for no labels.
        layers: Number of blocks.
        width: Length D of the vectors between the blocks, a multiple of ``heads``.
        heads: Number of attention heads.
        dropout: Probability of dropping an element in training.
        tied: Whether one table embeds the integers and predicts them.
    """

    offsets: Tensor
    """Row of the table where the codebook of each slot of ``Codes.flat`` begins. (L,) int64"""

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        num_classes: int | None = None,
        *,
        layers: int = 4,
        width: int = 256,
        heads: int = 4,
        dropout: float = 0.1,
        tied: bool = False,
    ) -> None:
        super().__init__(specs, num_classes)
        vocabulary = sum(slots.size for slots in self.slots)
        self.table = nn.Embedding(vocabulary + 1, width)  # the last row begins the sequence
        self.positions = nn.Embedding(len(self.slot_sizes), width)
        self.classes = None if num_classes is None else nn.Embedding(num_classes, width)
        offsets = torch.zeros_like(self.slot_sizes)
        for slots in self.slots:
            offsets[slots.where] = slots.offset
        self.register_buffer("offsets", offsets, persistent=False)
        self.dropout = StatelessDropout(dropout)
        self.transformer = Transformer(width, num_layers=layers, heads=heads, dropout=dropout)
        self.head = None if tied else nn.Linear(width, vocabulary)
        for name, parameter in self.named_parameters():
            if not name.startswith("transformer."):
                nn.init.normal_(parameter, std=0.0 if name.endswith("bias") else INIT_STD)

    @property
    def config(self) -> TransformerConfig:
        return TransformerConfig(
            layers=len(self.transformer.blocks),
            width=self.table.embedding_dim,
            heads=self.transformer.heads,
            dropout=self.dropout.p,
            tied=self.head is None,
        )

    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        hidden = self._hidden(flat, mask, given)
        nats = hidden.new_zeros(flat.shape, dtype=torch.promote_types(hidden.dtype, torch.float32))
        for slots in self.slots:
            logits = self._predict(hidden[:, slots.where], slots).to(nats.dtype)
            targets = flat[:, slots.where]
            losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            nats[:, slots.where] = losses.view_as(targets)
        return nats if mask is None else nats.masked_fill(~mask, 0)

    def logits(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        """The logits of every slot, given the integers before it.

        Args:
            codes: Of the levels of ``specs``. B items
            given: What is known of the items.

        Returns:
            In the order of ``Codes.flat``; K is that of the largest codebook, and -inf stands
            where a slot's own has no entry. (B, L, K)
        """
        hidden = self._hidden(self.check_codes(codes), codes.flat_mask(), given)
        shape = (*hidden.shape[:2], int(self.slot_sizes.max()))
        logits = hidden.new_full(shape, -torch.inf)
        for slots in self.slots:
            logits[:, slots.where, : slots.size] = self._predict(hidden[:, slots.where], slots)
        return logits

    def next_logits(
        self, num: int, given: Conditioning | None = None
    ) -> Callable[[int, Tensor], Tensor]:
        label = self._label_vectors(given, num)
        cache = self.transformer.cache(num, len(self.slot_sizes))
        codebooks = {place: slots for slots in self.slots for place in slots.places}
        begin = torch.full((num,), self.table.num_embeddings - 1, device=label.device)

        def next_logits(slot: int, previous: Tensor) -> Tensor:
            rows = begin if slot == 0 else previous + codebooks[slot - 1].offset
            x = self.table(rows) + self.positions.weight[slot] + label
            return self._predict(self.transformer.step(x, cache), codebooks[slot])

        return next_logits

    def _hidden(self, flat: Tensor, mask: Tensor | None, given: Conditioning | None) -> Tensor:
        """What the integers of each slot are predicted from. (B, L, D)"""
        label = self._label_vectors(given, len(flat))
        before = self.table((flat + self.offsets)[:, :-1])
        if mask is not None:
            before = before.masked_fill(~mask[:, :-1].unsqueeze(-1), 0)
        begin = self.table.weight[-1].expand(len(flat), 1, -1)
        x = torch.cat([begin, before], dim=1) + self.positions.weight + label.unsqueeze(-2)
        return self.transformer(self.dropout(x))

    def _label_vectors(self, given: Conditioning | None, num: int) -> Tensor:
        """What is added at every position for the label: (B, D), or zeros (D,) without classes."""
        labels = self.check_labels(given, num)
        if self.classes is None:
            return self.table.weight.new_zeros(self.table.embedding_dim)
        if labels is None:
            classes = f"0 to {self.classes.num_embeddings - 1}"
            raise ValueError(f"labels are missing; give one of {classes} for each item")
        return self.classes(labels)

    def _predict(self, hidden: Tensor, slots: Slots) -> Tensor:
        """Logits of the entries of one codebook: (..., D) -> (..., K)."""
        rows = slice(slots.offset, slots.offset + slots.size)
        if self.head is None:
            return F.linear(hidden, self.table.weight[rows])
        return F.linear(hidden, self.head.weight[rows], self.head.bias[rows])
