"""What a codebook keeps, and how it is saved, loaded and moved."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from vqkit.quantizers.checks import are_finite, check_tensor, mask_out, whole
from vqkit.quantizers.revival import ROWS, Candidates
from vqkit.quantizers.seeds import agree_on_seed
from vqkit.quantizers.state import check_shapes, keep_precision, unrounded

MAX_PASSES = 1024  # a commit was forgotten
LATER = ("revived", "given")  # what a file may lack, from before it was kept


class CodebookState(nn.Module):
    """The tensors of a codebook of K entries of length D; see ``Codebook`` for what they mean."""

    average_counts: Tensor
    average_sums: Tensor
    unused_for: Tensor
    initialized: Tensor
    seed: Tensor
    step: Tensor
    revived: Tensor
    given: Tensor
    pending_counts: Tensor
    pending_sums: Tensor
    pending_seen: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        size, dim = whole(size, "codebook_size", 2), whole(dim, "dim", 1)
        entries = torch.randn(size, dim, dtype=torch.float32)
        self.entries = nn.Parameter(entries)
        self.register_buffer("average_counts", entries.new_zeros(size))
        self.register_buffer("average_sums", torch.zeros_like(entries))
        self.register_buffer("unused_for", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("initialized", torch.zeros((), dtype=torch.bool))
        self.random_seed = int(torch.randint(2**62, (), device="cpu"))
        self.register_buffer("seed", torch.tensor(self.random_seed))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("revived", torch.zeros((), dtype=torch.int64))
        self.register_buffer("given", torch.zeros((), dtype=torch.bool))
        self.is_initialized = self.has_common_seed = False
        # Not saved: a checkpoint is written between steps, when nothing is pending.
        counts = torch.zeros(size, dtype=torch.int64)
        self.register_buffer("pending_counts", counts, persistent=False)
        # float64: in float32 a million vectors of one entry lose several percent.
        sums = torch.zeros(size, dim, dtype=torch.float64)
        self.register_buffer("pending_sums", sums, persistent=False)
        self.register_buffer("pending_seen", torch.zeros_like(self.step), persistent=False)
        self.candidates: list[Candidates] = []
        for hook in (check_shapes, complete, keep_precision):
            self.register_load_state_dict_pre_hook(hook)

    @property
    def size(self) -> int:
        """Number of entries K."""
        return len(self.entries)

    def check_shape(self, size: int, dim: int) -> None:
        """Raises ValueError unless there are ``size`` entries of length ``dim``."""
        if self.entries.shape != (size, dim):
            shape = tuple(self.entries.shape)
            raise ValueError(f"codebook has shape {shape}; give one of shape {(size, dim)}")

    def check_used(self, used: Tensor) -> None:
        """Raises an error unless it says which entries stay, 2 at least. (K,) bool"""
        check_tensor(used, "used", self.size)
        if used.dtype != torch.bool:
            raise TypeError(f"used is {used.dtype}; give booleans, True where an entry stays")
        if used.shape != self.average_counts.shape:
            shape = tuple(used.shape)
            raise ValueError(f"used has shape {shape}; give a boolean for each of {self.size}")
        if used.sum() < 2:
            raise ValueError(f"{int(used.sum())} of {self.size} entries would stay; keep 2 or more")

    @torch.no_grad()
    def collect(self, z: Tensor, indices: Tensor, mask: Tensor | None = None) -> None:
        """Adds vectors to the pending statistics of their entries.

        Args:
            z: Vectors. (..., D)
            indices: The entry of each vector. (...) int64
            mask: True where a position is real; None when all are. (...) bool
        """
        rows = indices.flatten()
        real = torch.ones_like(rows) if mask is None else mask.flatten().long()
        vectors = mask_out(z, mask).reshape(-1, z.shape[-1])
        self.pending_counts.index_add_(0, rows, real)
        num = len(rows) if torch.compiler.is_compiling() else ROWS
        for some, block in zip(rows.split(num), vectors.split(num), strict=True):
            self.pending_sums.index_add_(0, some, block.double())

    def nominate(self, z: Tensor, errors: Tensor, mask: Tensor | None = None) -> None:
        """Keeps vectors until the next ``revive``, which may give them the places of dead entries.

        Args:
            z: Vectors. (..., D)
            errors: Mean squared error of each against its entry. (...)
            mask: True where a position is real; None when all are. (...) bool

        Raises:
            RuntimeError: If so many passes are kept that ``commit`` seems to be forgotten.
        """
        if len(self.candidates) >= MAX_PASSES:
            raise RuntimeError(
                f"{MAX_PASSES} forward passes without a commit; call commit() once per "
                "optimizer step, or leave commit_in_forward=True"
            )
        vectors, errors = z.detach().reshape(-1, z.shape[-1]), errors.detach().flatten()
        real = errors.isfinite() if mask is None else errors.isfinite() & mask.flatten()
        self.candidates.append(Candidates(vectors, errors, real))

    def append(self, entries: Tensor) -> None:
        """Puts entries that nobody has used behind the others. (M, D)"""
        num = len(entries)
        self.resize(
            torch.cat([self.entries, entries]),
            torch.cat([self.average_counts, self.average_counts.new_zeros(num)]),
            torch.cat([self.average_sums, torch.zeros_like(entries)]),
            torch.cat([self.unused_for, self.unused_for.new_zeros(num)]),
        )

    def set_size(self, size: int) -> None:
        """Makes room for other entries, which are loaded next; they are all 0 until then."""
        entries = self.entries.new_zeros(size, self.entries.shape[1])
        counts = self.average_counts.new_zeros(size)
        self.resize(entries, counts, torch.zeros_like(entries), self.unused_for.new_zeros(size))

    def resize(self, entries: Tensor, counts: Tensor, sums: Tensor, unused_for: Tensor) -> None:
        """Puts other tables in the places of these; nothing is pending afterwards.

        Args:
            entries: (K, D)
            counts: Running average of the use of each. (K,)
            sums: Running average of the sum of their vectors. (K, D)
            unused_for: Number of vectors since each was used. (K,) int64
        """
        with torch.inference_mode(False):  # or what is made in that mode could never be trained
            self.entries = nn.Parameter(entries.clone(), requires_grad=self.entries.requires_grad)
            self.average_counts, self.average_sums = counts.clone(), sums.clone()
            self.unused_for = unused_for.clone()
            self.pending_counts = torch.zeros_like(self.unused_for)
            self.pending_sums = torch.zeros_like(self.average_sums, dtype=torch.float64)
        self.forget_pending()

    def state_of_given(self) -> dict[str, Tensor]:
        """What goes with entries that are given, and that nobody has used yet."""
        followed = ("average_counts", "average_sums", "unused_for", "revived")
        state = {name: torch.zeros_like(getattr(self, name)) for name in followed}
        return state | {name: torch.ones_like(self.given) for name in ("given", "initialized")}

    def agree_on_seed(self) -> None:
        """Gives all ranks the first one's seed, where nothing else did; all have to call it."""
        if agree_on_seed(self):
            self._read_state()

    def forget_pending(self) -> None:
        """Drops what was collected since the last commit."""
        self.pending_counts.zero_()
        self.pending_sums.zero_()
        self.pending_seen.zero_()
        self.candidates.clear()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # model.half() moves a codebook but must not round it: rounded entries are other entries.
        super()._apply(unrounded(fn), recurse)
        self.pending_sums = self.pending_sums.double()
        return self

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        self.forget_pending()  # it belongs to the entries before
        self._read_state()

    def _read_state(self) -> None:
        """Keeps saved values where reading them does not wait for the device."""
        self.is_initialized = bool(self.initialized)
        self.random_seed = int(self.seed)


def complete(codebook: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Adds to a state that is to be loaded what it may leave out: a hook.

    Entries without anything else are given ones: a start, with what goes with it. Raises
    ValueError if some are not finite.
    """
    assert isinstance(codebook, CodebookState)
    entries = state.get(f"{prefix}entries")
    if entries is None:
        return
    if isinstance(entries, Tensor) and not entries.is_meta and not are_finite(entries):
        bad = int(entries.isfinite().all(-1).logical_not_().sum())
        raise ValueError(
            f"{prefix}entries: {bad} of {len(entries)} are not finite; load a state of before the "
            "training diverged"
        )
    if f"{prefix}initialized" in state:
        missing = {name: torch.zeros_like(getattr(codebook, name)) for name in LATER}
    else:
        missing = codebook.state_of_given()
    for name, value in missing.items():
        state.setdefault(f"{prefix}{name}", value)
