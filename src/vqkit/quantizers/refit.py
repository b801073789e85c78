"""Moves entries to the means of their vectors over a whole data set, for an encoder that stays."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from vqkit import distributed, random
from vqkit.quantizers.base import Quantizer, real_rows, squared_errors
from vqkit.quantizers.checks import Batch, NotFinite, check_vectors, checked_batch, mask_out, whole
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.revival import Candidates, Drawn, draw, joined

LEAST_DRAWN = 64
"""Unused entries that one pass may move, or an eighth of all, if that is more."""


class Batches(Protocol):
    """What can be read again and again, in as many batches on every rank: a list will do."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]:
        """Batches of this rank, alone or with their masks."""
        ...


@torch.no_grad()
def refit(
    quantizer: Quantizer, batches: Batches, *, passes: int = 10
) -> tuple[tuple[float, ...], ...]:
    """Lloyd's algorithm over a data set, whatever moves the entries in training.

    In each pass every entry moves to the mean of all its vectors (on the sphere where the metric
    is the cosine), and entries without any move to vectors that fit badly. A pass that would make
    the error grow is taken back, which only entries that several stages share can need.

    The codebooks of a composition follow one another, each with all its passes: what a stage of a
    residual quantizer sees is what the stages before leave once they have their last entries. The
    averages become those of the data, and pending statistics are forgotten.

    Least Squares Quantization in PCM, https://doi.org/10.1109/TIT.1982.1056489

    Args:
        quantizer: Whose codebooks have started. Only they are changed.
        batches: Encoder outputs (..., D), alone or with masks (...), as tuples or as the lists
            that a ``DataLoader`` makes. They are read ``passes`` + 1
            times for each codebook, less often where nothing moves any more.
        passes: Number of passes, at least 1.

    Returns:
        For each of ``codebooks``, the mean squared error over its vectors and their coordinates:
        before the first pass, and after each. It never grows.

    Raises:
        NotFinite: If a vector is not finite.
        TypeError: If the batches can be read only once, or one holds something else.
        ValueError: If there is nothing to move, or nothing to move it to.
    """
    books = quantizer.codebooks()
    check(books, batches, passes)
    found = {book: _refit(quantizer, book, batches, passes) for book in dict.fromkeys(books)}
    return tuple(found[book] for book in books)


def check(books: Sequence[Codebook], batches: Batches, passes: int) -> None:
    """Raises an error unless there are codebooks that may move, and batches to move them to."""
    if not books:
        raise ValueError("the quantizer has no learned codebook; there is nothing to refit")
    if any(book.is_frozen for book in books):
        raise ValueError("a codebook is frozen; call its freeze(False) before")
    if not all(book.is_initialized for book in books):
        raise ValueError("a codebook has not started; call initialize with some vectors before")
    whole(passes, "passes", 1)
    check_rereadable(batches)
    lengths = distributed.all_gather(books[0].seed.new_tensor(len(batches))).unique().tolist()
    if len(lengths) > 1:
        raise ValueError(f"batches has {lengths} elements on different ranks; give as many on each")


def check_rereadable(batches: object) -> None:
    """Raises TypeError if batches may be read only once."""
    if not hasattr(batches, "__len__"):
        kind = type(batches).__name__
        raise TypeError(f"batches is a {kind}, which can be read once; give a list, or its like")


def _refit(
    quantizer: Quantizer, book: Codebook, batches: Batches, passes: int
) -> tuple[float, ...]:
    """The errors of one codebook in its passes."""
    best = read(quantizer, book, batches, pass_number=0)
    errors = [best.error]
    for number in range(1, passes + 1):
        before = {name: tensor.clone() for name, tensor in book.state_dict().items()}
        if not best.move_entries():
            break
        after = read(quantizer, book, batches, pass_number=number)
        if after.error > best.error:
            book.load_state_dict(before)
            break
        best = after
        errors.append(best.error)
    best.move_averages()
    return tuple(errors)


def read(quantizer: Quantizer, book: Codebook, batches: Batches, *, pass_number: int) -> "Reading":
    """What one codebook sees of all batches of all ranks.

    Args:
        quantizer: Which holds it.
        book: The codebook.
        batches: Encoder outputs of this rank.
        pass_number: What the draws depend on, with the codebook's seed.
    """
    reading = Reading(book, pass_number)
    for batch in batches:
        z_e, mask = checked_batch(batch)
        check_vectors(z_e, quantizer.dim)
        inputs = finite(z_e, mask)
        if not quantizer.reads_grid:
            inputs = real_rows(*inputs), None
        mine = [vectors for other, vectors in quantizer.seen(*inputs) if other is book]
        if not mine:
            kind = type(quantizer).__name__
            raise TypeError(f"{kind} does not tell what its codebooks see; give it a method seen")
        reading.add(mine)
    reading.finish()
    return reading


def finite(z_e: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Vectors (..., D), float32 at least and 0 at padding, and their mask.

    Raises:
        NotFinite: On every rank, if one on any is not finite.
    """
    z_e = mask_out(z_e, mask)
    bad = distributed.all_reduce(z_e.isfinite().all(-1).logical_not_().sum())
    if bad:
        raise NotFinite(f"{int(bad)} vectors of a batch are not finite; look at the encoder")
    return z_e.to(torch.promote_types(z_e.dtype, torch.float32)), mask


class Reading:
    """What one pass over the data adds up for a codebook.

    Args:
        book: Which.
        number: Of the pass.
    """

    def __init__(self, book: Codebook, number: int) -> None:
        self.book, self.table = book, book.table.clone()
        self.counts = torch.zeros_like(book.unused_for)
        self.sums = torch.zeros_like(self.table, dtype=torch.float64)
        self.total = self.sums.new_zeros(())
        self.num_batches = 0
        self.drawn: Drawn | None = None
        self.seed = random.hash_int(book.random_seed, number)

    def add(self, seen: Sequence[Tensor]) -> None:
        """Takes in what the codebook sees of a batch of this rank, wherever it stands. Each (N, D)

        Every rank must call it as often.
        """
        candidates = []
        for vectors in seen:
            indices = self.book.nearest(vectors)
            errors = squared_errors(vectors, self.table[indices])
            self.counts.index_add_(0, indices, torch.ones_like(indices))
            self.sums.index_add_(0, indices, vectors.double())
            self.total += errors.sum(dtype=torch.float64)
            real = torch.ones_like(indices, dtype=torch.bool)
            candidates.append(Candidates(vectors, errors, real))
        most = min(self.book.size, max(LEAST_DRAWN, self.book.size // 8))
        words = self.seed, torch.full_like(self.book.step, self.num_batches)
        drawn = draw(candidates, most, words)
        self.drawn = drawn if self.drawn is None else joined([self.drawn, drawn]).best(most)
        self.num_batches += 1

    def finish(self) -> None:
        """Adds up all ranks.

        Raises:
            ValueError: If there was no vector.
        """
        for tensor in (self.counts, self.sums, self.total):
            distributed.all_reduce(tensor)
        if not self.counts.any():
            raise ValueError("batches hold no real vectors; give at least one")

    @property
    def error(self) -> float:
        """Mean squared error, over vectors and coordinates."""
        return float(self.total) / int(self.counts.sum())

    def move_entries(self) -> bool:
        """Moves the entries; whether any did.

        No other entry could serve its vectors better than their mean, and one that serves none may
        go anywhere: so the error cannot grow.
        """
        used = self.counts > 0
        means = self.sums / self.counts.clamp(min=1).unsqueeze(-1)
        table = torch.where(used.unsqueeze(-1), means.to(self.table.dtype), self.table)
        if self.drawn is not None:
            new = self.drawn.vectors[self.drawn.chances > -torch.inf].to(table.dtype)
            rows = (~used).nonzero().flatten()[: len(new)]
            table[rows] = new[: len(rows)]
        self.book.set_table(self.book.placed(table))
        return not torch.equal(self.book.table, self.table)

    def move_averages(self) -> None:
        """Makes the averages those of a training that had such batches for long."""
        set_averages(self.book, self.counts, self.num_batches)


def set_averages(book: Codebook, counts: Tensor, num_batches: int) -> None:
    """Makes the averages of a codebook those of a training that had such batches for long.

    Args:
        book: Whose entries stay.
        counts: How often each was used in all batches of all ranks. (K,) int64
        num_batches: Number of batches of a rank.
    """
    book.average_counts.copy_(counts / num_batches)
    book.average_sums.copy_(book.average_counts.unsqueeze(-1) * book.table)
    book.unused_for.copy_(counts.sum() * (counts == 0))
    book.forget_pending()
