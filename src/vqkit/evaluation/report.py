"""Writes what an evaluation found: figures, pictures and a page that needs no other file."""

import math
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from vqkit.atomic import atomic_files
from vqkit.evaluation import (
    generation_sections,
    level_sections,
    likelihood_sections,
    probe_sections,
    run_sections,
    sections,
    stage_sections,
)
from vqkit.evaluation.captions import captioned, together
from vqkit.evaluation.charts import standalone, usage_chart
from vqkit.evaluation.evaluation import Evaluation
from vqkit.evaluation.gallery import Shown
from vqkit.evaluation.generation import Generation
from vqkit.evaluation.history import read_baselines, read_history
from vqkit.evaluation.page import page
from vqkit.evaluation.run_sections import Samples
from vqkit.modalities.image.pictures import enlarge, to_uint8
from vqkit.storage import write_json, write_text

METRICS, REPORT, PICTURES = "metrics.json", "report.html", "pictures"
LIKELIHOOD = "likelihood.csv"
OWN = (
    "reconstructions.png",
    "levels.png",
    "neighbors.png",
    "samples-*.png",
    "entries-*.png",
    "usage-*.svg",
)
HISTORY, BASELINES = "metrics.jsonl", "priors.json"
SIDE, ENTRY_SIDE = 96, 48  # pixels that small images are enlarged to about, in files
ATLAS_COLUMNS, SAMPLE_COLUMNS = 16, 8


def write_report(
    folder: Path | str,
    evaluation: Evaluation,
    *,
    title: str,
    samples: Sequence[Samples] = (),
    generation: Generation | None = None,
) -> Path:
    """Writes ``metrics.json``, ``likelihood.csv``, ``pictures/`` and, last, ``report.html``.

    Training curves and health messages are taken from the folder's ``metrics.jsonl``, baselines of
    a prior from ``priors.json``, a probe from ``probe.json``, when they are there.

    Args:
        folder: The run folder; made when missing. Older files of these names are replaced.
        evaluation: What ``evaluate`` found.
        title: Of the page, plain text.
        samples: Images drawn from priors, to be shown side by side.
        generation: What ``measure_generation`` found; kept under that key of the figures.

    Returns:
        The path of the page.
    """
    judged = {} if generation is None else {"generation": generation.metrics}
    folder, metrics = Path(folder), {**evaluation.metrics, **judged}
    kind, history = evaluation.modality, read_history(folder / HISTORY)
    body = [
        sections.header(title, evaluation),
        sections.items(evaluation.shown, kind, evaluation.specs),
        run_sections.samples(samples, kind),
        level_sections.levels(evaluation.metrics, evaluation.specs, evaluation.levels),
        stage_sections.stages(evaluation.metrics, kind),
        *([] if generation is None else generation_sections.sections(generation)),
        *codebooks(evaluation),
        probe_sections.probe(folder, metrics["tokenizer"], kind),
        run_sections.code_length(metrics, kind, read_baselines(folder / BASELINES)),
        likelihood_sections.extremes(evaluation),
        run_sections.training(history, kind),
        run_sections.health(history),
        run_sections.footer(evaluation),
    ]
    with atomic_files(folder) as part:
        (part / PICTURES).mkdir()
        write_json(part / METRICS, metrics)
        write_text(part / LIKELIHOOD, evaluation.items.table())
        write_text(part / REPORT, page(title, body))
        for name, image in pictures(evaluation, samples):
            image.save(part / PICTURES / f"{name}.png")
        if generation is not None and generation.neighbors:
            generation_sections.sheet(generation).save(part / PICTURES / "neighbors.png")
        for name, drawing in drawings(evaluation):
            write_text(part / PICTURES / f"{name}.svg", drawing)
        written = {path.name for path in (part / PICTURES).iterdir()}
    remove_others(folder / PICTURES, written)
    return folder / REPORT


def remove_others(folder: Path, written: Collection[str]) -> None:
    """Removes pictures of an evaluation before this one, which had more to show."""
    for name in OWN:
        for path in folder.glob(name):
            if path.name not in written:
                path.unlink(missing_ok=True)


def drawings(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Names and contents of the SVG files."""
    for level, books in enumerate(evaluation.stats):
        for number, stats in enumerate(books):
            yield f"usage-{level}-{number}", standalone(usage_chart(stats))


def codebooks(evaluation: Evaluation) -> Iterator[str]:
    """A section for each codebook of each level."""
    atlases = {(atlas.level, atlas.codebook): atlas for atlas in evaluation.atlases}
    for level, books in enumerate(evaluation.stats):
        for number, stats in enumerate(books):
            name = codebook_name(evaluation, level, number)
            yield sections.codebook(name, stats, atlases.get((level, number)))


def codebook_name(evaluation: Evaluation, level: int, number: int) -> str:
    """What to call a codebook, as shortly as there are few."""
    parts = []
    if len(evaluation.stats) > 1:
        parts.append(f"level {level + 1}")
    if len(evaluation.stats[level]) > 1:
        parts.append(f"codebook {number + 1}")
    return "Codebook" if not parts else ", ".join(parts).capitalize()


def pictures(
    evaluation: Evaluation, samples: Sequence[Samples]
) -> Iterator[tuple[str, Image.Image]]:
    """Names and contents of the picture files."""
    if evaluation.shown is not None and evaluation.shown.originals is not None:
        yield "reconstructions", triples(evaluation.shown)
    if evaluation.levels is not None:
        yield "levels", level_sections.sheet(evaluation.levels, SIDE)
    for atlas in evaluation.atlases:
        images = enlarge(atlas.images, ENTRY_SIDE)
        yield f"entries-{atlas.level}-{atlas.codebook}", captioned(images, ATLAS_COLUMNS)
    for group in samples:
        if group.images is None:
            continue
        columns, names = SAMPLE_COLUMNS, []
        if group.labels is not None:
            columns = group.labels.count(group.labels[0])
            names = list(dict.fromkeys(group.labels))
        images = enlarge(to_uint8(group.images).cpu(), SIDE)
        yield f"samples-{file_name(group.name)}", captioned(images, columns, names=names)


def triples(shown: Shown) -> Image.Image:
    """Original, codes and reconstruction of each item, several items in a row."""
    assert shown.originals is not None
    assert shown.reconstructions is not None
    size = shown.originals.shape[-2:]
    parts = [shown.originals, *shown.code_maps, shown.reconstructions]
    whole = [
        F.interpolate(part.float(), size, mode="nearest-exact").byte().expand(-1, 3, -1, -1)
        for part in parts
    ]
    images = enlarge(torch.stack(whole, dim=1), SIDE)
    many = len(shown.code_maps) > 1
    codes = [f"codes {i + 1}" if many else "codes" for i in range(len(shown.code_maps))]
    heads = ["original", *codes, "reconstruction"]
    blocks = math.ceil(math.sqrt(len(images) / len(parts)))  # about square
    return together(
        [
            captioned(block.flatten(0, 1), len(parts), heads=heads)
            for block in images.split(-(-len(images) // blocks))
        ],
        SIDE // 4,
    )


def file_name(name: str) -> str:
    """A name of letters, digits and hyphens."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"
