"""``vqkit complete``: images of which a part is given, and a prior draws the rest."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vqkit.cli.beginning import TOKENIZER
from vqkit.cli.drawing import Sampling, draw, write_samples
from vqkit.cli.options import (
    BatchSize,
    DataWords,
    Device,
    Force,
    Guidance,
    NewFolder,
    PriorRun,
    Seed,
    Steps,
    Temperature,
    TopK,
    TopP,
)
from vqkit.cli.runs import is_other_process, items_of
from vqkit.cli.sample import check_free, class_number, open_prior, say_written

if TYPE_CHECKING:
    from torch import Tensor

    from vqkit.autoencoder import VQVAE
    from vqkit.codes import Codes
    from vqkit.data import Items
    from vqkit.priors import Prior

Side = Literal["top", "bottom", "left", "right", "border"]
UNKNOWN = 128  # grey of what is not given

Data = Annotated[str, typer.Argument(metavar="DATA", help="The images.")]
Most = Annotated[int, typer.Option("--num", "-n", min=1, help="The first so many images.")]
Class = Annotated[
    str | None,
    typer.Option("--class", "-c", help="Complete them as this class; as their own if left out."),
]
Keep = Annotated[
    float, typer.Option("--keep", min=0, max=1, help="How much of the codes of each is kept.")
]
KeptSide = Annotated[Side, typer.Option("--side", help="From which side it is kept.")]


def complete(
    prior: PriorRun,
    data: Data,
    out: NewFolder,
    words: DataWords = None,
    num: Most = 32,
    keep: Keep = 0.5,
    side: KeptSide = "top",
    class_: Class = None,
    seed: Seed = 0,
    temperature: Temperature = 1.0,
    top_k: TopK = None,
    top_p: TopP = None,
    guidance: Guidance = 1.0,
    steps: Steps = None,
    force: Force = False,
    batch_size: BatchSize = 64,
    device: Device = "auto",
) -> None:
    """Keep a part of images and draw the rest: originals, what was given, and what became of it.

    Priors that draw one code after another complete what begins at the top; diffusion and mixtures
    any part.

    Example: vqkit complete runs/prior photos -o completed --keep 0.5
    """
    from vqkit.modalities.image import IMAGE

    if is_other_process():
        return
    check_free(out, force)
    how = Sampling(
        num=num,
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        guidance=guidance,
        steps=steps,
        batch_size=batch_size,
    )
    learned, tokenizer, classes = open_prior(prior, device)
    if class_ is not None:
        how = replace(how, label=class_number(class_, classes))
    kind = tokenizer.objective.modality
    if kind.name != IMAGE.name:
        raise ValueError(f"{prior} draws {kind.items}; vqkit complete is for images alone")
    images = items_of(prior / TOKENIZER, data, words or ())
    found, how = completed(learned, tokenizer, images, how, classes, keep=keep, side=side)
    check_free(out, force)  # again, for drawing takes long
    kept = {"data": data, "keep": keep, "side": side, "class": class_}
    write_samples(out, found, IMAGE, replace(how, label=None), [], kept, replace=force)
    say_written(out, how.num, IMAGE)


def completed(
    prior: "Prior",
    tokenizer: "VQVAE",
    images: "Items",
    how: Sampling,
    classes: Sequence[str],
    *,
    keep: float,
    side: Side,
) -> tuple[dict[str, "Sequence[Tensor]"], Sampling]:
    """Keeps a part of the codes of the first images, and draws the rest.

    Args:
        prior: Draws.
        tokenizer: Encodes and decodes.
        images: Whose first ``how.num`` are completed.
        how: To draw; its class counts for all, otherwise the images' own.
        classes: Names of the prior's classes; empty when there are none.
        keep: How much of the rows or columns of the finest level is kept; the coarser levels are
            kept whole.
        side: From which side; of the border, from all.

    Returns:
        By name, what the images were, what was given of them, and what became of it, each
        (N, C, H, W) uint8; and ``how`` with their number.

    Raises:
        ValueError: If the codes are of other levels than the prior's, or it cannot complete them.
    """
    import torch

    from vqkit.codes import Codes
    from vqkit.data import collate
    from vqkit.modalities.image.pictures import to_uint8

    num = min(how.num, len(images))
    how = replace(how, num=num)
    batch = collate([images.example(i) for i in range(num)], range(num))
    device = prior.slot_sizes.device
    codes = Codes.cat([tokenizer.encode(part.to(device)) for part in batch.x.split(how.batch_size)])
    check_size(codes, prior, batch.x)
    known = keep_part(codes, keep, side)
    check_order(prior, known, side)
    labels = labels_for(prior, images, how, classes, batch.labels)
    drawn = draw(prior, tokenizer, how, progress=True, known=known, labels=labels)
    original = to_uint8(batch.x)
    height, width = original.shape[2:]
    shown = region((height, width), known.levels[-1].mask)
    given = torch.where(shown.cpu().unsqueeze(1), original, UNKNOWN).to(torch.uint8)
    return {"original": list(original), "given": list(given), "completed": drawn}, how


def check_size(codes: "Codes", prior: "Prior", images: "Tensor") -> None:
    """Raises ValueError unless images have as many codes as those that the prior learned."""
    if codes.specs != prior.specs:
        found, wanted = (
            " and ".join("x".join(map(str, spec.grid)) for spec in specs)
            for specs in (codes.specs, prior.specs)
        )
        height, width = images.shape[2:]
        raise ValueError(
            f"the images, read as {height} x {width}, have {found} codes, the prior draws "
            f"{wanted}; add data.size=SIZE, that of the images behind its tokens"
        )


def check_order(prior: "Prior", known: "Codes", side: Side) -> None:
    """Raises ValueError if a prior that draws one code after another cannot draw the rest."""
    from vqkit.priors.autoregressive import AutoregressivePrior
    from vqkit.priors.known import Known

    if not isinstance(prior, AutoregressivePrior) or prior.completes_any:
        return
    order = prior.order.to(known.levels[0].indices.device)
    if not Known.of(known, prior.specs, len(known)).begins(order):
        fix = "give --side top, or " if side != "top" else ""
        raise ValueError(
            f"--side {side}: a prior of type {prior.config.type} draws one code after another and "
            f"cannot draw what comes before those that are kept; {fix}use a diffusion prior"
        )


def labels_for(
    prior: "Prior",
    images: "Items",
    how: Sampling,
    classes: Sequence[str],
    labels: "Tensor | None",
) -> list[int] | None:
    """The class that each image is completed as; None for a prior without classes."""
    if prior.num_classes is None:
        return None
    if how.label is not None:
        return [how.label] * how.num
    if labels is None or list(images.labels) != list(classes):
        raise ValueError(
            "the images have other classes than the prior, or none; say with --class what they "
            "shall be completed as"
        )
    return labels.tolist()


def keep_part(codes: "Codes", keep: float, side: Side) -> "Codes":
    """The codes with masks: the coarser levels whole, of the finest a part of its rows or columns.

    Raises:
        ValueError: If the side is one that a line does not have.
    """
    import torch

    from vqkit.codes import Codes, Level

    levels = []
    for number, level in enumerate(codes.levels):
        mask = torch.ones(level.indices.shape[:-1], dtype=torch.bool, device=level.indices.device)
        if number == len(codes.levels) - 1:
            mask &= part_of(mask.shape[1:], keep, side).to(mask.device)
        levels.append(Level(level.indices, level.codebook_sizes, level.structure, mask))
    return Codes(tuple(levels))


def part_of(grid: Sequence[int], keep: float, side: Side) -> "Tensor":
    """Which positions of a grid are kept. (*grid) bool

    Raises:
        ValueError: If the side is one that the grid does not have.
    """
    import torch

    kept = torch.zeros(tuple(grid), dtype=torch.bool)
    axis = 0 if side in ("top", "bottom") else 1
    if axis >= len(grid):
        raise ValueError(f"--side {side}: the codes lie on a line; give top or bottom")
    if side == "border":
        return middle_of(grid, keep) == 0
    num = round(grid[axis] * keep)
    where = slice(num) if side in ("top", "left") else slice(grid[axis] - num, None)
    kept.movedim(axis, 0)[where] = True
    return kept


def middle_of(grid: Sequence[int], keep: float) -> "Tensor":
    """1 in the middle that is not kept, as wide a rim around it as is nearest to ``keep``.

    Returns:
        (*grid) int64; all of it 0 if everything is kept
    """
    import torch

    longest, found = max(grid), []
    for width in range(longest // 2 + 2):
        middle = torch.zeros(tuple(grid), dtype=torch.int64)
        rims = [round(width * length / longest) for length in grid]  # as wide on either side
        if width <= longest // 2:
            middle[tuple(slice(r, n - r) for r, n in zip(rims, grid, strict=True))] = 1
        found.append(middle)
    return min(found, key=lambda middle: abs(1 - float(middle.double().mean()) - keep))


def region(size: tuple[int, int], mask: "Tensor | None") -> "Tensor":
    """Which pixels belong to positions that are given. (B, H, W) bool"""
    import torch.nn.functional as F

    assert mask is not None
    if mask.dim() == 2:  # a line: its positions are taken for rows
        mask = mask.unsqueeze(2)
    return F.interpolate(mask.unsqueeze(1).float(), size, mode="nearest").squeeze(1) > 0
