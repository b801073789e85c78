"""Texts: their config, and the splits of a data set."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.data import Chosen, Example, FileKind, Source, Splits, read_all, read_splits
from vqkit.modalities.text.source import TEXTS, open_text_splits, open_texts
from vqkit.modalities.text.symbols import BYTES, Symbols, byte_symbols, padded_length
from vqkit.random import hash_int
from vqkit.schema import STRICT, Seed

if TYPE_CHECKING:
    from vqkit.modalities.text.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TextDataConfig:
    """Texts in UTF-8, byte by byte or in the pieces of a vocabulary."""

    type: Literal["text"] = "text"
    """The kind of data."""
    path: str
    """A .txt file (a text a line), a folder of them (a text a file; sub-folders: labels), or a
    Parquet file with a column of strings."""
    eval_path: str | None = None
    """Texts for evaluation; left out: train and test found in path, or else eval_fraction."""
    eval_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the texts kept for evaluation where no others are named."""
    split_seed: Seed = 0
    """Chooses the texts kept for evaluation."""
    column: str | None = None
    """Column of the texts in Parquet files; needed where several could be meant."""
    label_column: str | None = None
    """Column of the labels in Parquet files; left out: label or labels, if there."""
    chunk: Annotated[int, Field(ge=4)] | None = None
    """Files are cut into texts of so many bytes, anywhere but inside of a character. null: a file
    is cut at its newlines, the files of a folder not at all."""
    longest: Annotated[int, Field(ge=4)] = 4096
    """Most bytes of a text; a longer one is listed and left out."""
    patch: Annotated[int, Field(ge=1)] = 2
    """Texts are filled up with ends to a multiple of so many symbols, those of a code vector;
    model.network.patch must be the same."""
    shift: bool = True
    """Whether training leaves out up to patch - 1 symbols at the start of a text, by chance: so
    that a word is met at every place of a patch."""
    vocabulary: str | None = None
    """A tokenizer.json of the library tokenizers, of bytes; its pieces are the symbols then.
    null: each byte is one."""
    strict: bool = False
    """Whether a text that cannot be read is an error; otherwise it is listed and left out."""

    @property
    def kind(self) -> FileKind:
        """What the items are called."""
        return TEXTS

    @property
    def symbols(self) -> Symbols:
        """What the integers of an item stand for."""
        return BYTES if self.vocabulary is None else self._vocabulary.symbols

    def cut(self, text: bytes) -> np.ndarray:
        """The symbols of a text, without ends. (L,) integers"""
        return byte_symbols(text) if self.vocabulary is None else self._vocabulary.cut(text)

    def open(self, *, folder: Path | None = None) -> "Splits[TextExamples]":
        """The texts of a run, split; what was found is kept in the folder.

        Raises:
            FileNotFoundError: If the data are not there.
            ValueError: If they cannot be used, or changed since the run began.
        """
        columns = self.column, self.label_column
        sources = open_text_splits(self.path, self.eval_path, self.chunk, columns)
        return read_splits(self, sources, partial(TextReader, config=self), folder=folder)

    def open_all(self) -> "tuple[TextExamples, tuple[str, ...]]":
        """All texts of ``path`` as one, and one line for each that was left out."""
        source = open_texts(self.path, self.chunk, (self.column, self.label_column))
        return read_all(source, TextReader(source, self), self.path, strict=self.strict)

    @property
    def _vocabulary(self) -> "Vocabulary":
        from vqkit.modalities.text.vocabulary import open_vocabulary

        assert self.vocabulary is not None
        return open_vocabulary(self.vocabulary)


class TextReader:
    """Looks at the texts of one source.

    Args:
        source: What is read.
        config: How texts become symbols, and how long they may be.
    """

    def __init__(self, source: Source, config: TextDataConfig) -> None:
        self.source, self.config = source, config

    def measure(self, number: int) -> tuple[int]:
        """How many symbols a text has, at least one; ValueError if it is no UTF-8, or too long."""
        return (len(read(self.source, number, self.config)),)

    def items(self, numbers: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> "TextExamples":
        """The texts that can be read."""
        sizes = np.array([shape[0] if shape else 0 for shape in shapes], dtype=np.int64)
        return TextExamples(self.source, self.config, numbers, sizes)


class TextExamples(Chosen):
    """Texts as examples with x (1, L), of symbols and then ends, L a multiple of the patch.

    Args:
        source: What is read.
        config: How texts become symbols.
        numbers: The items of the source that count, in order; at least one.
        sizes: How many symbols each item of the source has. (N of the source,) int64
        augment: Whether a seed shifts the symbols.

    Raises:
        ValueError: If there are no texts.
    """

    def __init__(
        self,
        source: Source,
        config: TextDataConfig,
        numbers: Sequence[int],
        sizes: np.ndarray,
        *,
        augment: bool = False,
    ) -> None:
        super().__init__(source, tuple(numbers), "texts")
        self.config, self.sizes, self.augment = config, sizes, augment

    @property
    def fingerprint(self) -> str:
        """Hexadecimal; changes when the data, their choice or their symbols do."""
        config = self.config
        facts = [config.patch, config.longest, self.augment and config.shift]
        if config.vocabulary is not None:
            facts.append(hashlib.sha256(Path(config.vocabulary).read_bytes()).hexdigest())
        return self.digest(repr(facts))

    @property
    def lengths(self) -> list[int]:
        """How long each item is, ends included, without the shift: batches are of like lengths."""
        sizes, patch = self.sizes[list(self.numbers)], self.config.patch
        return [padded_length(size, patch) for size in sizes.tolist()]

    def part(self, numbers: Sequence[int], *, augment: bool = False) -> "TextExamples":
        """Some texts of the same source."""
        return TextExamples(self.source, self.config, numbers, self.sizes, augment=augment)

    def example(self, index: int, seed: int | None = None) -> Example:
        """A text; some symbols shorter as the seed says, if this is for training.

        Raises:
            ValueError: If it is no text any more.
            OSError: If its file cannot be read.
        """
        number, config = self.numbers[index], self.config
        symbols = read(self.source, number, config)
        if self.augment and config.shift and seed is not None:
            symbols = symbols[hash_int(seed) % min(config.patch, len(symbols)) :]
        x = config.symbols.item(symbols, config.patch)
        return Example(x, self.source.label(number))


def read(source: Source, number: int, config: TextDataConfig) -> np.ndarray:
    """The symbols of one text. (L,) integers

    Raises:
        ValueError: If it is empty, too long or no UTF-8; the message says why, not where.
    """
    value = source[number].value
    text = value.encode() if isinstance(value, str) else value
    if not text:
        raise ValueError("is empty; remove it, or write something")
    if len(text) > config.longest:
        raise ValueError(
            f"has {len(text):,} bytes, more than data.longest, {config.longest:,}; raise that, or "
            "set data.chunk"
        )
    try:
        text.decode()
    except UnicodeDecodeError as error:
        byte = f"0x{text[error.start]:02x} at byte {error.start}"
        raise ValueError(f"is no UTF-8 ({byte}); save it as UTF-8") from None
    return config.cut(text)
