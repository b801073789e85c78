"""New items out of priors, as files and a contact sheet."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vqkit.drawing import Drawing

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from vqkit.autoencoder import VQVAE
    from vqkit.codes import Codes
    from vqkit.modalities.base import Collecting, Modality
    from vqkit.priors import Prior

SHEET, RECORD = "contact-sheet.png", "samples.json"
GROUPS = ("uniform", "histogram", "learned", "original", "given", "completed")
"""Folders of items, where those of several priors are compared, or items completed."""
SIDE = 64  # pixels of an image on the sheet, about
WITHOUT_CLASSES = ("uniform", "histogram")
"""Priors that draw alike for every class."""
MOST_ROWS, MOST_COLUMNS = 20, 20  # of a sheet with classes: a row each, and its images


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling(Drawing):
    """What is drawn, and how.

    Attributes:
        num: Number of items.
        label: Number of their class; None for all classes in turn.
        seed: Item i depends on it and i.
        batch_size: Items drawn at once.
    """

    num: int
    label: int | None = None
    seed: int = 0
    batch_size: int = 64

    def labels(self, num_classes: int | None) -> list[int] | None:
        """The class of each item; None for a prior without classes."""
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
) -> list["Tensor"]:
    """New items, as their files hold them; those of drawn lengths without what is beyond.

    Each (C, *grid)

    Args:
        prior: What the codes are drawn from.
        tokenizer: What makes items of codes.
        how: To draw.
        progress: Whether to show a bar on a terminal.
        known: Codes to complete, with masks of what is known. num items
        labels: The class of each; None for those that ``how`` says.
    """
    import torch
    from rich.console import Console
    from rich.progress import track

    from vqkit.autoencoder import new_items
    from vqkit.priors import Conditioning
    from vqkit.tokens.sizes import cropped

    labels = how.labels(prior.num_classes) if labels is None else labels
    device = prior.slot_sizes.device
    starts = range(0, how.num, how.batch_size)
    found: list[torch.Tensor] = []
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
        stored = tokenizer.objective.modality.stored(items).cpu()
        found += cropped(stored, codes, tokenizer.encoder)
    return found


def write_samples(
    folder: Path,
    items: "dict[str, Sequence[Tensor]]",
    kind: "Modality",
    how: Sampling,
    classes: Sequence[str],
    kept: dict[str, Any] | None = None,
    *,
    replace: bool = False,
) -> None:
    """Writes items, a contact sheet, and how they were drawn, as one new folder.

    Args:
        folder: Where to, not there or empty.
        items: By the name of the prior, the learned one last. num, each (C, *grid)
        kind: Of the items.
        how: They were drawn.
        classes: Names of the classes; empty when there are none.
        kept: What was given of them, where they were completed.
        replace: Whether samples that are there give way; see ``foreign``.

    Raises:
        FileExistsError: If there are some, and they shall not.
    """
    from vqkit.atomic import atomic_folder
    from vqkit.evaluation.gallery import pictures_of
    from vqkit.storage import write_json

    labels, together = how.labels(len(classes) or None), collection_of(kind)
    with atomic_folder(folder, replace=replace) as part:
        for name, batch in items.items():
            place = part / name if len(items) > 1 else part
            place.mkdir(exist_ok=True)
            if together is not None:
                cast("Collecting", kind).save_all(place / together, batch)
                continue
            for file, item in zip(file_names(how.num, kind.suffix), batch, strict=True):
                kind.save(place / file, item)
        drawn = {name: pictures_of(kind, batch) for name, batch in items.items()}
        pictures = {name: batch for name, batch in drawn.items() if batch is not None}
        if pictures:
            captioned_sheet(pictures, how, classes).save(part / SHEET)
        files = together or kind.suffix
        record = {"files": files, **asdict(how), "labels": labels, "classes": list(classes)}
        write_json(part / RECORD, record | ({} if kept is None else {"completed": kept}))


def collection_of(kind: "Modality") -> str | None:
    """The one file that holds all new items; None where each has its own, as texts have."""
    return None if getattr(kind, "samples_apart", False) else kind.collection


def file_names(num: int, suffix: str) -> list[str]:
    """The names of so many files, or of the one that holds all, if that is no ending."""
    if not suffix.startswith("."):
        return [suffix]
    digits = max(4, len(str(num - 1)))
    return [f"{i:0{digits}d}{suffix}" for i in range(num)]


def foreign(folder: Path) -> list[str]:
    """What a folder of samples holds besides them; relative paths in order.

    Raises:
        ValueError: If its record of the samples is damaged.
    """
    from vqkit.storage import read_json

    record = read_json(folder / RECORD, "choose another folder with -o")
    num = record.get("num") if isinstance(record, dict) else None
    files = record.get("files", ".png") if isinstance(record, dict) else ".png"
    names = file_names(num, str(files)) if isinstance(num, int) else []
    places = ("", *(f"{name}/" for name in GROUPS))
    own = {SHEET, RECORD, *GROUPS, *(place + name for place in places for name in names)}
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
