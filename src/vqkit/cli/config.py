"""``vqkit config``: every key with its type, range, default and meaning."""

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vqkit.config import Key


def config(
    source: Annotated[str, typer.Argument(metavar="PRESET", help="A preset, or a YAML file.")],
    key: Annotated[str, typer.Argument(help="Only this key, and what is below it.")] = "",
) -> None:
    """Show every key of a preset with its type, range, default and meaning."""
    from vqkit.config import PriorRunConfig, RunConfig, is_prior, keys, resolve, written

    documents = written(source)
    kind = PriorRunConfig if is_prior(documents) else RunConfig
    shown = list(keys(kind, resolve(kind, documents)))
    chosen = [item for item in shown if not key or f"{item.name}.".startswith(f"{key}.")]
    if not chosen:
        raise ValueError(_no_such(source, key, [item.name for item in shown]))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for item in chosen:
        print(_paragraph(item, width))


def _paragraph(key: "Key", width: int) -> str:
    """A key and its value, then what it is; lines of at most ``width`` unless it is 0."""
    about = [key.type]
    if not key.default:
        about.append("must be given" if not key.value else "no default")
    elif key.default != key.value:
        about.append(f"default {key.default}")
    text = f"{'; '.join(about)}. {key.meaning}"
    if width:
        text = textwrap.fill(text, max(20, width - 4))
    return f"{key.name} = {key.value}\n" + textwrap.indent(text, "    ")


def _no_such(source: str, key: str, names: list[str]) -> str:
    """What to say of a key that is not there."""
    from difflib import get_close_matches

    near = get_close_matches(key, names, n=2, cutoff=0.5)
    near += [name for name in names if name.split(".")[-1] == key.split(".")[-1]]
    hint = (
        f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "leave it out to see all"
    )
    return f"{source} has no key {key}; {hint}"
