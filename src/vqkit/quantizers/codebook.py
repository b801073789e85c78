"""The table of entries that a learned quantizer owns."""

from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from vqkit import distributed
from vqkit.quantizers.base import unit
from vqkit.quantizers.checks import NotFinite, are_finite, checked_entries, whole_seed
from vqkit.quantizers.codebook_state import CodebookState
from vqkit.quantizers.gathering import joined_rows
from vqkit.quantizers.passes import is_repeated, of_pass
from vqkit.quantizers.revival import DEAD_AFTER, MAX_DRAWN, is_dead, replacements
from vqkit.quantizers.search import Search, nearest, prepared
from vqkit.quantizers.start import STARTS, Start, started
from vqkit.quantizers.usage import Usage, in_use, usage_of

USAGE_DECAY = 0.99  # weight of the past in the usage of a codebook that gradients move

Mover = Literal["gradients", "averages"]
Metric = Literal["euclidean", "cosine"]


class Codebook(CodebookState):
    """K entries, how they are used, and the statistics that may move them.

    ``collect`` and ``nominate`` only add to what is pending; ``commit`` and ``revive`` move the
    entries, so that several forward passes per step (accumulation, checkpointing, sharing) still
    move them once. All ranks hold the same entries: the pending statistics of all are added
    before they move anything, and every rank has to make the same calls in the same order.

    The entries are float32, or float64 in a model that was converted by ``.double()``; no
    conversion to half precision touches them.

    Args:
        size: Number of entries K.
        dim: Length D of each entry.
        metric: "euclidean", or "cosine": vectors and entries are put on the sphere of radius 1,
            and everything (lookup, losses, value, statistics) is about these.
        start: How ``initialize`` makes entries: "kmeans", "progressive", "data" or "normal".

    Attributes:
        start_steps: Number of Lloyd steps in it; None for the usual one.
        entries: The table. (K, D)
        average_counts: Running average of the vectors per step that chose each entry. (K,)
        average_sums: Running average of the sum of those vectors. (K, D)
        unused_for: Number of vectors that were quantized since each entry was used. (K,) int64
        initialized: Whether the entries were started from data. () bool
        seed: What all random numbers of the codebook depend on. () int64
        step: Number of commits. () int64
        revived: Number of times that an entry was replaced. () int64
        given: Whether the entries were given, and not made by ``initialize``. () bool
        has_common_seed: Whether all ranks have agreed on the seed; not saved.
    """

    def __init__(
        self, size: int, dim: int, *, metric: Metric = "euclidean", start: Start = "kmeans"
    ) -> None:
        super().__init__(size, dim)
        if metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric is {metric!r}; give 'euclidean' or 'cosine'")
        if start not in list(STARTS):
            raise ValueError(f"start is {start!r}; give one of {', '.join(STARTS)}")
        self.metric: Metric = metric
        self.start: Start = start
        self.start_steps: int | None = None
        self.moved_by: Mover | None = None
        self.is_frozen = False
        self.folded: Search | None = None

    @classmethod
    def from_entries(cls, entries: Tensor, *, metric: Metric = "euclidean") -> Self:
        """A codebook that starts from given entries (K, D) instead of from data.

        Raises:
            TypeError, ValueError: Unless they are a table of finite real numbers.
        """
        is_double = isinstance(entries, Tensor) and entries.dtype == torch.float64
        entries = checked_entries(entries, "D", torch.float64 if is_double else torch.float32)
        codebook = cls(*entries.shape, metric=metric)
        if is_double:
            codebook.double()
        codebook.load_state_dict({"entries": entries}, strict=False)
        return codebook

    def extra_repr(self) -> str:
        return "{}, {}, metric={!r}".format(*self.entries.shape, self.metric)

    def claim(self, mover: Mover) -> None:
        """Says what moves the entries; raises ValueError where another owner said otherwise."""
        if self.moved_by not in (None, mover):
            raise ValueError(
                f"codebook is moved by {self.moved_by} already and {mover} would fight them; "
                "share it between quantizers of one kind"
            )
        self.moved_by = mover
        self.entries.requires_grad_(mover == "gradients" and not self.is_frozen)

    def freeze(self, frozen: bool = True) -> None:
        """Keeps the entries where they are, or not; use is followed, and this is not saved."""
        self.is_frozen = frozen
        if frozen:
            self.entries.grad = None  # an optimizer would go on with it
        self.entries.requires_grad_(self.moved_by == "gradients" and not frozen)

    @property
    def stays(self) -> bool:
        """Whether no gradient moves the entries, whatever ``requires_grad`` says."""
        return self.is_frozen or self.moved_by == "averages"

    @property
    def table(self) -> Tensor:
        """What indices stand for; on the sphere where the metric is the cosine. (K, D)"""
        return self.table_of(self.entries)

    def table_of(self, entries: Tensor) -> Tensor:
        """The table that these entries make. (K, D)"""
        entries = entries.detach() if self.stays else entries
        # A copy, because ``revive`` writes to the entries before a backward pass has read them.
        return self.placed(entries.clone()) if self.metric == "cosine" else entries

    def table_of_pass(self) -> Tensor:
        """The table that a training pass reads: a repeated one that of its first run. (K, D)"""
        entries = of_pass(lambda: self.entries)
        if is_repeated():
            entries = entries.detach().requires_grad_(self.entries.requires_grad)
        return self.table_of(entries)

    def placed(self, entries: Tensor) -> Tensor:
        """Entries as the metric keeps them: on the sphere where it is the cosine. (K, D)"""
        return F.normalize(entries, dim=-1) if self.metric == "cosine" else entries

    def rows_for(self, vectors: Tensor) -> Tensor:
        """The rows of ``entries`` that make vectors of the table. (M, D)"""
        return vectors

    def set_table(self, table: Tensor) -> None:
        """Puts other vectors in the places of the entries; statistics stay. (K, D)"""
        self.entries.copy_(table)

    def project(self, z: Tensor) -> Tensor:
        """Vectors as the metric compares them: of length 1 where it is the cosine. (..., D)"""
        return unit(z) if self.metric == "cosine" else z

    def nearest(self, z: Tensor) -> Tensor:
        """Projected vectors (..., D) to the indices (...) of their nearest entries."""
        return nearest(z, self.table) if self.folded is None else self.folded(z)

    def fold(self) -> None:
        """Makes the search ready once, of entries that stay as they are."""
        self.folded = prepared(self.table)

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices (...) to their entries (..., D)."""
        return F.embedding(indices, self.table)

    @torch.no_grad()
    def initialize(self, z: Tensor, *, seed: int | Tensor, decay: float = USAGE_DECAY) -> None:
        """Starts the entries from vectors, as if these had been committed once.

        Args:
            z: Real vectors, the same on every rank. (N, D)
            seed: What this and all later random numbers of the codebook depend on.
            decay: Weight of the past in the averages that follow.

        Raises:
            ValueError: If there are no vectors, or one is not finite.
        """
        first_seed = distributed.all_gather(self.seed.new_tensor(whole_seed(seed)))[0]
        how = {"seed": int(first_seed), "steps": self.start_steps}
        start = started(self.start, z.to(self.entries.dtype), self.size, **how)
        if not are_finite(start.entries):
            raise NotFinite("vectors are too large to start a codebook; look at the encoder")
        self.seed.copy_(first_seed)
        # Equal vectors may still give other bits on another device: the first rank's count.
        self.set_table(self.placed(distributed.all_gather(start.entries)[0]))
        counts = distributed.all_gather(start.counts)[0].to(self.entries.dtype)
        self.average_counts.copy_((1 - decay) * counts)
        self.average_sums.copy_(self.average_counts.unsqueeze(-1) * self.entries)
        self.unused_for.zero_()
        self.initialized.fill_(True)
        self.given.zero_()
        self.has_common_seed = True
        self._read_state()

    @torch.no_grad()
    def initialize_from_batch(
        self, z: Tensor, mask: Tensor | None = None, *, decay: float = USAGE_DECAY
    ) -> None:
        """Starts the entries from the real vectors of one batch of all ranks, if there are any.

        Args:
            z: Vectors of this rank. (..., D)
            mask: True where a position is real; None when all are. (...) bool
            decay: Weight of the past in the averages that follow.
        """
        joined = joined_rows(z, mask)
        if len(joined):
            self.initialize(joined, seed=self.seed, decay=decay)

    @torch.no_grad()
    def commit(self, decay: float | Tensor | None) -> None:
        """Takes the pending statistics of all ranks into the averages; they may move the entries.

        Both averages start at 0 and so are short by the factor 1 - decay^t after t commits. It
        cancels in sum / count, which makes the entry a bias-corrected average from the start.

        An entry whose vectors of the step are not all finite stays as if it had none: one overflow
        in mixed precision, a step that the optimizer skips, must not cost the codebook.

        Args:
            decay: Weight of the past, at least 0 and less than 1; None where gradients move the
                entries, and only their use is followed.
        """
        counts, sums = distributed.all_reduce(self.pending_counts), None
        if decay is not None:
            sums = distributed.all_reduce(self.pending_sums).to(self.entries.dtype)
            finite = sums.sum(-1).isfinite()
            counts, sums = counts * finite, torch.where(finite.unsqueeze(-1), sums, 0)
        used, total = counts > 0, counts.sum()
        # With nothing pending (a second commit of a shared codebook) the past must not fade.
        something = (total > 0).to(self.entries.dtype)
        weight = something * (1 - (USAGE_DECAY if decay is None else decay))
        self.average_counts.lerp_(counts.to(weight.dtype), weight)
        self.unused_for.add_(total).masked_fill_(used, 0)
        self.step.add_(total > 0)
        if sums is not None:
            self.average_sums.lerp_(sums, weight)
            means = self.placed(self.average_sums / self.average_counts.unsqueeze(-1))
            moves = used.unsqueeze(-1) & (not self.is_frozen)
            torch.where(moves, means, self.entries, out=self.entries)
        self.pending_counts.zero_()
        self.pending_sums.zero_()
        self.pending_seen.zero_()

    @torch.no_grad()
    def revive(self, decay: float | Tensor | None, dead_after: float = DEAD_AFTER) -> None:
        """Gives dead entries the places of badly fitting vectors of the step; after ``commit``.

        Args:
            decay: That of ``commit``.
            dead_after: An entry is dead when it was unused while uniform use would have given it
                so many hits.
        """
        num = MAX_DRAWN
        if not (self.entries.is_cuda or torch.compiler.is_compiling()):  # a GPU would be waited for
            num = min(num, int(is_dead(self.unused_for, dead_after).sum()))  # the same on all ranks
        if self.candidates and num and not self.is_frozen:
            self._replace(1 - (USAGE_DECAY if decay is None else decay), dead_after, num)
        self.candidates.clear()

    def _replace(self, weight: float | Tensor, dead_after: float, num: int) -> None:
        """Replaces entries as if each new one had been committed once, alone, with a weight."""
        words = self.random_seed, self.step
        state = self.table, self.average_counts, self.unused_for
        found = replacements(self.candidates, *state, words, dead_after, num)
        rows, accepted = found.rows, found.accepted
        column, vectors = accepted.unsqueeze(-1), found.vectors
        self.entries[rows] = torch.where(column, self.rows_for(vectors), self.entries[rows])
        self.average_sums[rows] = torch.where(column, weight * vectors, self.average_sums[rows])
        self.average_counts[rows] = self.average_counts[rows].masked_fill(accepted, weight)
        self.unused_for[rows] = self.unused_for[rows].masked_fill(accepted, 0)
        self.revived.add_(accepted.sum())

    def usage(self, dead_after: float = DEAD_AFTER) -> Usage:
        """How entries are used now, by the running average; ``dead_after`` as for ``revive``."""
        return usage_of(self, dead_after)

    @torch.no_grad()
    def extend(self, entries: Tensor) -> None:
        """Adds entries behind the others, as if nobody had used them yet. (M, D)

        An optimizer that moves the entries has to be made anew: they are another parameter.
        """
        entries = checked_entries(entries, self.entries.shape[1], self.entries.dtype)
        if not self.is_initialized:
            raise ValueError("the codebook's start would replace what is added; start it first")
        self.append(self.rows_for(self.placed(entries.to(self.entries))))

    @torch.no_grad()
    def prune(self, used: Tensor | None = None) -> Tensor:
        """Removes entries that nobody uses, in their order; for an optimizer see ``extend``.

        Args:
            used: Which entries stay; None for those in use, as ``usage`` counts them. (K,) bool

        Returns:
            The new index of each old entry, for token sets: ``remap[indices]``. One that was
            removed becomes the nearest of those that stay. (K,) int64
        """
        used = in_use(self.average_counts, self.unused_for) if used is None else used
        self.check_used(used)
        remap = nearest(self.table, self.table[used])
        remap[used] = torch.arange(int(used.sum()), device=remap.device)
        kept = self.average_counts[used], self.average_sums[used], self.unused_for[used]
        self.resize(self.entries[used], *kept)
        return remap
