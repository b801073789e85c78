"""What pydantic found wrong, in one line that names the place, the key and the fix."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from vqkit.config.document import COMMAND, PRESET, Document, Keys
from vqkit.config.merge import choose, infos, item_kind

WORDS = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "none_required": "must be null",
}
MISSING = "is missing"
NO_SUCH_KEY = "there is no such key"
UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden", "invalid_key")
MAPPING = ("dataclass_type", "dataclass_exact_type", "model_attributes_type", "dict_type")


def explain(error: ValidationError, kind: type, values: dict[str, Any], written: Document) -> str:
    """The first fault in one line, and how many there are besides.

    Args:
        error: What pydantic raised.
        kind: The config class.
        values: What was validated.
        written: Where the values were written.
    """
    faults: dict[Keys, str] = {}
    for details in error.errors(include_url=False):
        keys, text = _fault(details, kind, values, written)
        # Each member of a plain union has its own complaint about one value.
        faults[keys] = (
            f"{faults[keys]}, or {text.removeprefix('must ').removeprefix('be ')}"
            if keys in faults
            else text
        )
    # A key that is unknown comes first: it may be the one that another fault misses.
    keys, text = min(faults.items(), key=lambda fault: not fault[1].startswith(NO_SUCH_KEY))
    more = f"; {len(faults) - 1} more after this" if len(faults) > 1 else ""
    if not keys or f"{_dotted(keys)}." in text:  # about several keys, which it names
        return f"{_where_of_named(text, written)}: {text}{more}"
    where, dotted = written.place(keys).where, _dotted(keys)
    if text.startswith(f"{MISSING}; add") and where.startswith(PRESET):
        return f"{dotted} is missing; write {_example(keys)}{more}"  # not in a file of the user's
    known = not text.startswith(NO_SUCH_KEY)
    you = _what_was_written(keys, values, written) if known else ""
    return f"{where}: {dotted}: {text}{you}{more}"


def _where_of_named(text: str, written: Document) -> str:
    """Where a message about several keys leads: what counts more was written to change the rest."""
    words = set(re.findall(r"\w+(?:\.\w+)+", text))
    named = (written.places[keys].where for keys in written.places if _dotted(keys) in words)
    order = {where: (where == COMMAND, not where.startswith(PRESET)) for where in named}
    return max(order, key=lambda where: order[where], default=written.name)


def _what_was_written(keys: Keys, values: Any, written: Document) -> str:
    """The value as it was written, in brackets; nothing for a mapping."""
    text = written.place(keys).text
    if not text and keys in written.places:
        for key in keys:
            values = values[key]
        if isinstance(values, list):
            text = f"[{', '.join(map(str, values))}]"
        elif values is None:
            text = "nothing"
    return f" (you wrote {text})" if text else ""


def _dotted(keys: Keys) -> str:
    return ".".join(map(str, keys))


def wrong_text(error: ValidationError, values: dict[str, Any], written: Document) -> list[Keys]:
    """The keys where text was wanted and something that looked like a number was written."""
    return [
        keys
        for details in error.errors(include_url=False)
        if details["type"] == "string_type" and written.place(keys := _keys(details, values)).text
    ]


def _fault(
    details: ErrorDetails, kind: type, values: dict[str, Any], written: Document
) -> tuple[Keys, str]:
    """The keys that a fault is about, and what is wrong there."""
    keys, code = _keys(details, values), details["type"]
    context = details.get("ctx", {})
    if code == "missing" and isinstance(keys[-1], int):
        return keys[:-1], "must have more items"
    if code == "missing":
        return keys, f"{MISSING}; add {_example(keys)}"
    if code in ("too_long", "too_short"):
        wanted = context.get("max_length", context.get("min_length"))
        return (
            keys,
            f"must have {'at most' if 'max_length' in context else 'at least'} {wanted} items",
        )
    if code in UNKNOWN:
        return keys, f"{NO_SUCH_KEY}; " + _neighbours(kind, keys, values)
    if code == "union_tag_invalid":
        return (*keys, "type"), f"must be one of {_plain(context['expected_tags'])}"
    if code == "union_tag_not_found":
        return (*keys, "type"), "is missing; say which one"
    if code == "tuple_type" and isinstance(keys[-1], int):
        return keys, "is no item that can be set alone; write the whole list"
    if code in MAPPING:
        return keys, "must hold keys of its own"
    if code == "value_error":
        return keys, str(context.get("error", details["msg"]))
    return keys, WORDS.get(code) or _reworded(details["msg"])


def _keys(details: ErrorDetails, values: dict[str, Any]) -> Keys:
    """The keys of a fault, without the names of types that pydantic puts among them."""
    keys: list[str | int] = []
    here: Any = values
    part: Any
    for part in details["loc"]:
        inside = isinstance(here, dict) and part in here
        listed = isinstance(here, list) and isinstance(part, int) and part < len(here)
        if inside or listed:
            here = here[part]
            keys.append(part)
    if details["type"] == "tuple_type" and isinstance(here, dict):
        keys += [key for key in list(here)[:1] if isinstance(key, int)]
    if details["type"] == "missing":
        keys.append(details["loc"][-1])
    return tuple(keys)


def _example(keys: Keys) -> str:
    return f"{_dotted(keys)}={'FOLDER' if keys[-1] == 'path' else 'VALUE'}"


def _plain(tags: str) -> str:
    return tags.replace("'", "")


def _reworded(message: str) -> str:
    message = message.replace("Input should be ", "must be ")
    message = message.replace("greater than or equal to", "at least")
    return message.replace("less than or equal to", "at most")


def _neighbours(kind: type, keys: Keys, values: dict[str, Any]) -> str:
    """What an unknown key may have meant."""
    here = _class_at(kind, keys[:-1], values)
    above = ".".join(map(str, keys[:-1]))
    names = list(infos(here))
    near = get_close_matches(str(keys[-1]), names, n=2, cutoff=0.6)
    dotted = [f"{above}.{name}" if above else name for name in near]
    dotted += [name for name in paths(kind, values) if name.split(".")[-1] == keys[-1]]
    if dotted:
        return "did you mean " + " or ".join(dict.fromkeys(dotted)) + "?"
    return f"{above or 'the top'} has " + ", ".join(names)


def _class_at(kind: type, keys: Keys, values: Any) -> type:
    """The innermost config class along the keys, which are those of ``values``."""
    annotation: Any = kind
    for key in keys:
        listed = isinstance(key, int)
        annotation = item_kind(annotation) if listed else annotation_of(kind, key)
        values = values[key]
        kind = choose(annotation, values) or kind
    return kind


def annotation_of(kind: type, key: str) -> Any:
    """The annotation of a field of a config class; None if there is no such field."""
    info = infos(kind).get(key)
    return None if info is None else info.annotation


def paths(kind: type, values: Any) -> Iterator[str]:
    """The dotted names of all keys, along the members that the values choose."""
    for name, info in infos(kind).items():
        inner = values.get(name) if isinstance(values, dict) else None
        member = choose(info.annotation, inner)
        yield name
        if member:
            yield from (f"{name}.{rest}" for rest in paths(member, inner))


def did_you_mean(name: str, names: list[str]) -> str:
    """The names nearest to one that is none of them, or all."""
    near = get_close_matches(name, names, n=2, cutoff=0.4)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
