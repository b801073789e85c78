"""Semantic IDs: codes of items made unique, which stay when items are added."""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from vqkit.atomic import atomic_file
from vqkit.codes import Codes, Level
from vqkit.tokens.prefixes import collision_rate, prefix_groups

KEY = b"vqkit_ids"
FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class SemanticIDs:
    """An ID for each of some items: its codes, and a number that tells equal codes apart.

    Recommender Systems with Generative Retrieval, section 3.1, https://arxiv.org/abs/2305.05065.
    Items are in the order in which they came, and the first with its codes has the number 0, the
    next 1, and so on: so items that come later change no ID.

    Attributes:
        names: Names of the items, all different. N
        codes: Their codes, from coarse to fine where they are those of stages. (N, Q) int64
        suffixes: How many items before have the same codes. (N,) int64
        sizes: Number of entries of each codebook. Q
        tokenizer: Fingerprint of the model that made the codes.
        labels: Names of the classes of the items, None for one without; None where all are. N
    """

    names: tuple[str, ...]
    codes: Tensor
    suffixes: Tensor
    sizes: tuple[int, ...]
    tokenizer: str = ""
    labels: tuple[str | None, ...] | None = None

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        codes: Tensor,
        sizes: Sequence[int],
        *,
        tokenizer: str = "",
        labels: Sequence[str | None] | None = None,
    ) -> "SemanticIDs":
        """The IDs of items that come in this order.

        Args:
            names: Names of the items. N
            codes: Codes of each item in a row. (N, Q) int64
            sizes: Number of entries of each codebook. Q
            tokenizer: Fingerprint of the model that made the codes.
            labels: Names of their classes, None for an item without; None without any. N

        Raises:
            ValueError: If two items have one name, or a code is no entry.
        """
        codes = codes.long().cpu()
        if codes.shape != (len(names), len(sizes)):
            raise ValueError(
                f"codes have shape {tuple(codes.shape)}; give {(len(names), len(sizes))}: a row "
                "for each name, a column for each codebook"
            )
        if ((codes < 0) | (codes >= torch.tensor(sizes))).any():
            raise ValueError(f"codes are out of range; the codebooks have {tuple(sizes)} entries")
        if len(set(names)) < len(names):
            (twice, _), *_ = Counter(names).most_common(1)
            raise ValueError(f"two items are called {twice!r}; give each a name of its own")
        kept = None if labels is None else tuple(labels)
        suffixes = numbered(codes, sizes)
        return cls(tuple(names), codes, suffixes, tuple(sizes), tokenizer, kept)

    def extended(self, other: "SemanticIDs") -> "SemanticIDs":
        """These, and after them what of others is new; all of these stay as they are.

        An item that is here already keeps its ID and label, whatever its codes are now.

        Raises:
            ValueError: If the others are of another model.
        """
        if (self.tokenizer, self.sizes) != (other.tokenizer, other.sizes):
            mine = f"of {self.tokenizer[:12]}, codebooks of {self.sizes}"
            raise ValueError(
                f"the IDs are {mine}, the new ones of {other.tokenizer[:12]}, {other.sizes}; "
                "use the model that made the first, or write all of them anew"
            )
        known = set(self.names)
        new = [row for row, name in enumerate(other.names) if name not in known]
        labels = None
        if self.labels is not None or other.labels is not None:
            mine, others = (part.labels or (None,) * len(part) for part in (self, other))
            labels = (*mine, *(others[row] for row in new))
        return SemanticIDs.of(
            (*self.names, *(other.names[row] for row in new)),
            torch.cat([self.codes, other.codes[new]]),
            self.sizes,
            tokenizer=self.tokenizer,
            labels=labels,
        )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """How many values each part of an ID has: the codebooks' entries, and the suffixes."""
        return (*self.sizes, int(self.suffixes.max()) + 1 if len(self) else 1)

    @property
    def ids(self) -> Tensor:
        """The IDs: codes, and the suffix last; all rows differ. (N, Q + 1) int64"""
        return torch.cat([self.codes, self.suffixes.unsqueeze(1)], 1)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where the values of each part begin in one vocabulary of all parts. Q + 1"""
        return tuple(accumulate((0, *self.level_sizes[:-1])))

    @property
    def tokens(self) -> Tensor:
        """The IDs in one vocabulary: each part moved by its offset. (N, Q + 1) int64"""
        return self.ids + torch.tensor(self.offsets)

    @property
    def collision_rate(self) -> float:
        """The share of items whose codes another item has, too."""
        return collision_rate(prefix_groups(self.codes, self.sizes)[-1])

    def as_codes(self) -> Codes:
        """The IDs as codes for a prior: one level, the suffix as its last codebook. N items"""
        return Codes((Level(self.ids, self.level_sizes, "residual"),))

    def name_of(self, codes: Codes) -> list[str | None]:
        """The item of each of some IDs, such as a prior drew; None where it is nobody's. B"""
        by_id = dict(zip(map(tuple, self.ids.tolist()), self.names, strict=True))
        return [by_id.get(tuple(row)) for row in codes.flat().tolist()]

    def columns(self) -> Mapping[str, Sequence[str | None] | Tensor]:
        """What a table of the IDs has: item, label, codes and suffix, and tokens."""
        parts = [f"code_{q}" for q in range(len(self.sizes))]
        found: dict[str, Sequence[str | None] | Tensor] = {"item": self.names}
        if self.labels is not None:
            found["label"] = self.labels
        found |= dict(zip([*parts, "suffix"], self.ids.unbind(1), strict=True))
        tokens = [f"token_{q}" for q in range(len(self.sizes) + 1)]
        return found | dict(zip(tokens, self.tokens.unbind(1), strict=True))

    def save(self, path: Path) -> None:
        """Writes the table, Parquet or csv by the file's name, whole or not at all."""
        columns = {
            name: column.tolist() if isinstance(column, Tensor) else list(column)
            for name, column in self.columns().items()
        }
        with atomic_file(path) as part:
            if path.suffix == ".csv":
                with part.open("w", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerow(columns)
                    writer.writerows(zip(*columns.values(), strict=True))
                return
            about = {
                "format": FORMAT,
                "tokenizer": self.tokenizer,
                "sizes": self.sizes,
                "offsets": self.offsets,
            }
            table = pa.table(columns)
            pq.write_table(table.replace_schema_metadata({KEY: json.dumps(about)}), part)

    @classmethod
    def open(cls, path: Path) -> "SemanticIDs":
        """Reads a table that ``save`` wrote as Parquet.

        Raises:
            ValueError: If it is no such file.
        """
        try:
            with pq.ParquetFile(path) as file:
                table = file.read()
            said = (table.schema.metadata or {}).get(KEY)
            if said is None:
                raise ValueError("vqkit ids did not write it")
            about = json.loads(said)
            if about["format"] != FORMAT:
                raise ValueError(f"its format is {about['format']}, this vqkit reads {FORMAT}")
            sizes = tuple(about["sizes"])
            parts = [table[f"code_{q}"].to_numpy() for q in range(len(sizes))]
            codes = torch.stack([torch.tensor(part, dtype=torch.int64) for part in parts], 1)
            named = "label" in table.column_names
            labels = table["label"].to_pylist() if named else None
            names = table["item"].to_pylist()
            found = cls.of(names, codes, sizes, tokenizer=about["tokenizer"], labels=labels)
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} is no table of IDs ({reason}); give another file") from None
        return found


def numbered(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """How many rows before have the same codes. (N, Q) -> (N,) int64"""
    group = prefix_groups(codes, sizes)[-1]
    order = group.argsort(stable=True)
    firsts = group.bincount().cumsum(0) - group.bincount()
    suffixes = torch.empty_like(group)
    suffixes[order] = torch.arange(len(group)) - firsts[group[order]]
    return suffixes
