"""What each item costs, and which items are the most and the least likely."""

import csv
import io
from dataclasses import dataclass

from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.data import Examples
from vqkit.modalities.base import Media
from vqkit.tokens.encode import id_of


@dataclass(frozen=True, slots=True, eq=False)
class ItemBits:
    """What a lossless copy of each item would cost, in bits.

    Attributes:
        dims: Number of real values of each item. (N,) int64
        labels: Class of each item; None without labels. (N,) int64
        decoder: Of the item given its codes; None where no likelihood is claimed. (N,) float64
        codes: Of the codes, under the given prior or else the uniform one. (N,) float64
        levels: The part of each level in it, coarsest first; none with one level or without a
            prior. Each (N,) float64
    """

    dims: Tensor
    labels: Tensor | None
    decoder: Tensor | None
    codes: Tensor
    levels: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.dims)

    @property
    def per_dim(self) -> Tensor | None:
        """Bits per dimension; None where no likelihood is claimed. (N,) float64"""
        return None if self.decoder is None else (self.decoder + self.codes) / self.dims

    def extremes(self, num: int) -> tuple[list[int], list[int]]:
        """The most likely items, the most likely first, and the least likely, those first.

        By bits per dimension, or by those of the codes where no likelihood is claimed; the lower
        number first on ties. No item is in both lists.

        Args:
            num: Most items in each.
        """
        bits = self.codes / self.dims if self.per_dim is None else self.per_dim
        num = min(num, len(self) // 2)
        least = bits.argsort(descending=True, stable=True)[:num]
        return bits.argsort(stable=True)[:num].tolist(), least.tolist()


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """Each item of a split by name, with what it costs.

    Attributes:
        ids: Names. N
        labels: Names of their classes; None without labels. N
        bits: What they cost.
        most: Numbers of the most likely, the most likely first.
        least: Numbers of the least likely, the least likely first.
        pictures: Those of ``most``, then those of ``least``; none if they are no pictures. Each
            (C, H, W) uint8
        media: The same as a page plays them, where they are no pictures.
    """

    ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    bits: ItemBits
    most: tuple[int, ...]
    least: tuple[int, ...]
    pictures: tuple[Tensor, ...]
    media: tuple[Media, ...] = ()

    def table(self) -> str:
        """All of it as CSV, a line for each item; what was not measured is empty."""
        bits, text = self.bits, io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        levels = {f"code_bits_level_{i + 1}": each for i, each in enumerate(bits.levels)}
        figures = {
            "dims": bits.dims,
            "decoder_bits": bits.decoder,
            "code_bits": bits.codes,
            "bits_per_dim": bits.per_dim,
            **levels,
        }
        writer.writerow(["id", "label", *figures])
        nothing = [""] * len(bits)
        columns = [nothing if each is None else each.tolist() for each in figures.values()]
        writer.writerows(zip(self.ids, self.labels, *columns, strict=True))
        return text.getvalue()


def itemized(model: VQVAE, examples: Examples, bits: ItemBits, num_shown: int) -> Items:
    """Gives names to what was measured, and pictures to the most and the least likely items.

    Args:
        model: Whose modality draws them.
        examples: The split.
        bits: What its items cost.
        num_shown: Most pictures of either kind.
    """
    most, least = bits.extremes(num_shown)
    modality = model.objective.modality
    items = [examples.example(number).x for number in (*most, *least)]
    found = [modality.pictures(x.unsqueeze(0)) for x in items]
    pictures = [each[0] for each in found if each is not None]
    played = [] if pictures else [modality.media(x) for x in items]
    names = getattr(examples, "labels", ())
    labels: list[str | None] = [None] * len(bits)
    if bits.labels is not None and names:
        labels = [str(names[number]) for number in bits.labels.tolist()]
    return Items(
        tuple(id_of(examples, number) for number in range(len(examples))),
        tuple(labels),
        bits,
        tuple(most),
        tuple(least),
        tuple(pictures) if len(pictures) == len(found) else (),
        tuple(each for each in played if each is not None),
    )
