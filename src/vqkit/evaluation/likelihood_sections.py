"""The section of a report about the most and the least likely images."""

from html import escape

from vqkit.evaluation.evaluation import Evaluation
from vqkit.evaluation.items import Items
from vqkit.evaluation.page import number, picture, play, section
from vqkit.modalities.base import bits_unit


def extremes(evaluation: Evaluation) -> str:
    """Images that cost the fewest and the most bits, with their numbers."""
    items, metrics = evaluation.items, evaluation.metrics
    kind = evaluation.modality
    bits, given = items.bits, "code_bits_prior" in metrics
    if not (items.pictures or items.media) or (bits.decoder is None and not given):
        return ""  # all codes cost the same
    what = "its codes under the given prior" if given else "its codes, all equally likely"
    whole = f"its values given its codes, and {what}" if bits.decoder is not None else what
    bound = " at most" if metrics.get("prior_exact") is False else ""
    lead = f"Bits that a lossless copy of {kind.an_item} costs{bound}: {whole}."
    if bits.decoder is None:
        lead = f"Bits that the codes of {kind.an_item} cost{bound}: {what}."
    num = len(items.most)
    parts = [
        cards("The most likely", items, 0, items.most, bits_unit(kind)),
        cards("The least likely", items, num, items.least, bits_unit(kind)),
    ]
    where = f"All {kind.items} with their figures are in <code>likelihood.csv</code>."
    note = f'<p class="soft">{where}</p>'
    return section(f"Likely and unlikely {kind.items}", lead, "".join(parts) + note)


def cards(heading: str, items: Items, first: int, numbers: tuple[int, ...], unit: str) -> str:
    """Pictures side by side, each above its numbers.

    Args:
        heading: Plain text.
        items: All items.
        first: Which of the pictures is the first of these.
        numbers: Which items they are of.
        unit: What bits per dimension are called.
    """
    figures = []
    for place, index in enumerate(numbers, start=first):
        if items.pictures:
            name = items.ids[index]
            image = picture(items.pictures[place], f"item {name}", title=name)
        else:
            image = play(items.media[place])
        words = "<br>".join(escape(line) for line in numbers_of(items, index, unit))
        figures.append(f"<figure>{image}<figcaption>{words}</figcaption></figure>")
    return (
        f'<div class="body"><h3>{escape(heading)}</h3>'
        f'<div class="{"cards" if items.pictures else "texts"}">{"".join(figures)}</div></div>'
    )


def numbers_of(items: Items, index: int, unit: str) -> list[str]:
    """What is written below the picture of an item."""
    bits, label = items.bits, items.labels[index]
    lines = [] if label is None else [label]
    if bits.decoder is None or bits.per_dim is None:
        return [*lines, f"{number(float(bits.codes[index]))} bits"]
    parts = f"{number(float(bits.decoder[index]))} + {number(float(bits.codes[index]))} bits"
    return [*lines, f"{number(float(bits.per_dim[index]))} {unit}", parts]
