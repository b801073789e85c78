"""The contract every quantizer keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.means import Mean
from vqkit.quantizers.checks import (
    check_finite,
    check_range,
    check_tensor,
    check_vectors,
    mask_out,
    whole,
    whole_seed,
)
from vqkit.quantizers.gradients import GRADIENTS, Gradient
from vqkit.quantizers.passes import is_repeated
from vqkit.quantizers.state import check_shapes, forget_pending, keep_precision, unrounded

if TYPE_CHECKING:
    from vqkit.quantizers.codebook import Codebook
    from vqkit.quantizers.refit import Batches

Structure = Literal["flat", "residual", "product", "selective"]


CHANGING = ("training", "commit_in_forward", "refuse_not_finite", "passes_gradient", "squashes")
CHANGING += ("has_common_seed", "is_initialized")
EPSILON = 2.5e-6  # added to a mean square: bounds the gradient of a vector near 0


@dataclass(frozen=True, slots=True)
class Quantized:
    """What a quantizer returns.

    Attributes:
        z_q: Exactly what ``indices`` decode to, with a gradient for ``z_e``; in the codebook's
            float32, whatever ``z_e`` is. (..., D)
        indices: One integer per codebook. (..., Q) int64
        objective: Weighted sum of the terms, to be divided over all ranks and micro-batches. ()
        terms: Its unweighted parts by name, means over real positions and coordinates. Each ()
        hidden: Positions that ``Hiding`` left without a code; None for none. (...) bool
        coded: Which integers stand for something where stages were left out; None: all. (..., Q)
    """

    z_q: Tensor
    indices: Tensor
    objective: Mean
    terms: dict[str, Mean]
    hidden: Tensor | None = None
    coded: Tensor | None = None

    @property
    def loss(self) -> Tensor:
        """What to add to the loss when the layer is used alone. ()"""
        return self.objective.value


class Quantizer(nn.Module, ABC):
    """Maps vectors to integers and back.

    The last axis is quantized and every other axis is batch, so one quantizer serves images,
    audio, text and plain vectors alike.

    A masked position gets index 0 and the vector that index 0 decodes to. It receives no gradient
    and has no part in any loss or statistic, whatever it holds.

    Args:
        dim: Length D of each vector.

    Attributes:
        structure: What the Q axis of the indices means: independent codes, stages of a residual,
            parts of a product, or whether a position has a code and the code it then has.
        reads_grid: Whether a code depends on its place among others: whole items (B, *grid, D)
            are quantized then, and ``initialize`` gets such.
        commit_in_forward: Whether each training forward ends with ``commit``. The training engine
            turns it off and commits once per optimizer step.
        refuse_not_finite: Whether a training forward refuses vectors that are not finite. The
            training engine turns it off, and stops when it sees that a loss is not.
        gradient: What the encoder gets of the decoder's gradient, see ``gradients``.
        passes_gradient: Whether ``z_q`` passes it on; not inside a residual quantizer, which
            does so once for all stages.
        squashes: Whether vectors are squashed before they are rounded, where that is needed; not
            inside a residual quantizer, which does so once for all stages.
        residual_scale: What the stages of a residual quantizer divide vectors by, one time more
            at each stage.
    """

    structure: Structure = "flat"
    reads_grid: bool = False
    commit_in_forward: bool = True
    refuse_not_finite: bool = True
    gradient: Gradient = "straight_through"
    passes_gradient: bool = True
    squashes: bool = True
    residual_scale: float | Tensor = 1.0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = whole(dim, "dim", 1)
        for hook in (check_shapes, keep_precision):
            self.register_load_state_dict_pre_hook(hook)
        self.register_load_state_dict_post_hook(forget_pending)

    @property
    @abstractmethod
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of entries of each of the Q codebooks."""

    @property
    def learns(self) -> bool:
        """Whether a pass may change state: in training, when it is not one that is repeated."""
        return self.training and not is_repeated()

    @abstractmethod
    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        """Everything that training needs.

        Args:
            z_e: Encoder output. (..., D)
            mask: True where a position is real; None when all are. (...) bool
        """

    @abstractmethod
    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        """The indices alone, the same in training and evaluation.

        Args:
            z_e: Encoder output. (..., D)
            mask: True where a position is real; None when all are. (...) bool

        Returns:
            Indices. (..., Q) int64
        """

    @abstractmethod
    def decode(self, indices: Tensor) -> Tensor:
        """The vectors that indices stand for.

        Args:
            indices: One integer per codebook. (..., Q) int64

        Returns:
            Vectors. (..., D)
        """

    def commit(self) -> None:
        """Moves what all forwards since the last commit ask to move; every rank must call it."""

    @property
    def is_started(self) -> bool:
        """Whether all has started, or was given; True where nothing starts from data."""
        return all(book.is_initialized for book in self.codebooks())

    def initialize(
        self, z_e: Tensor, mask: Tensor | None = None, *, seed: int, keep_started: bool = False
    ) -> None:
        """Starts the codebook from encoder outputs, before the first training step.

        Args:
            z_e: Vectors, the same on every rank, of several batches. (..., D)
            mask: True where a position is real; None when all are. (...) bool
            seed: What every random choice depends on, now and in training.
            keep_started: Whether what was given, or started before, stays.
        """
        whole_seed(seed)
        self.checked(z_e, mask)

    def code_mask(self, mask: Tensor | None) -> Tensor | None:
        """Which codes are real, from which vectors are; None when all are. (B, *grid) bool"""
        return mask

    def codebooks(self) -> tuple[Codebook, ...]:
        """The learned codebooks, in the order of the Q axis."""
        return ()

    @property
    def codebook_names(self) -> tuple[str, ...]:
        """What each of the Q codebooks is here, such as ``stage 0``; empty for the only one."""
        num = len(self.codebook_sizes)
        return ("",) if num == 1 else tuple(f"codebook {number}" for number in range(num))

    def named_codebooks(self) -> dict[str, Codebook]:
        """The learned codebooks by their names; none for a quantizer without a table."""
        return dict(zip(self.codebook_names, self.codebooks(), strict=False))

    def seen(self, z_e: Tensor, mask: Tensor | None = None) -> Iterator[tuple[Codebook, Tensor]]:
        """What ``codebooks`` are asked for, one after another; the same one may come again.

        Args:
            z_e: Encoder output. (..., D)
            mask: True where a position is real; None when all are. (...) bool

        Yields:
            A codebook, and real vectors as it compares them. (N, D of the codebook)
        """
        yield from ()

    def refit(self, batches: Batches, *, passes: int = 10) -> tuple[tuple[float, ...], ...]:
        """Moves the entries to the means of their vectors over a whole data set; see ``refit``."""
        from vqkit.quantizers.refit import refit  # which needs what is here

        return refit(self, batches, passes=passes)

    def squash(self, z_e: Tensor) -> Tensor:
        """Vectors in the range of what indices stand for, where that is bounded. (..., D)"""
        return z_e

    def passed(self, z_e: Tensor, z_q: Tensor, mask: Tensor | None = None) -> Tensor:
        """The value of ``z_q`` with the gradient that was asked for; none at padding. (..., D)"""
        if not self.passes_gradient:  # only what moves the entries
            return (
                detached_at_padding(z_q, mask) if self.gradient == "directional" else z_q.detach()
            )
        return GRADIENTS[self.gradient](z_e, detached_at_padding(z_q, mask))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # What codes depend on is not rounded by model.half(), the networks inside included.
        return super()._apply(unrounded(fn), recurse)

    def extra_repr(self) -> str:
        options = {k: v for k, v in vars(self).items() if isinstance(v, int | float | str)}
        for changing in CHANGING:
            options.pop(changing, None)
        return ", ".join(f"{name}={value!r}" for name, value in options.items() if name[0] != "_")

    def checked(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        """``z_e`` with zeros at masked positions, if it can be quantized.

        Raises:
            TypeError: If it holds no floating-point numbers.
            ValueError: If its last axis does not hold vectors of length D, if the mask does not
                fit, or if a real vector is not finite. On a GPU the last is not seen in training,
                where looking would make every step wait: the losses show it.
        """
        check_vectors(z_e, self.dim)
        z_e = mask_out(z_e, mask)
        skipped = self.training and (z_e.is_cuda or not self.refuse_not_finite)
        if not skipped and not torch.compiler.is_compiling():
            check_finite(z_e)
        return z_e

    def check_indices(self, indices: Tensor) -> None:
        """Raises ValueError unless there is one index of its range for each codebook."""
        sizes = self.codebook_sizes
        check_tensor(indices, "indices", len(sizes))
        if indices.dim() == 0 or indices.shape[-1] != len(sizes):
            shape = tuple(indices.shape)
            raise ValueError(f"indices have shape {shape}; make the last axis {len(sizes)} long")
        if indices.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"indices are {indices.dtype}; give integers, int64")
        if not torch.compiler.is_compiling() and indices.numel():
            check_range(indices.reshape(-1, len(sizes)), sizes)


def detached_at_padding(z_q: Tensor, mask: Tensor | None) -> Tensor:
    """The same vectors, with a gradient only where positions are real. (..., D)"""
    return z_q if mask is None else torch.where(mask.unsqueeze(-1), z_q, z_q.detach())


def num_real(z_e: Tensor, mask: Tensor | None) -> Tensor:
    """How many vectors are real. () int64"""
    if mask is not None:
        return mask.sum()
    return torch.full((), z_e[..., 0].numel(), dtype=torch.int64, device=z_e.device)


def real_positions(z_e: Tensor, mask: Tensor | None) -> Tensor:
    """Which vectors are real, one after another. (..., D) -> (N,) bool"""
    if mask is not None:
        return mask.flatten()
    return torch.ones(z_e[..., 0].numel(), dtype=torch.bool, device=z_e.device)


def real_rows(z_e: Tensor, mask: Tensor | None) -> Tensor:
    """The real vectors one after another. (..., D) -> (N, D)"""
    return z_e.reshape(-1, z_e.shape[-1]) if mask is None else z_e[mask]


def unit(z: Tensor) -> Tensor:
    """Vectors of length 1, float32 at least, with a gradient that is bounded at 0. (..., D)

    The length is 0.95 where the root mean square is 0.005, and goes to 0 with it.
    """
    z, dim = z.to(torch.promote_types(z.dtype, torch.float32)), z.shape[-1]
    return F.rms_norm(z, (dim,), eps=EPSILON) / dim**0.5


def squared_errors(x: Tensor, y: Tensor) -> Tensor:
    """The mean over coordinates of the squared difference. (..., D), (..., D) -> (...)"""
    # Half the passes over the vectors of (x - y).square().mean(-1), forward and backward.
    return F.mse_loss(x, y, reduction="none").sum(-1) / x.shape[-1]
