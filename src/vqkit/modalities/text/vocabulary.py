"""A vocabulary of the library tokenizers as symbols: pieces of text of several bytes each."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vqkit.modalities.text.symbols import Symbols


class Vocabulary:
    """Cuts texts into the pieces of a byte-level vocabulary, and tells what each piece is.

    Args:
        path: A ``tokenizer.json``, as ``tokenizers`` saves them.

    Raises:
        ImportError: If the library is not installed.
        FileNotFoundError: If the file is not there.
        ValueError: If it holds no such vocabulary, or its pieces do not spell all bytes.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.tokenizer = _open(path)
        pieces: dict[str, int] = self.tokenizer.get_vocab(with_added_tokens=True)
        special = {token.content for token in self.tokenizer.get_added_tokens_decoder().values()}
        table = [b""] * (1 + 1 + max(pieces.values()))
        letters = byte_letters()
        for piece, number in pieces.items():
            if piece not in special and not set(piece) <= letters.keys():
                raise ValueError(
                    f"{path} has the piece {piece!r}, which is not spelled in bytes; give a "
                    "byte-level vocabulary, such as ByteLevelBPETokenizer makes"
                )
            plain = piece.encode() if piece in special else bytes(letters[each] for each in piece)
            table[number + 1] = plain
        self.symbols = Symbols(table)

    def cut(self, text: bytes) -> np.ndarray:
        """The symbols of a text.

        Args:
            text: UTF-8.

        Returns:
            (L,) int32

        Raises:
            ValueError: If they would not give it back.
        """
        numbers = np.asarray(self.tokenizer.encode(text.decode(), add_special_tokens=False).ids)
        symbols = numbers.astype(np.int32) + 1
        table = self.symbols.table
        if b"".join(table[number] for number in symbols.tolist()) != text:
            raise ValueError(
                f"is not given back by the vocabulary {Path(self.path).name}; give one without a "
                "normalizer and a prefix space, or leave data.vocabulary out"
            )
        return symbols


@cache
def open_vocabulary(path: str) -> Vocabulary:
    """The vocabulary of a file, which is read once."""
    return Vocabulary(path)


def byte_letters() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for.

    Printable bytes are their own letters, the others are those from 256 on in their order; Language
    Models are Unsupervised Multitask Learners, section 2.2, as its authors' code has it.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in set(plain)]
    return {chr(value): value for value in plain} | {
        chr(256 + place): value for place, value in enumerate(others)
    }


def _open(path: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ImportError(
            'a vocabulary needs the library tokenizers: pip install "vqkit[text]"'
        ) from None
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"data.vocabulary is {path}, which is not there; name a tokenizer.json"
        )
    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # the library raises nothing finer
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is no vocabulary of tokenizers ({reason})") from None
