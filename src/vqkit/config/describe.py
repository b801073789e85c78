"""Every key of a run with its type, range, default and meaning."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from vqkit.config.document import write
from vqkit.config.merge import choose, defaults, infos, members, tag

TYPES = {int: "whole number", float: "number", bool: "true or false", str: "text"}
BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a run.

    Attributes:
        name: From the top, with dots.
        type: Type and range.
        value: In this run; empty where it must be given.
        default: Of the package; empty where there is none.
        meaning: What it does.
    """

    name: str
    type: str
    value: str
    default: str
    meaning: str


def keys(kind: type, values: dict[str, Any], name: str = "") -> Iterator[Key]:
    """Every key below a config class, along the members that the values choose.

    Args:
        kind: The config class.
        values: Plain values, such as ``resolve`` gives.
        name: What the class itself is called, with dots.
    """
    base = defaults(kind)
    for key, info in infos(kind).items():
        dotted, value = f"{name}.{key}" if name else key, values.get(key)
        member = choose(info.annotation, value)
        if member and isinstance(value, dict):
            if tag(member):
                yield _type_key(f"{dotted}.type", info, value, base.get(key), member)
            yield from keys(member, value, dotted)
        elif key != "type" or not tag(kind):
            kind_text = type_text(info.annotation, info.metadata)
            text, default = _text(values, key), _text(base, key)
            yield Key(dotted, kind_text, text, default, _line(info.description))


def _type_key(name: str, info: FieldInfo, value: Any, base: Any, member: type) -> Key:
    """The key that chooses a member of a union."""
    options = " | ".join(str(tag(option)) for option in members(info.annotation))
    default = base.get("type", "") if isinstance(base, dict) else ""
    return Key(name, options, str(value["type"]), default, _line(member.__doc__))


def type_text(kind: Any, constraints: Any = ()) -> str:
    """A type in words, with its range."""
    origin, parts = get_origin(kind), get_args(kind)
    if members(kind):
        return " | ".join(tag(option) or option.__name__ for option in members(kind))
    if origin is Annotated:
        return type_text(parts[0], _constraints(parts[1:]))
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin in (Union, UnionType):
        inner = [type_text(part, constraints) for part in parts if part is not NoneType]
        return ", or ".join(inner + ["null"] * (NoneType in parts))
    if origin in (tuple, list):
        inner = [type_text(part) for part in parts if part is not Ellipsis]
        return f"list of {inner[0]}" if Ellipsis in parts else f"[{', '.join(inner)}]"
    return " ".join(
        [TYPES.get(kind, getattr(kind, "__name__", str(kind))), _range(constraints)]
    ).strip()


def _constraints(annotations: Any) -> list[Any]:
    """The constraints in the arguments of an ``Annotated``."""
    found: list[Any] = []
    for annotation in annotations:
        found += annotation.metadata if isinstance(annotation, FieldInfo) else [annotation]
    return found


def _range(constraints: Any) -> str:
    """Bounds such as ``>= 0 and < 1``."""
    texts = [
        f"{sign} {getattr(constraint, bound)}"
        for bound, sign in BOUNDS.items()
        for constraint in constraints
        if getattr(constraint, bound, None) is not None
    ]
    return " and ".join(texts)


def _text(values: dict[str, Any], key: str) -> str:
    """A value as one would write it; empty where there is none."""
    if key not in values:
        return ""
    return write({"": values[key]}).partition(":")[2].strip() or "null"


def _line(text: str | None) -> str:
    return " ".join((text or "").split())
