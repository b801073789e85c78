"""``vqkit inspect``: the health of a tokenizer's codebooks, and what to do about it."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqkit.cli.options import BatchSize, DataWords, Device, Run
from vqkit.cli.runs import items_of, open_tokenizer
from vqkit.cli.wording import counted

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE
    from vqkit.data import Examples
    from vqkit.evaluation import CodebookStats, Fit
    from vqkit.quantizers import Codebook
    from vqkit.training.health import Settings

ENOUGH = 8
"""Vectors for each entry below which an unused entry says nothing."""
WORTH_A_REFIT = 0.05
"""Share of the error that means would take away, from which on they are worth the passes."""
LARGE_ERROR, EVEN = 0.1, 0.8
"""Share of the variance, and of the possible perplexity, from which on more entries would help."""

Data = Annotated[
    str | None,
    typer.Argument(metavar="[DATA]", help="Items to look at; those held out when left out."),
]


def inspect(
    run: Run,
    data: Data = None,
    words: DataWords = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    batch_size: BatchSize = 64,
    device: Device = "auto",
) -> None:
    """Tell how the codebooks of a run are, how well they are used and fit, and what to try.

    Example: vqkit inspect runs/photos
    """
    if data is not None and "=" in data:  # a setting, and no data
        data, words = None, [data, *(words or ())]
    model = open_tokenizer(run, device)
    examples = items_of(run, data, words or ())
    found = look(model, examples, batch_size)
    if json_:
        print(json.dumps({"run": str(run), **found}, indent=2))
        return
    print(f"{run}, over {counted(found['num_items'], model.objective.modality.item)}:")
    for book in found["codebooks"]:
        print("\n".join(describe(book)))
    for number, level in enumerate(found["levels"], start=1):
        name = f"level {number} of {len(found['levels'])}"
        print(f"{name}: with its codes of another image {change(level)}")
    for line in found["findings"] or ["nothing to worry about"]:
        print(f"health: {line}")


def change(level: dict[str, float]) -> str:
    """What becomes of the error and of the cost, in words."""
    found = []
    if "mse_rise" in level:
        rise = level["mse_rise"]
        found.append(f"the error {'rises' if rise >= 0 else 'falls'} by {abs(rise):.1%}")
    if "bits_per_dim_rise" in level:
        found.append(f"an image costs {level['bits_per_dim_rise']:+.4f} bits/dim")
    return ", ".join(found)


def look(model: "VQVAE", examples: "Examples", batch_size: int) -> dict[str, Any]:
    """The state of every codebook, over all examples, as JSON values, and what is wrong with it."""
    from vqkit.training.autoencoder import settings_of

    settings = {
        f"{prefix} {name}".strip(): settings_of(model.config, level)
        for level, (prefix, layer) in enumerate(zip(prefixes(model), model.quantizers, strict=True))
        for name in {*layer.codebook_names, *layer.named_codebooks()}
    }
    tables, books, findings = model.codebooks(), [], []
    stats, fits, levels = count(model, examples, batch_size)
    for name, one in stats.items():
        found: dict[str, Any] = {"name": name, **one.summary(), **most_used(one)}
        table, fit = tables.get(name), fits.get(name)
        if table is not None:
            found |= table_of(table, fit)
        books.append(found)
        findings += judge(name, one, settings[name]) + (
            care(name, table, one, fit) if table else []
        )
    findings += idle(levels)
    return {
        "num_items": len(examples),
        "codebooks": books,
        "levels": levels,
        "findings": findings,
    }


def idle(levels: list[dict[str, float]]) -> list[str]:
    """A line for each level that carries nothing."""
    from vqkit.evaluation.levels import findings

    return findings(levels)


def count(
    model: "VQVAE", examples: "Examples", batch_size: int
) -> tuple[dict[str, "CodebookStats"], dict[str, "Fit | None"], list[dict[str, float]]]:
    """The use of each codebook over all examples, and how well those with a table fit, by name.

    And what each of several levels carries, as ``LevelTotals`` tells.
    """
    import torch

    from vqkit.data import in_order
    from vqkit.evaluation import CodebookStats, CodeCounter, FitCounter, LevelTotals
    from vqkit.evaluation.reliance import own_log_prob
    from vqkit.nn.evaluating import device_of, evaluating

    device = device_of(model)
    counter = CodeCounter([layer.codebook_sizes for layer in model.quantizers], device=device)
    tables = model.codebooks()
    fits = {book: FitCounter(book) for book in tables.values()}
    levels = LevelTotals(model, examples, device=device) if len(model.quantizers) > 1 else None
    with evaluating(model), torch.no_grad():
        for batch in in_order(examples, batch_size):
            moved = batch.to(device)
            out = model(moved.x, moved.mask)
            counter.add(out.codes)
            if levels is not None:
                levels.add(moved, out, own_log_prob(model, moved, out))
            for layer, z_e, mask in zip(model.quantizers, out.z_e, out.masks, strict=True):
                z_e = z_e.to(torch.promote_types(z_e.dtype, torch.float32))
                for book, vectors in layer.seen(z_e, mask):
                    fits[book].add(vectors)
    pairs = zip(names_of(model), counter.stats(), strict=True)
    stats = {name: one for level, books in pairs for name, one in zip(level, books, strict=True)}
    for name, book in tables.items():  # several of them may share one axis of the codes
        if name not in stats:
            stats[name] = CodebookStats(book.size, fits[book].counts.cpu())
    carried = [] if levels is None else levels.results()
    return stats, {name: fits[book].fit() for name, book in tables.items()}, carried


def names_of(model: "VQVAE") -> list[list[str]]:
    """The names of all codebooks of each level, as those of ``VQVAE.codebooks``."""
    return [
        [f"{prefix} {name}".strip() for name in layer.codebook_names]
        for prefix, layer in zip(prefixes(model), model.quantizers, strict=True)
    ]


def prefixes(model: "VQVAE") -> list[str]:
    """How the names of the codebooks of each level begin."""
    num = len(model.quantizers)
    return ["quantizer"] if num == 1 else [f"quantizer_{level}" for level in range(num)]


def most_used(stats: "CodebookStats") -> dict[str, Any]:
    """The entry that most vectors chose, and their share."""
    entry = int(stats.counts.argmax())
    share = float(stats.counts[entry]) / max(stats.num_vectors, 1)
    return {"most_used_entry": entry, "most_used_share": share}


def table_of(book: "Codebook", fit: "Fit | None") -> dict[str, Any]:
    """What the entries are, how they lie and how they fit, and what training knew of their use."""
    from vqkit.evaluation import Layout

    now, layout = book.usage(), Layout.of(book.table)
    found: dict[str, Any] = {
        "dim": now.dim,
        "metric": now.metric,
        "start": now.start,
        "moved_by": now.moved_by,
        "steps": now.step,
        "revived": now.revived,
        "live": {
            "used": now.used,
            "usage": now.share,
            "dead": now.dead,
            "perplexity": now.perplexity,
            "longest_unused": now.longest_unused,
        },
        "entry_norms": list(layout.norms),
        "nearest_entry": list(layout.gaps),
        "duplicates": layout.duplicates,
    }
    if fit is not None:
        found |= {"mse": fit.mse, "mse_share_of_variance": fit.share}
        found |= {"mse_of_means": fit.mse_of_means}
    return found


def judge(name: str, stats: "CodebookStats", settings: "Settings") -> list[str]:
    """What is wrong with the use of a codebook, and what to try that is not set; a line each."""
    from vqkit.training.health import judge_usage

    if stats.num_vectors < ENOUGH * stats.size:
        wanted = f"{stats.num_vectors:,} vectors are too few to judge {stats.size} entries"
        return [f"{name}: {wanted}; inspect more data, at least {ENOUGH} vectors for each entry"]
    return [line for line in judge_usage(name, stats, settings).values() if line]


def care(name: str, book: "Codebook", stats: "CodebookStats", fit: "Fit | None") -> list[str]:
    """What can be done for the entries without another training; a line each."""
    from vqkit.quantizers.usage import in_use

    if fit is None or stats.num_vectors < ENOUGH * stats.size:
        return []
    lines = []
    live = in_use(book.average_counts, book.unused_for).cpu()
    idle = int(((stats.counts == 0) & ~live).sum())
    if idle:
        lines.append(
            f"{name}: {idle} entries are in nobody's use, here or at the end of training. "
            "model.prune() removes them and changes no other code, model.refit(batches) puts them "
            "to use"
        )
    if fit.gain > WORTH_A_REFIT:
        lines.append(
            f"{name}: entries are not at the means of their vectors; there the error would be "
            f"{fit.mse_of_means:.3g} instead of {fit.mse:.3g}. model.refit(batches) moves them"
        )
    if not idle and fit.share > LARGE_ERROR and stats.perplexity > EVEN * stats.size:
        lines.append(
            f"{name}: all entries are used evenly, and the error is {fit.share:.0%} of the "
            "variance of what they stand for. More entries would lower it: "
            "codebook.extend(entries), then model.refit(batches), or a larger "
            "model.quantizer.codebook_size"
        )
    return lines


def describe(book: dict[str, Any]) -> Iterator[str]:
    """The lines on one codebook."""
    size, used = book["size"], book["size"] - book["dead"]
    yield book["name"]
    if "live" in book:
        yield f"  table          {size} entries of length {book['dim']}, {book['metric']}"
        moves = f"by {book['moved_by']} in {book['steps']:,} steps"
        yield f"  trained        from {book['start']}, {moves}, {book['revived']:,} revivals"
    yield f"  used           {used} of {size} entries ({book['usage']:.1%})"
    if "live" in book:
        live = book["live"]
        at_last = f"{live['used']} of {size} in use ({live['usage']:.1%}), {live['dead']} dead"
        yield f"  in training    at its end {at_last}, perplexity {live['perplexity']:.1f}"
    yield f"  vectors        {book['num_vectors']:,}"
    yield f"  perplexity     {book['perplexity']:.1f}, with even use {size}"
    yield f"  KL to uniform  {book['kl_to_uniform_nats']:.3f} nats"
    yield f"  entropy        {book['entropy_bits']:.2f} bits a code"
    yield f"  most used      entry {book['most_used_entry']}, {book['most_used_share']:.1%}"
    if "mse" in book:
        share = f"{book['mse_share_of_variance']:.1%} of the variance of what it stands for"
        yield f"  error          {book['mse']:.3g}, {share}"
    if "live" in book:
        least, mean, most = book["entry_norms"]
        yield f"  entry norms    {mean:.3g} on average, {least:.3g} to {most:.3g}"
        least, mean = book["nearest_entry"]
        twins = f"; {book['duplicates']} equal another" if book["duplicates"] else ""
        yield f"  nearest entry  {mean:.3g} away on average, at least {least:.3g}{twins}"
