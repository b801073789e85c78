"""YAML as plain values, each with the place it was written at."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml

Keys = tuple[str | int, ...]
Where = Callable[[yaml.Node], str]

COMMAND, PRESET = "command line", "preset "
"""How places begin that are in no file of the user's."""
TAG = "tag:yaml.org,2002:"
# YAML 1.2's words: 1e-3 is a number, and no, on and 2026-01-01 are text.
PATTERNS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9][0-9_]*", list("-+0123456789")),
    "float": (
        r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?",
        list("-+.0123456789"),
    ),
}


class ConfigError(ValueError):
    """A run that was written wrongly; its message names the place, the key and the fix."""


class _Reader(yaml.SafeLoader):
    """Composes nodes and resolves their scalars by ``PATTERNS``."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # pyright: ignore


class _Writer(yaml.SafeDumper):
    """Quotes exactly what ``_Reader`` would not read as text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # pyright: ignore

    def ignore_aliases(self, data: Any) -> bool:
        """Equal values are written out each time."""
        return True


for _name, (_pattern, _first) in PATTERNS.items():
    for _class in (_Reader, _Writer):
        _class.add_implicit_resolver(TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)
_Writer.add_representer(
    list, lambda writer, data: writer.represent_sequence(TAG + "seq", data, flow_style=True)
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written.

    Attributes:
        where: Such as ``run.yaml:12`` or ``command line``.
        text: The value as it was written; empty for mappings and lists.
    """

    where: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """Written values, and where each was written.

    Attributes:
        values: Nested mappings.
        places: The place of every mapping, list and scalar, by its keys from the top.
        name: Of the file, for errors about what is not in it.
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Keys, Place] = field(default_factory=dict)
    name: str = COMMAND

    def place(self, keys: Keys) -> Place:
        """Where a value was written, or the nearest mapping around it."""
        for length in range(len(keys), -1, -1):
            if keys[:length] in self.places:
                found = self.places[keys[:length]]
                return found if length == len(keys) else Place(found.where)
        return Place(self.name)


def read(text: str, name: str) -> Document:
    """Reads one YAML mapping.

    Args:
        text: The YAML.
        name: What errors call it.

    Raises:
        ConfigError: If it is not YAML, not a mapping, or writes a key twice.
    """
    node = _compose(text, name)
    document = Document(name=name)
    if node is None:
        return document
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{name}: holds no keys; write lines such as 'train: ' and '  steps: 10'")
    value = _value(node, (), document.places, lambda at: f"{name}:{at.start_mark.line + 1}")
    document.values.update(value)
    del document.places[()]
    return document


def read_words(words: Sequence[str]) -> Document:
    """Reads ``key=value`` words; of two for one key the last counts.

    Raises:
        ConfigError: If a word is not of that form.
    """
    document = Document()
    for word in words:
        key, equals, text = word.partition("=")
        # A number is that of an item of a list; there is no key of digits alone.
        keys = tuple(int(part) if part.isdecimal() else part for part in key.split("."))
        if not equals or "" in keys:
            raise ConfigError(f"{COMMAND}: {word}: write it as key=value, such as train.seed=1")
        node = _compose(text, f"{COMMAND}: {key}")
        value = None
        if node is not None:
            value = _value(node, keys, document.places, lambda _: COMMAND)
        else:
            document.places[keys] = Place(COMMAND)
        here: Any = document.values
        for depth, part in enumerate(keys[:-1]):
            document.places.setdefault(keys[: depth + 1], Place(COMMAND))
            inner = under(here, part)
            if not isinstance(inner, dict) and under(inner, keys[depth + 1]) is None:
                here[part] = inner = {}
            here = inner
        here[keys[-1]] = value
    return document


def under(values: Any, key: str | int) -> Any:
    """What a mapping has under a key, or a list at a number; None if there is no such thing."""
    found: Any = dict(enumerate(values)) if isinstance(values, list) else values
    return found.get(key) if isinstance(found, dict) else None


def write(values: dict[str, Any]) -> str:
    """YAML that ``read`` gives back as the same values."""
    return yaml.dump(values, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=10**6)


def read_file(path: Path) -> Document:
    """Reads a YAML file.

    Raises:
        ConfigError: If it is not there, not text, or wrong.
    """
    try:
        return read(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file; check the name, or restore it from a copy"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not text; give a YAML file in UTF-8") from None


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_Reader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}" if mark and not name.startswith(COMMAND) else name
        raise ConfigError(f"{where}: is not YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{name}: is not YAML: {error.reason}") from None


def _value(node: yaml.Node, keys: Keys, places: dict[Keys, Place], where: Where) -> Any:
    """The plain value of a node; notes the places of all that is in it."""
    places[keys] = Place(where(node), node.value if isinstance(node, yaml.ScalarNode) else "")
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, where(node))
    if len(keys) > 50:
        raise ConfigError(f"{where(node)}: is nested without end; write the values out")
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*keys, i), places, where) for i, item in enumerate(node.value)]
    values = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{where(key)}: a key must be one word")
        path = (*keys, key.value)
        if key.value in values:
            dotted = ".".join(map(str, path))
            first = places[path].where
            raise ConfigError(f"{where(key)}: {dotted}: is written twice, first at {first}")
        values[key.value] = _value(value, path, places, where)
        places[path] = Place(where(key), places[path].text)
    return values


def _scalar(node: yaml.ScalarNode, where: str) -> Any:
    text, tag = node.value, node.tag.removeprefix(TAG)
    match tag:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text.replace("_", ""))
        case "float":
            return float(text.replace("_", ""))
        case "str":
            return text
    raise ConfigError(f"{where}: {node.tag} is no plain value; write text or a number")
