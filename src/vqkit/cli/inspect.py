"""``vqkit inspect``: the health of a tokenizer's codebooks, and what to do about it."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqkit.cli.options import BatchSize, DataWords, Device, Run
from vqkit.cli.runs import images_of, open_tokenizer
from vqkit.cli.wording import counted

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE
    from vqkit.data import Examples
    from vqkit.evaluation import CodebookStats

ENOUGH = 8
"""Vectors for each entry below which an unused entry says nothing."""

Data = Annotated[
    str | None,
    typer.Argument(metavar="[DATA]", help="Images to look at; those held out when left out."),
]


def inspect(
    run: Run,
    data: Data = None,
    words: DataWords = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    batch_size: BatchSize = 64,
    device: Device = "auto",
) -> None:
    """Tell how well the codebooks of a run are used, and what to try.

    Example: vqkit inspect runs/photos
    """
    if data is not None and "=" in data:  # a setting, and no data
        data, words = None, [data, *(words or ())]
    model = open_tokenizer(run, device)
    examples = images_of(run, data, words or ())
    found = look(model, examples, batch_size)
    if json_:
        print(json.dumps({"run": str(run), **found}, indent=2))
        return
    print(f"{run}, over {counted(found['num_items'], 'image')}:")
    for book in found["codebooks"]:
        print("\n".join(describe(book)))
    for line in found["findings"] or ["nothing to worry about"]:
        print(f"health: {line}")


def look(model: "VQVAE", examples: "Examples", batch_size: int) -> dict[str, Any]:
    """The use of every codebook over all examples, as JSON values, and what is wrong with it."""
    from vqkit.data import in_order
    from vqkit.evaluation import CodeCounter

    device = next(model.parameters()).device
    sizes = [quantizer.codebook_sizes for quantizer in model.quantizers]
    counter = CodeCounter(sizes, device=device)
    for batch in in_order(examples, batch_size):
        moved = batch.to(device)
        counter.add(model.encode(moved.x, moved.mask))
    settings = {} if model.config is None else asdict(model.config.quantizer)
    books, findings = [], []
    for name, stats in named(counter.stats()):
        books.append({"name": name, **stats.summary(), **most_used(stats), **norms(model, name)})
        findings += judge(name, stats, settings)
    return {"num_items": len(examples), "codebooks": books, "findings": findings}


def named(
    levels: tuple[tuple["CodebookStats", ...], ...],
) -> Iterator[tuple[str, "CodebookStats"]]:
    """The statistics of each codebook under the name that ``VQVAE.codebooks`` has for it."""
    for number, books in enumerate(levels):
        level = "quantizer" if len(levels) == 1 else f"quantizer_{number}"
        for place, stats in enumerate(books):
            yield (level if len(books) == 1 else f"{level}.{place}"), stats


def most_used(stats: "CodebookStats") -> dict[str, Any]:
    """The entry that most vectors chose, and their share."""
    entry = int(stats.counts.argmax())
    share = float(stats.counts[entry]) / max(stats.num_vectors, 1)
    return {"most_used_entry": entry, "most_used_share": share}


def norms(model: "VQVAE", name: str) -> dict[str, list[float]]:
    """Shortest, mean and longest entry; nothing for a quantizer without a table."""
    book = model.codebooks().get(name)
    if book is None:
        return {}
    lengths = book.entries.detach().norm(dim=1)
    return {"entry_norms": [float(x) for x in (lengths.min(), lengths.mean(), lengths.max())]}


def judge(name: str, stats: "CodebookStats", settings: dict[str, Any]) -> list[str]:
    """What is wrong with the use of a codebook, and what to try that is not set; a line each."""
    from vqkit.training.health import judge_usage

    if stats.num_vectors < ENOUGH * stats.size:
        wanted = f"{stats.num_vectors:,} vectors are too few to judge {stats.size} entries"
        return [f"{name}: {wanted}; inspect more data, at least {ENOUGH} vectors for each entry"]
    return [line for line in judge_usage(name, stats, settings).values() if line]


def describe(book: dict[str, Any]) -> Iterator[str]:
    """The lines on one codebook."""
    size, used = book["size"], book["size"] - book["dead"]
    yield book["name"]
    yield f"  used           {used} of {size} entries ({book['usage']:.1%})"
    yield f"  vectors        {book['num_vectors']:,}"
    yield f"  perplexity     {book['perplexity']:.1f}, with even use {size}"
    yield f"  KL to uniform  {book['kl_to_uniform_nats']:.3f} nats"
    yield f"  entropy        {book['entropy_bits']:.2f} bits a code"
    yield f"  most used      entry {book['most_used_entry']}, {book['most_used_share']:.1%}"
    if "entry_norms" in book:
        least, mean, most = book["entry_norms"]
        yield f"  entry norms    {mean:.3g} on average, {least:.3g} to {most:.3g}"
