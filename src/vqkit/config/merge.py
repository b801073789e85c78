"""Written values over defaults, along the types of a config."""

import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.fields import FieldInfo


def members(kind: Any) -> tuple[type, ...]:
    """The config classes that an annotation allows: one, or those of a union."""
    if get_origin(kind) is Annotated:
        return members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(member for part in get_args(kind) for member in members(part))
    if isinstance(kind, type) and is_pydantic_dataclass(kind):
        return (kind,)
    return ()


def item_kind(kind: Any) -> Any:
    """The annotation of the items of a list of config classes; None for anything else."""
    if get_origin(kind) is Annotated or get_origin(kind) in (Union, types.UnionType):
        parts = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
        return next((found for part in parts if (found := item_kind(part)) is not None), None)
    if get_origin(kind) in (tuple, list) and members(get_args(kind)[0]):
        return get_args(kind)[0]
    return None


def tag(member: type) -> str | None:
    """The ``type`` by which a union tells this member from the others; None outside unions."""
    info = infos(member).get("type")
    if info is None or get_origin(info.annotation) is not Literal:
        return None
    return get_args(info.annotation)[0]


def infos(member: type) -> Mapping[str, FieldInfo]:
    """What pydantic knows of each field of a config class."""
    return member.__pydantic_fields__  # pyright: ignore[reportAttributeAccessIssue]


def choose(kind: Any, *values: Any) -> type | None:
    """The member of a union that the first of the values with a ``type`` names; None if none does.

    Args:
        kind: An annotation.
        values: Mappings, the one that counts most first; others are passed over.
    """
    options = members(kind)
    if len(options) == 1:
        return options[0]
    named = [value["type"] for value in values if isinstance(value, dict) and "type" in value]
    return next((option for option in options if named and tag(option) == named[0]), None)


def defaults(member: type) -> dict[str, Any]:
    """The defaults of a config class as plain values; what has none is left out."""
    values: dict[str, Any] = {}
    for name, info in infos(member).items():
        options = members(info.annotation)
        if not info.is_required():
            values[name] = plain(info.get_default(call_default_factory=True, validated_data={}))
        elif len(options) == 1:
            values[name] = defaults(options[0])
    return values


def plain(value: Any) -> Any:
    """A config, or part of one, as mappings, lists and scalars."""
    if is_dataclass(value) and not isinstance(value, type):
        return TypeAdapter(type(value)).dump_python(value, mode="json")
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def merged(kind: Any, base: Any, over: Any) -> Any:
    """``over`` laid over ``base``, key by key.

    A mapping that changes the ``type`` of a union starts from the defaults of its new member. A
    list replaces another, and a mapping from numbers changes some items of one.

    Args:
        kind: The annotation of both.
        base: Plain values with all defaults.
        over: Plain values that were written.
    """
    if over is None and isinstance(base, dict) and type(None) not in get_args(kind):
        return base  # a section whose lines are all comments
    items = item_kind(kind)
    if items is not None and isinstance(over, list):
        return [merged(items, None, item) for item in over]
    if items is not None and isinstance(over, dict) and numbers_of(base) >= over.keys():
        changed = {number: merged(items, base[number], item) for number, item in over.items()}
        return [changed.get(number, item) for number, item in enumerate(base)]
    if not isinstance(over, dict):
        return over
    member = choose(kind, over, base)
    old = base.get("type") if isinstance(base, dict) else None
    if not isinstance(base, dict) or old != over.get("type", old):
        base = defaults(member) if member else {}
    result = dict(base)
    for key, value in over.items():
        info = infos(member).get(key) if member else None
        result[key] = merged(info.annotation, base.get(key), value) if info else value
    return result


def numbers_of(values: Any) -> set[int]:
    """The numbers of the items of a list; none of anything else."""
    return set(range(len(values))) if isinstance(values, list) else set()
