"""Token sets as language models read them: written in three formats, and read back to codes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from vqkit.atomic import atomic_folder
from vqkit.codes import Codes
from vqkit.storage import FORMAT_VERSION, read_json, write_text
from vqkit.tokens.columns import as_shape
from vqkit.tokens.progress import advancing
from vqkit.tokens.sequences import (
    INDEX,
    ITEMS,
    PREFIX,
    TOKENS,
    Format,
    TokenSequence,
    dtype_of,
    write_flat,
    write_index,
    write_parquet,
)
from vqkit.tokens.token_set import TokenSet
from vqkit.tokens.vocabulary import Vocabulary

HEADER = "header.json"
ANOTHER = "choose another folder"


def export_tokens(
    tokens: TokenSet,
    folder: Path | str,
    kind: Format,
    *,
    first_id: int = 0,
    bos: bool = True,
    eos: bool = True,
    pad_to: int | None = None,
    replace: bool = False,
    progress: bool = False,
) -> "Exported":
    """Writes a token set as sequences of one flat vocabulary, whole or not at all.

    Args:
        tokens: What ``encode_dataset`` wrote.
        folder: Where to, not there or empty.
        kind: ``memmap``, ``bin-idx`` or ``parquet``, see docs/tokens.md.
        first_id: Id of the first entry.
        bos: Whether a token begins each item.
        eos: Whether a token ends each item.
        pad_to: Tokens that every item is filled up to; None: there is no padding.
        replace: Whether an export that is there gives way.
        progress: Whether to show a bar.

    Raises:
        ValueError: If the folder holds anything but an export that gives way, an item is longer
            than ``pad_to``, or the vocabulary is too large for the format.
    """
    folder = Path(folder)
    check_free(folder, replace)
    vocabulary = Vocabulary(
        levels=tokens.specs, first_id=first_id, bos=bos, eos=eos, pad=pad_to is not None
    )
    dtype = dtype_of(kind, vocabulary.size)
    with (
        atomic_folder(folder, replace=replace) as part,
        advancing("exporting", len(tokens), show=progress) as advance,
    ):

        def items() -> Iterator[TokenSequence]:
            for number in range(len(tokens)):
                yield sequence(tokens, number, vocabulary, pad_to)
                advance(1)

        if kind == "parquet":
            lengths = write_parquet(part, items(), len(tokens), padded=pad_to is not None)
        else:
            lengths = write_flat(part, items(), dtype)
        if kind == "bin-idx":
            write_index(part / INDEX, lengths, dtype)
        write_header(part / HEADER, tokens, vocabulary, kind, lengths)
        check_free(folder, replace)  # again, for writing takes long
    return Exported.open(folder)


def sequence(
    tokens: TokenSet, number: int, vocabulary: Vocabulary, pad_to: int | None
) -> TokenSequence:
    """One item of a token set.

    Raises:
        ValueError: If it is longer than ``pad_to``.
    """
    codes, pad_id = tokens.codes(number), vocabulary.pad_id
    ids, mask = vocabulary.ids(codes), codes.flat_mask()
    num_real = len(ids)
    if pad_to is not None and pad_id is not None:
        if num_real > pad_to:
            raise ValueError(
                f"{tokens.describe(number)} has {num_real} tokens, more than the {pad_to} to pad to"
            )
        ids = np.pad(ids, (0, pad_to - num_real), constant_values=pad_id)
    return TokenSequence(
        ids,
        num_real,
        tokens.id(number),
        tokens.label(number),
        tuple(tuple(level.indices.shape[1:]) for level in codes.levels),
        None if mask is None else mask[0].numpy(),
        tokens.size(number),
    )


def write_header(
    path: Path, tokens: TokenSet, vocabulary: Vocabulary, kind: Format, lengths: list[int]
) -> None:
    """Writes what all readers need to know, as JSON; the lengths of all items in one line."""
    plain = TypeAdapter(Vocabulary).dump_python(vocabulary, mode="json")
    header = {
        "kind": "export",
        "format": kind,
        "format_version": FORMAT_VERSION,
        "dtype": np.dtype(dtype_of(kind, vocabulary.size)).name,
        "vocabulary_size": vocabulary.size,
        "offsets": vocabulary.offsets,
        "bos_id": vocabulary.bos_id,
        "eos_id": vocabulary.eos_id,
        "pad_id": vocabulary.pad_id,
        "vocabulary": plain,
        "labels": tokens.labels,
        "tokenizer": tokens.tokenizer,
        "source": tokens.source,
        "num_items": len(lengths),
        "num_tokens": sum(lengths),
    }
    text = json.dumps(header, indent=2).removesuffix("\n}")
    write_text(path, f'{text},\n  "lengths": {json.dumps(lengths)}\n}}\n')


def check_free(folder: Path, replace: bool) -> None:
    """Raises ValueError if an export may not be written to a folder."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not is_export(folder):
        raise ValueError(f"{folder} exists and holds no export; {ANOTHER}")
    if not replace:
        raise ValueError(f"{folder} holds an export; {ANOTHER}, or add --force")
    own = (HEADER, TOKENS, INDEX, ITEMS)
    others = sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in own and not path.match(f"{PREFIX}-*.parquet")
    )
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise ValueError(
            f"{folder} holds {others[0]}{more} besides the export; move that away, or {ANOTHER}"
        )


def is_export(folder: Path) -> bool:
    """Whether a folder holds what ``export_tokens`` wrote."""
    path = folder / HEADER
    header = read_json(path, ANOTHER) if path.is_file() else None
    return isinstance(header, dict) and header.get("kind") == "export"


class Exported:
    """An export that is read back. Made by ``Exported.open``.

    Attributes:
        folder: Where it is.
        header: What ``header.json`` says.
        vocabulary: From tokens to codes, also of sequences that a language model made.
    """

    def __init__(self, folder: Path, header: dict[str, Any], vocabulary: Vocabulary) -> None:
        self.folder, self.header, self.vocabulary = folder, header, vocabulary
        self._ends = np.cumsum([0, *header["lengths"]])
        flat = header["format"] != "parquet"
        names = [ITEMS] if flat else sorted(p.name for p in folder.glob(f"{PREFIX}-*.parquet"))
        tables = [pq.read_table(folder / name) for name in names]
        self._table: pa.Table = pa.concat_tables(tables).combine_chunks()
        self._tokens = np.memmap(folder / TOKENS, header["dtype"], "r") if flat else None

    @classmethod
    def open(cls, folder: Path | str) -> "Exported":
        """Opens what ``export_tokens`` wrote.

        Raises:
            FileNotFoundError: If the folder holds no export.
            ValueError: If it is damaged, or of another version.
        """
        folder = Path(folder)
        if not is_export(folder):
            raise FileNotFoundError(f"{folder} holds no export; make one with `vqkit export`")
        header = read_json(folder / HEADER)
        version = header.get("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{folder}: format_version is {version}, this vqkit reads {FORMAT_VERSION}; export "
                "the tokens again"
            )
        try:
            vocabulary = TypeAdapter(Vocabulary).validate_python(header["vocabulary"])
            found = cls(folder, header, vocabulary)
            found.check()
        except (KeyError, OSError, pa.ArrowException, ValueError, ValidationError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{folder} is damaged ({reason}); export the tokens again") from None
        return found

    def check(self) -> None:
        """Raises ValueError unless there are as many items and tokens as the header says."""
        num, tokens = len(self), int(self._ends[-1])
        found = tokens if self._tokens is None else len(self._tokens)
        if len(self._table) != num or self.header["num_items"] != num or found != tokens:
            raise ValueError(f"{len(self._table)} items and {found} tokens, not {num} and {tokens}")

    def __len__(self) -> int:
        return len(self._ends) - 1

    def ids(self, index: int) -> np.ndarray:
        """The tokens of one item, with special ones and padding. (L,) int64"""
        if self._tokens is None:
            return self._table["input_ids"][index].values.to_numpy().astype(np.int64)
        return np.asarray(self._tokens[self._ends[index] : self._ends[index + 1]], dtype=np.int64)

    def codes(self, index: int) -> Codes:
        """The codes of one item, exactly those of the token set. 1 item"""
        mask = self._table["mask"][index].as_py()
        real = None if mask is None else np.array(mask, dtype=bool)
        return self.vocabulary.codes(self.ids(index), as_shape(self._table["shape"][index]), real)

    def id(self, index: int) -> str:
        """The name of an item in its data."""
        return self._table["id"][index].as_py()

    def label(self, index: int) -> int | None:
        """The class of an item; None when it has none."""
        return self._table["label"][index].as_py()

    def size(self, index: int) -> tuple[int, ...] | None:
        """Lengths of an item's own grid, where codes stand for more than was there; else None."""
        found = self._table["size"][index].as_py()
        return None if found is None else tuple(found)
