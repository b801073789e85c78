"""What every modality offers to all that trains, shows, measures and writes its items."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from vqkit.quantizers import Quantizer, QuantizerConfig


@dataclass(frozen=True, slots=True)
class Parts:
    """What an autoencoder is made of.

    Attributes:
        encoder: From items (B, C, *grid) to features (B, D, *grid), for each level if there are
            several, coarsest first.
        quantizers: One for each level, coarsest first.
        decoder: From the quantized vectors of each level to what the objective reads.
        objective: What the decoder is trained for.
        top_down: What joins each level but the coarsest with those above it.
    """

    encoder: nn.Module
    quantizers: Sequence[Quantizer]
    decoder: nn.Module
    objective: nn.Module
    top_down: Sequence[nn.Module] = ()


class OneLevel:
    """What the configs of models with one level have in common, beside their ``quantizer``."""

    quantizer: QuantizerConfig
    hides_levels: ClassVar = False

    @property
    def level_quantizers(self) -> tuple[QuantizerConfig, ...]:
        """The only quantizer."""
        return (self.quantizer,)

    def quantizer_key(self, level: int) -> str:
        """The key of the quantizer, for messages."""
        return "model.quantizer"

    def fitted(self, shape: Sequence[int]) -> Self:
        """The config for items of a shape: itself, where it says all that there is to know."""
        return self


@dataclass(frozen=True, slots=True)
class Figure:
    """One of the figures that ``Metrics.results`` gives, as people read it.

    Attributes:
        key: Its name among the results.
        name: What it is called.
        unit: What it is measured in; empty for a pure number.
        note: What there is to know of it, in few words.
    """

    key: str
    name: str
    unit: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Media:
    """An item as a page plays or shows it, besides its picture.

    Attributes:
        kind: ``audio`` and ``image``: a file that browsers play or move; ``text``: text.
        mime: Such as ``audio/wav``.
        data: The file's bytes; of text its UTF-8.
    """

    kind: Literal["audio", "image", "text"]
    mime: str
    data: bytes


class Metrics(Protocol):
    """How far reconstructions are from items, over a whole split.

    Kept as totals and counts: the figures depend neither on the batches nor on the ranks.
    """

    def add(self, x: Tensor, reconstruction: Tensor, mask: Tensor | None = None) -> None:
        """Counts a batch in.

        Args:
            x: Items as the data give them. (B, C, *grid)
            reconstruction: The model's. (B, C, *grid)
            mask: True where x is real; None when all is. (B, *grid) bool
        """
        ...

    def results(self) -> dict[str, float]:
        """The figures over all batches of all ranks, by name; every rank must call it."""
        ...


class Modality(Protocol):
    """One kind of data. An objective has it as ``modality``.

    It may also have ``raw_features(x, mask)``: of a batch of items of one size (B, C, *grid) the
    features (B, F) that a linear classifier gets of them in a probe, where their plain values say
    little. And where not every value is a dimension ``num_dims(x)``, how many each item of such a
    batch has; ``draws_all``, true where an evaluation draws all items position after position;
    ``samples_apart``, true where new items have a file each in spite of a ``collection``;
    ``judges_new``, false where new items are shown, but not compared with others in features; and
    ``bits_unit``, what bits per dimension are called, see there.
    """

    @property
    def name(self) -> str:
        """As ``data.type`` and ``model.type`` have it: image, audio, text, video or vector."""
        ...

    @property
    def item(self) -> str:
        """What one item is called, such as ``image``."""
        ...

    @property
    def an_item(self) -> str:
        """One of them, such as ``an image``."""
        ...

    @property
    def items(self) -> str:
        """What several are called, such as ``images``."""
        ...

    @property
    def suffix(self) -> str:
        """How the file of an item ends, such as ``.png``."""
        ...

    @property
    def collection(self) -> str | None:
        """Name of the one file that holds all items, which a ``Collecting`` modality writes; None
        where each has a file of its own."""
        ...

    @property
    def dimension(self) -> str:
        """What one value of an item is, such as ``one value of one pixel``."""
        ...

    @property
    def plain(self) -> tuple[int, str]:
        """Bits of a value stored plainly, and what such values are called."""
        ...

    def size(self, shape: Sequence[int]) -> str:
        """In words how large items (C, *grid) are, after their number; may be empty."""
        ...

    @property
    def figures(self) -> Sequence[Figure]:
        """The figures worth a glance, the best known first."""
        ...

    @property
    def scale(self) -> str:
        """What figures are measured on, a sentence for a report's foot; may be empty."""
        ...

    @property
    def shows_entries(self) -> bool:
        """Whether an item that is one entry all over is worth a picture."""
        ...

    def metrics(self, device: torch.device | str) -> Metrics:
        """What measures reconstructions."""
        ...

    def stored(self, x: Tensor) -> Tensor:
        """Items as their files hold them: rounded, and cut to the range. (B, C, *grid)"""
        ...

    def save(self, path: Path, x: Tensor) -> None:
        """Writes one item, as ``stored`` gives it, whole or not at all. (C, *grid)"""
        ...

    def pictures(self, x: Tensor) -> Tensor | None:
        """Items as pictures of one size, whatever the items' lengths; None if there are none.

        Args:
            x: Items, as the data or a decoder give them. (B, C, *grid)

        Returns:
            Grey or RGB levels. (B, 1 or 3, H, W) uint8
        """
        ...

    def media(self, x: Tensor) -> Media | None:
        """One item (C, *grid) as a page plays it; None if its picture is all."""
        ...


class Collecting(Modality, Protocol):
    """A modality with a ``collection``."""

    def save_all(self, path: Path, items: Iterable[Tensor]) -> None:
        """Writes the ``collection`` of such items, whole or not at all."""
        ...


def bit_rates(metrics: Mapping[str, Any], name: str, dimensions: float) -> dict[str, float]:
    """Bits of codes for so many dimensions, by their figures for one.

    Args:
        metrics: Figures of an evaluation.
        name: What the rate is called.
        dimensions: How many.

    Returns:
        ``name`` and, under a prior, ``name_prior``, as far as they are known.
    """
    ends = {"": "uniform", "_prior": "prior"}
    keys = {f"{name}{end}": f"code_bits_per_dim_{prior}" for end, prior in ends.items()}
    return {name: float(metrics[key]) * dimensions for name, key in keys.items() if key in metrics}


def bits_unit(kind: Modality) -> str:
    """What bits per dimension are called: ``bits/dim``, or what the modality says."""
    return getattr(kind, "bits_unit", "bits/dim")
