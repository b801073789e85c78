"""New images out of priors, as PNG files and a contact sheet."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqkit.drawing import Drawing

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from vqkit.autoencoder import VQVAE
    from vqkit.codes import Codes
    from vqkit.priors import Prior

SHEET, RECORD = "contact-sheet.png", "samples.json"
GROUPS = ("uniform", "histogram", "learned", "original", "given", "completed")
"""Folders of images, where those of several priors are compared, or images completed."""
SIDE = 64  # pixels of an image on the sheet, about
WITHOUT_CLASSES = ("uniform", "histogram")
"""Priors that draw alike for every class."""
MOST_ROWS, MOST_COLUMNS = 20, 20  # of a sheet with classes: a row each, and its images


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling(Drawing):
    """What is drawn, and how.

    Attributes:
        num: Number of images.
        label: Number of their class; None for all classes in turn.
        seed: Image i depends on it and i.
        batch_size: Images drawn at once.
    """

    num: int
    label: int | None = None
    seed: int = 0
    batch_size: int = 64

    def labels(self, num_classes: int | None) -> list[int] | None:
        """The class of each image; None for a prior without classes."""
        if num_classes is None:
            return None
        return [i % num_classes if self.label is None else self.label for i in range(self.num)]


def draw(
    prior: "Prior",
    tokenizer: "VQVAE",
    how: Sampling,
    progress: bool = False,
    known: "Codes | None" = None,
    labels: Sequence[int] | None = None,
) -> "Tensor":
    """New images. (num, C, H, W) uint8

    Args:
        prior: What the codes are drawn from.
        tokenizer: What makes images of codes.
        how: To draw.
        progress: Whether to show a bar on a terminal.
        known: Codes to complete, with masks of what is known. num items
        labels: The class of each; None for those that ``how`` says.
    """
    import torch
    from rich.console import Console
    from rich.progress import track

    from vqkit.autoencoder import new_items
    from vqkit.modalities.image.pictures import to_uint8
    from vqkit.priors import Conditioning

    labels = how.labels(prior.num_classes) if labels is None else labels
    device = prior.slot_sizes.device
    starts = range(0, how.num, how.batch_size)
    images = []
    console = Console(stderr=True)
    hidden = not progress or not console.is_terminal
    for first in track(starts, "drawing", console=console, disable=hidden, transient=True):
        part = slice(first, min(first + how.batch_size, how.num))
        given = None
        if labels is not None:
            given = Conditioning(torch.tensor(list(labels)[part], device=device))
        codes = prior.sample(
            part.stop - first,
            given,
            seed=how.seed,
            first=first,
            known=None if known is None else known[part],
            **how.settings(),
        )
        items = new_items(tokenizer, codes, seed=how.seed, first=first)
        images.append(to_uint8(items).cpu())
    return torch.cat(images)


def write_samples(
    folder: Path,
    images: dict[str, "Tensor"],
    how: Sampling,
    classes: Sequence[str],
    kept: dict[str, Any] | None = None,
    *,
    replace: bool = False,
) -> None:
    """Writes images, a contact sheet, and how they were drawn, as one new folder.

    Args:
        folder: Where to, not there or empty.
        images: By the name of the prior, the learned one last. Each (num, C, H, W) uint8
        how: They were drawn.
        classes: Names of the classes; empty when there are none.
        kept: What was given of them, where they were completed.
        replace: Whether samples that are there give way; see ``foreign``.

    Raises:
        FileExistsError: If there are some, and they shall not.
    """
    from vqkit.atomic import atomic_folder
    from vqkit.modalities.image.pictures import save_png
    from vqkit.storage import write_json

    labels = how.labels(len(classes) or None)
    with atomic_folder(folder, replace=replace) as part:
        for name, batch in images.items():
            place = part / name if len(images) > 1 else part
            place.mkdir(exist_ok=True)
            for file, image in zip(file_names(how.num), batch, strict=True):
                save_png(place / file, image)
        captioned_sheet(images, how, classes).save(part / SHEET)
        record = {**asdict(how), "labels": labels, "classes": list(classes)}
        write_json(part / RECORD, record | ({} if kept is None else {"completed": kept}))


def file_names(num: int) -> list[str]:
    """The names of so many images."""
    digits = max(4, len(str(num - 1)))
    return [f"{i:0{digits}d}.png" for i in range(num)]


def foreign(folder: Path) -> list[str]:
    """What a folder of samples holds besides them; relative paths in order.

    Raises:
        ValueError: If its record of the samples is damaged.
    """
    from vqkit.storage import read_json

    record = read_json(folder / RECORD, "choose another folder with -o")
    num = record.get("num") if isinstance(record, dict) else None
    images = file_names(num) if isinstance(num, int) else []
    places = ("", *(f"{name}/" for name in GROUPS))
    own = {SHEET, RECORD, *GROUPS, *(place + image for place in places for image in images)}
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return [name for name in found if name not in own]


def captioned_sheet(
    images: dict[str, "Tensor"], how: Sampling, classes: Sequence[str]
) -> "Image.Image":
    """A contact sheet of each prior, under its name when there are several.

    With up to ``MOST_ROWS`` classes, each has rows of its own, under its name where the prior knows
    classes.
    """
    from vqkit.evaluation.captions import by_class, captioned, together
    from vqkit.modalities.image.pictures import enlarge

    labels = how.labels(len(classes) or None)
    sheets = []
    for prior, small in images.items():
        large, columns, names = enlarge(small, SIDE), math.ceil(math.sqrt(how.num)), []
        if labels is not None and how.label is None and len(classes) <= MOST_ROWS:
            large, columns, rows = by_class(large, labels, MOST_COLUMNS)
            names = [] if prior in WITHOUT_CLASSES else [classes[row] for row in rows]
        heads = [prior] if len(images) > 1 else []
        if how.label is not None and prior not in WITHOUT_CLASSES:
            heads = [f"{prior}, {classes[how.label]}" if heads else classes[how.label]]
        sheets.append(captioned(large, columns, heads=heads, names=names))
    return together(sheets, SIDE // 2)
