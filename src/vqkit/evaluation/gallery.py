"""What a report shows of a model: some items with their codes, and what each entry looks like."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.codes import Codes, Level, LevelSpec
from vqkit.data import Examples, in_order
from vqkit.evaluation.codebook import CodebookStats
from vqkit.evaluation.colors import code_colors
from vqkit.modalities.base import Media, Modality
from vqkit.tokens.sizes import by_size

WHITE, LEFT_OUT = 255, 240  # grey of nothing, and of a position without a code
MIDDLE = 32  # pixels of an entry's picture


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Some items of a split, evenly spread over it.

    Attributes:
        indices: Their numbers in the split. N
        labels: Names of their classes; None without labels. N
        originals: Pictures of them; None if there are none. (N, C, H, W) uint8
        reconstructions: Of what the model makes of them, as ``originals``. (N, C, H, W) uint8
        media: Each and its reconstruction as a page plays them; none where pictures are all. N
        code_maps: What the codes of each level stand for, in colours, where that has a grid of two
            axes. Each (N, 3, h, w) uint8
    """

    indices: tuple[int, ...]
    labels: tuple[str | None, ...]
    originals: Tensor | None
    reconstructions: Tensor | None
    media: tuple[tuple[Media, Media], ...]
    code_maps: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Atlas:
    """What the entries of one codebook look like, the most used first.

    Attributes:
        level: Number of the level, from 0, coarsest first.
        codebook: Number of the codebook in its level, from 0.
        entries: Which entries. N
        counts: How often each was used in the split. N
        images: The middle of what the decoder makes of each alone, at every position.
            (N, C, h, w) uint8
    """

    level: int
    codebook: int
    entries: tuple[int, ...]
    counts: tuple[int, ...]
    images: Tensor


@torch.no_grad()
def show_items(model: VQVAE, examples: Examples, num: int, device: torch.device) -> Shown | None:
    """Reconstructs some items, evenly spread over the split; None if there is nothing to show.

    Args:
        model: In evaluation mode.
        examples: The split.
        num: How many items, at most.
        device: Where the model is.
    """
    num = min(num, len(examples))
    indices = [i * len(examples) // num for i in range(num)]
    (batch,) = in_order(examples, num, indices=indices)
    modality, parts = model.objective.modality, list(by_size(batch))
    found: dict[int, tuple[Tensor, Tensor]] = {}
    maps: list[Tensor] = []
    for part in parts:
        moved = part.to(device)
        out = model(moved.x, moved.mask)
        pairs = zip(part.x, out.reconstruction.cpu(), strict=True)
        found |= zip(part.positions.tolist(), pairs, strict=True)
        maps = list(map_codes(model, out.codes)) if len(parts) == 1 else []
    ordered = [found[position] for position in batch.positions.tolist()]
    originals, reconstructions = (
        pictures_of(modality, side) for side in zip(*ordered, strict=True)
    )
    if originals is None or reconstructions is None:
        originals = reconstructions = None
    played = [(modality.media(x), modality.media(y)) for x, y in ordered]
    media = tuple((x, y) for x, y in played if x is not None and y is not None)
    if originals is None and not media:
        return None
    names: Any = getattr(examples, "labels", ())
    labels: list[str | None] = [None] * num
    if batch.labels is not None and names:
        labels = [str(names[number]) for number in batch.labels.tolist()]
    return Shown(
        tuple(indices),
        tuple(labels),
        originals,
        reconstructions,
        media,
        tuple(maps),
    )


def pictures_of(modality: Modality, items: Sequence[Tensor]) -> Tensor | None:
    """Items of any sizes as pictures of one; None if there are none of them.

    Args:
        modality: Draws them.
        items: Each (C, *grid)

    Returns:
        Smaller ones at the top left, on white. (N, C, H, W) uint8
    """
    drawn = [modality.pictures(x.unsqueeze(0)) for x in items]
    found = [x[0] for x in drawn if x is not None]
    if not found or len(found) < len(drawn):
        return None
    height, width = (max(x.shape[axis] for x in found) for axis in (1, 2))
    whole = found[0].new_full((len(found), len(found[0]), height, width), WHITE)
    for row, x in zip(whole, found, strict=True):
        row[:, : x.shape[1], : x.shape[2]] = x
    return whole


def map_codes(model: VQVAE, codes: Codes) -> Iterator[Tensor]:
    """The codes of each level as a picture of one pixel per position.

    Args:
        model: Whose codes they are.
        codes: N items.

    Returns:
        For each level whose vectors have a grid of two axes, light grey where a position has no
        code. (N, 3, h, w) uint8
    """
    for quantizer, level in zip(model.quantizers, codes.levels, strict=True):
        vectors = quantizer.decode(level.indices).cpu()
        if vectors.dim() == 4:
            colors = code_colors(vectors.flatten(0, -2)).view(*vectors.shape[:-1], 3)
            if level.structure == "selective":
                colors[level.indices[..., 0].cpu() == 0] = LEFT_OUT
            yield colors.movedim(-1, 1).contiguous()


@torch.no_grad()
def draw_atlas(
    model: VQVAE,
    specs: Sequence[LevelSpec],
    stats: Sequence[Sequence[CodebookStats]],
    *,
    level: int,
    codebook: int,
    num: int,
    device: torch.device,
) -> Atlas:
    """Decodes each of the most used entries alone, everything else held at its most used entry.

    Args:
        model: In evaluation mode.
        specs: Shapes of the levels of one item.
        stats: Use of each codebook of each level.
        level: Which level.
        codebook: Which codebook of it.
        num: How many entries, at most.
        device: Where the model is.
    """
    counts = stats[level][codebook].counts
    entries = counts.argsort(descending=True, stable=True)[:num]
    images = []
    for chosen in entries.split(64):
        levels = []
        for number, spec in enumerate(specs):
            usual = torch.tensor([int(book.counts.argmax()) for book in stats[number]])
            if spec.structure == "selective":
                usual[0] = 1  # or the other codebooks would make no difference
            indices = usual.expand(len(chosen), *spec.grid, -1).clone()
            if number == level:
                indices[..., codebook] = chosen.view(-1, *[1] * len(spec.grid))
            levels.append(Level(indices, spec.codebook_sizes, spec.structure))
        pictures = model.objective.modality.pictures(
            model.decode(Codes(tuple(levels)).to(device)).cpu()
        )
        assert pictures is not None  # items like these were drawn before
        images.append(middle(pictures))
    return Atlas(
        level,
        codebook,
        tuple(entries.tolist()),
        tuple(counts[entries].tolist()),
        torch.cat(images),
    )


def middle(images: Tensor) -> Tensor:
    """The middle of images, where their borders have no effect.

    Args:
        images: (N, C, H, W)

    Returns:
        Half as high and wide, and not more than ``MIDDLE`` pixels. (N, C, h, w)
    """
    sides = [min(-(-length // 2), MIDDLE) for length in images.shape[-2:]]
    top, left = ((n - s) // 2 for n, s in zip(images.shape[-2:], sides, strict=True))
    return images[..., top : top + sides[0], left : left + sides[1]]
