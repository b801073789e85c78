"""The sections of a report about images and codebooks."""

from collections.abc import Sequence
from html import escape
from typing import Any

from vqkit.codes import LevelSpec
from vqkit.evaluation.charts import usage_chart
from vqkit.evaluation.codebook import CodebookStats
from vqkit.evaluation.evaluation import Evaluation
from vqkit.evaluation.gallery import Atlas, Shown
from vqkit.evaluation.page import (
    CRISP_BELOW,
    compare,
    first_up,
    number,
    picture,
    play,
    section,
    table,
    tile,
    times,
)
from vqkit.modalities.base import Modality, bits_unit

FEW = 8  # vectors per entry below which an entry may seem dead by chance
EVENNESS = ((0.9, "nearly even"), (0.6, "somewhat uneven"), (0.25, "uneven"), (0.0, "very uneven"))
"""Least perplexity as a share of the entries, and what such use is called."""


def header(title: str, evaluation: Evaluation) -> str:
    """What this page is about, and the headline figures."""
    metrics, kind_of = evaluation.metrics, evaluation.modality
    codes = " + ".join(grid_of(spec) for spec in evaluation.specs)
    size = kind_of.size(metrics["item_shape"])
    alike = sum(spec.num_tokens for spec in evaluation.specs) == metrics["tokens_per_item"]
    num = (
        f"{codes} codes"
        if size and alike
        else f"{number(metrics['tokens_per_item'])} codes on average"
    )
    lead = (
        f"{metrics['num_items']:,} {kind_of.items} ({metrics['split']}){size and ' '}{size}, each "
        f"turned into {num} and back."
    )
    kind = "prior" if "code_bits_prior" in metrics else "tokenizer"
    return (
        f'<header><p class="eyebrow">vqkit · {kind} report</p><h1>{escape(title)}</h1>'
        f'<p class="lead">{escape(lead)}</p></header>{tiles(evaluation)}'
    )


def grid_of(spec: LevelSpec) -> str:
    """How many codes a level has: lengths of its grid, and the number of codebooks if several."""
    num = len(spec.codebook_sizes)
    return times(spec.grid if num == 1 else (*spec.grid, num))


def tiles(evaluation: Evaluation) -> str:
    """The headline figures, with units and what they are over."""
    metrics = evaluation.metrics
    kind = evaluation.modality
    over = f"mean over {metrics['num_items']:,} {kind.items}"
    parts = [
        tile(figure.name, number(metrics[figure.key]), figure.unit, figure.note or over)
        for figure in kind.figures
        if figure.key in metrics
    ]
    books = [book for level in evaluation.stats for book in level]
    parts += codebook_tiles(books)
    size = metrics.get("code_bits_uniform")
    if size:
        bits, plain = kind.plain
        share = bits / metrics["code_bits_per_dim_uniform"]
        note = f"per {kind.item}; {number(share, 2)} times less than {plain}"
        parts.append(tile("Codes", number(size), "bits", note))
    if "nats_per_token_prior" in metrics:
        note = f"{number(metrics['nats_per_token_uniform'])} under the uniform prior"
        value = number(metrics["nats_per_token_prior"])
        unit = "nats/token" if metrics.get("prior_exact", True) else "nats/token at most"
        parts.append(tile("Codes under the prior", value, unit, note))
    else:
        worst = max(book.kl_to_uniform_nats for book in books)
        parts.append(tile("KL to uniform use", number(worst), "nats", "0 is even use"))
    parts.append(bits_tile(metrics, kind))
    return f'<dl class="tiles">{"".join(parts)}</dl>'


def codebook_tiles(books: Sequence[CodebookStats]) -> list[str]:
    """Usage and perplexity; of several codebooks the worst."""
    size, used = sum(book.size for book in books), sum(book.num_used for book in books)
    vectors = sum(book.num_vectors for book in books)
    worst = min(books, key=lambda book: book.perplexity / book.size)
    several = "" if len(books) == 1 else f"lowest of {len(books)} codebooks; "
    even = f"{several}{number(100 * worst.perplexity / worst.size, 2)} % of even use"
    return [
        tile("Entries used", f"{used:,}", f"of {size:,}", f"over {vectors:,} vectors"),
        tile("Perplexity", number(worst.perplexity), f"of {worst.size:,}", even),
    ]


def bits_tile(metrics: dict[str, Any], kind: Modality) -> str:
    """Bits per dimension, under the better prior that is known."""
    for part in ("prior", "uniform"):
        if f"bits_per_dim_{part}" in metrics:
            decoder = number(metrics["decoder_bits_per_dim"])
            codes = number(metrics[f"code_bits_per_dim_{part}"])
            which = "uniform" if part == "uniform" else "given"
            note = f"{decoder} for its values + {codes} for codes, {which} prior"
            bound = part == "prior" and not metrics.get("prior_exact", True)
            unit = bits_unit(kind) + " at most" * bound
            return tile("Lossless copy", number(metrics[f"bits_per_dim_{part}"]), unit, note)
    return ""


def items(shown: Shown | None, kind: Modality, specs: Sequence[LevelSpec] = ()) -> str:
    """Originals, code maps and reconstructions side by side."""
    if shown is None:
        return ""
    if shown.originals is None or shown.reconstructions is None:
        return pairs(shown, kind)
    cards = []
    for i, (number_, label) in enumerate(zip(shown.indices, shown.labels, strict=True)):
        row = [
            picture(shown.originals[i], f"original {number_}"),
            *(picture(codes[i], f"codes of {number_}") for codes in shown.code_maps),
            picture(shown.reconstructions[i], f"reconstruction of {number_}"),
        ]
        caption = f"<figcaption>{escape(label)}</figcaption>" if label is not None else ""
        played = (
            f'<div class="row">{"".join(map(play, shown.media[i]))}</div>' if shown.media else ""
        )
        cards.append(f'<figure><div class="row">{"".join(row)}</div>{played}{caption}</figure>')
    lead = f"From left to right: the {kind.item}, what the decoder makes of its codes alone."
    if shown.code_maps:
        lead = (
            f"From left to right: the {kind.item}, its codes, and what the decoder makes of the "
            "codes alone. Each square of the map is what the codes say of one place; equal squares "
            "have equal colours, similar ones similar colours."
        )
    if any(spec.structure == "selective" for spec in specs):
        lead += " Light grey squares have no code: the decoder infers them from those around."
    large = " large" if max(shown.originals.shape[-2:]) >= CRISP_BELOW else ""
    return section(
        f"{first_up(kind.items)} and their codes",
        lead,
        f'<div class="triples{large}">{"".join(cards)}</div>',
    )


def pairs(shown: Shown, kind: Modality) -> str:
    """Originals and reconstructions that are no pictures, side by side."""
    cards = []
    for media, label in zip(shown.media, shown.labels, strict=True):
        caption = f"<figcaption>{escape(label)}</figcaption>" if label is not None else ""
        cards.append(f'<figure><div class="row">{compare(*media)}</div>{caption}</figure>')
    lead = f"Left the {kind.item}, right what the decoder makes of its codes alone"
    lead += "; what differs is marked." if shown.media[0][0].kind == "text" else "."
    body = f'<div class="texts">{"".join(cards)}</div>'
    return section(f"{first_up(kind.items)} and their codes", lead, body)


def codebook(name: str, stats: CodebookStats, atlas: Atlas | None) -> str:
    """How one codebook is used, and what its entries look like."""
    words = "".join(f"<p>{escape(sentence)}</p>" for sentence in in_words(stats))
    figures = table(
        [
            ("Vectors counted", [f"{stats.num_vectors:,}"]),
            ("Entries used", [f"{stats.num_used:,} of {stats.size:,}"]),
            ("Perplexity", [number(stats.perplexity, 4)]),
            ("Entropy", [f"{number(stats.entropy_bits)} bits per code"]),
            ("KL to uniform use", [f"{number(stats.kl_to_uniform_nats)} nats"]),
        ]
    )
    body = f'<div class="two"><div>{usage_chart(stats)}</div><div>{figures}</div></div>'
    return section(name, "", words + f'<div class="body">{body}</div>' + entries(stats, atlas))


def in_words(stats: CodebookStats) -> list[str]:
    """What the figures of a codebook mean."""
    if not stats.num_vectors:
        return ["No vector was counted."]
    if stats.dead == 0:
        said = [f"All {stats.size:,} entries are used; none is dead."]
    else:
        share = number(100 * stats.dead / stats.size, 2)
        verb = "is" if stats.dead == 1 else "are"
        said = [
            f"{stats.dead:,} of {stats.size:,} entries {verb} dead ({share} %): used by no vector."
        ]
    evenness = stats.perplexity / stats.size
    how = next(words for least, words in EVENNESS if evenness >= least)
    said.append(
        f"The use is {how}: as much as if {number(stats.perplexity)} entries were used alike."
    )
    if stats.num_vectors < FEW * stats.size:
        each = number(stats.num_vectors / stats.size, 2)
        said.append(
            f"With {each} vectors for each entry these are few to judge by; some entries may go "
            "unused by chance."
        )
    return said


def entries(stats: CodebookStats, atlas: Atlas | None) -> str:
    """Each of the most used entries, decoded alone."""
    if atlas is None:
        return ""
    parts = []
    for entry, count, image in zip(atlas.entries, atlas.counts, atlas.images, strict=True):
        share = number(100 * count / max(stats.num_vectors, 1), 2)
        title = f"entry {entry}: {count:,} times, {share} %"
        parts.append(picture(image, title, title=title))
    which = (
        "All entries, the most used first"
        if len(parts) == stats.size
        else f"The {len(parts):,} most used entries, in order of use"
    )
    text = f"{which}, each decoded alone: what fills the image when every code is this one."
    return (
        f'<div class="body"><h3>Entries</h3><p class="soft">{escape(text)}</p>'
        f'<div class="body atlas">{"".join(parts)}</div></div>'
    )
