"""New images out of priors, as PNG files and a contact sheet."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from vqkit.autoencoder import VQVAE
    from vqkit.priors import Prior

SHEET, RECORD = "contact-sheet.png", "samples.json"
PRIORS = ("uniform", "histogram", "learned")
"""Folders of images, where those of several priors are compared."""
SIDE = 64  # pixels of an image on the sheet, about
MOST_COLUMNS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """What is drawn, and how.

    Attributes:
        num: Number of images.
        label: Number of their class; None for all classes in turn.
        seed: Image i depends on it and i.
        temperature: Divides the logits.
        top_k: Number of most probable entries that are drawn from; None for all.
        top_p: Mass of the most probable entries that are drawn from; None for all.
        batch_size: Images drawn at once.
    """

    num: int
    label: int | None = None
    seed: int = 0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    batch_size: int = 64

    def labels(self, num_classes: int | None) -> list[int] | None:
        """The class of each image; None for a prior without classes."""
        if num_classes is None:
            return None
        return [i % num_classes if self.label is None else self.label for i in range(self.num)]


def draw(prior: "Prior", tokenizer: "VQVAE", how: Sampling, progress: bool = False) -> "Tensor":
    """New images. (num, C, H, W) uint8"""
    import torch
    from rich.console import Console
    from rich.progress import track

    from vqkit.modalities.image.pictures import to_uint8
    from vqkit.priors import Conditioning

    labels = how.labels(prior.num_classes)
    device = prior.slot_sizes.device
    starts = range(0, how.num, how.batch_size)
    images = []
    console = Console(stderr=True)
    hidden = not progress or not console.is_terminal
    for first in track(starts, "drawing", console=console, disable=hidden, transient=True):
        num = min(how.batch_size, how.num - first)
        given = None
        if labels is not None:
            given = Conditioning(torch.tensor(labels[first : first + num], device=device))
        codes = prior.sample(
            num,
            given,
            seed=how.seed,
            first=first,
            temperature=how.temperature,
            top_k=how.top_k,
            top_p=how.top_p,
        )
        images.append(to_uint8(tokenizer.decode(codes)).cpu())
    return torch.cat(images)


def write_samples(
    folder: Path, images: dict[str, "Tensor"], how: Sampling, classes: Sequence[str]
) -> None:
    """Writes images, a contact sheet, and how they were drawn, as one new folder.

    Args:
        folder: Gives way if it is there; see ``foreign``.
        images: By the name of the prior, the learned one last. Each (num, C, H, W) uint8
        how: They were drawn.
        classes: Names of the classes; empty when there are none.
    """
    from vqkit.modalities.image.pictures import save_png
    from vqkit.storage import atomic_folder, write_json

    labels = how.labels(len(classes) or None)
    with atomic_folder(folder, replace=True) as part:
        for name, batch in images.items():
            place = part / name if len(images) > 1 else part
            place.mkdir(exist_ok=True)
            for file, image in zip(file_names(how.num), batch, strict=True):
                save_png(place / file, image)
        captioned_sheet(images, columns(how, len(classes))).save(part / SHEET)
        write_json(part / RECORD, {**asdict(how), "labels": labels, "classes": list(classes)})


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
    places = ("", *(f"{name}/" for name in PRIORS))
    own = {SHEET, RECORD, *PRIORS, *(place + image for place in places for image in images)}
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return [name for name in found if name not in own]


def columns(how: Sampling, num_classes: int) -> int:
    """Images in a row: one column for each class where all are drawn in turn, else a square."""
    if how.label is None and 1 < num_classes <= MOST_COLUMNS:
        return min(num_classes, how.num)
    return math.ceil(math.sqrt(how.num))


def captioned_sheet(images: dict[str, "Tensor"], num_columns: int) -> "Image.Image":
    """Contact sheets side by side, under their names when there are several."""
    from PIL import Image, ImageDraw, ImageFont

    from vqkit.modalities.image.pictures import as_image, contact_sheet, enlarge

    sheets = [as_image(contact_sheet(enlarge(x, SIDE), num_columns)) for x in images.values()]
    if len(sheets) == 1:
        return sheets[0]
    gap, top = SIDE // 2, SIDE // 2
    width = sum(sheet.width + gap for sheet in sheets) - gap
    whole = Image.new(sheets[0].mode, (width, sheets[0].height + top), "white")
    pen, font, left = ImageDraw.Draw(whole), ImageFont.load_default(top // 2), 0
    for name, sheet in zip(images, sheets, strict=True):
        pen.text((left, top // 4), name, fill="black", font=font)
        whole.paste(sheet, (left, top))
        left += sheet.width + gap
    return whole
