"""The pass from the coarsest level of codes to the finest; a plain VQ-VAE has one."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.codes import Codes, Level
from vqkit.quantizers.base import Quantized, Quantizer

POOLS = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}


@dataclass(frozen=True, slots=True)
class LevelOutput:
    """What one level gives in a forward pass.

    Attributes:
        z_e: What was quantized. (B, *grid, D)
        mask: True where that is real; None when all is. (B, *grid) bool
        quantized: What the quantizer returned.
    """

    z_e: Tensor
    mask: Tensor | None
    quantized: Quantized


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Quantizes each level, those below the coarsest given what the levels above became.

    Generating Diverse High-Fidelity Images with VQ-VAE-2, algorithm 1,
    https://arxiv.org/abs/1906.00446

    Attributes:
        quantizers: One for each level, coarsest first.
        top_down: One for each level but the coarsest: from its features and the quantized vectors
            of all coarser levels, (B, D, *grid) each, to what is quantized. None to quantize the
            features as they are.
        dtype: What the decoder computes in.
        mask_of: From the mask of the items and the lengths of a level's grid to that level's mask.
    """

    quantizers: Sequence[Quantizer]
    top_down: Sequence[nn.Module]
    dtype: torch.dtype
    mask_of: Callable[[Tensor | None, tuple[int, ...]], Tensor | None]

    def forward(
        self, features: Sequence[Tensor], mask: Tensor | None
    ) -> tuple[list[LevelOutput], list[Tensor]]:
        """Everything that training needs.

        Args:
            features: What the encoder gave for each level, coarsest first. Each (B, D, *grid)
            mask: True where the items are real; None when all are. (B, *input grid) bool

        Returns:
            What each level gives, and its quantized vectors. Each of these (B, D, *grid)
        """
        levels: list[LevelOutput] = []

        def quantize(level: int, z_e: Tensor) -> Tensor:
            real = self.mask_of(mask, tuple(z_e.shape[1:-1]))
            levels.append(LevelOutput(z_e, real, self.quantizers[level](z_e, real)))
            return levels[level].quantized.z_q

        return levels, self._descend(features, quantize)

    def encode(self, features: Sequence[Tensor], mask: Tensor | None) -> Codes:
        """The codes alone; arguments as for ``forward``."""
        indices: list[Tensor] = []
        masks: list[Tensor | None] = []

        def quantize(level: int, z_e: Tensor) -> Tensor:
            masks.append(self.mask_of(mask, tuple(z_e.shape[1:-1])))
            indices.append(self.quantizers[level].encode(z_e, masks[level]))
            return self.quantizers[level].decode(indices[level])

        self._descend(features, quantize)
        return self.codes(indices, masks)

    def decode(self, codes: Codes, num_levels: int | None = None) -> list[Tensor]:
        """The quantized vectors of each level; 0 in all but so many of the coarsest.

        Returns:
            Each (B, D, *grid)

        Raises:
            ValueError: If the codes are another tokenizer's, or out of range.
        """
        self.check(codes)
        pairs = zip(self.quantizers, codes.levels, strict=True)
        z_q = [self._channels_first(layer.decode(level.indices)) for layer, level in pairs]
        kept = len(z_q) if num_levels is None else num_levels
        return [*z_q[:kept], *(torch.zeros_like(each) for each in z_q[kept:])]

    def inputs(
        self, features: Sequence[Tensor], mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """What the last of these features' levels quantizes, and where that is real.

        Returns:
            Vectors (B, *grid, D), float32 or float64; (B, *grid) bool, None when all are.
        """
        kept: list[tuple[Tensor, Tensor | None]] = []

        def quantize(level: int, z_e: Tensor) -> Tensor:
            real = self.mask_of(mask, tuple(z_e.shape[1:-1]))
            kept.append((z_e.to(torch.promote_types(z_e.dtype, torch.float32)), real))
            return self.quantizers[level].decode(self.quantizers[level].encode(z_e, real))

        self._descend(features, quantize)
        return kept[-1]

    def codes(self, indices: Iterable[Tensor], masks: Iterable[Tensor | None]) -> Codes:
        """The levels as codes.

        Args:
            indices: Each (B, *code grid, Q)
            masks: True where what was quantized is real. Each (B, *grid) bool, or None
        """
        levels = zip(self.quantizers, indices, masks, strict=True)
        return Codes(
            tuple(Level(i, q.codebook_sizes, q.structure, q.code_mask(m)) for q, i, m in levels)
        )

    def check(self, codes: Codes) -> None:
        """Raises ValueError unless the codes are of these levels, and in range."""
        own = [(layer.codebook_sizes, layer.structure) for layer in self.quantizers]
        given = [(level.codebook_sizes, level.structure) for level in codes.levels]
        if own != given:
            raise ValueError(
                f"the codes are of another tokenizer: their levels are {given}, the model's {own} "
                "(codebook sizes, structure); decode them with the model that made them"
            )
        for number, level in enumerate(codes.levels):
            sizes = torch.tensor(level.codebook_sizes, device=level.indices.device)
            if ((level.indices < 0) | (level.indices >= sizes)).any():
                low, high = level.indices.min().item(), level.indices.max().item()
                raise ValueError(
                    f"indices of level {number} go from {low} to {high}, but its codebook sizes "
                    f"are {level.codebook_sizes}; give integers from 0 to below them"
                )

    def _descend(
        self, features: Sequence[Tensor], quantize: Callable[[int, Tensor], Tensor]
    ) -> list[Tensor]:
        """The pass itself; ``quantize`` goes from a level and its z_e to z_q (B, *grid, D)."""
        z_q: list[Tensor] = []
        for level, feature in enumerate(features):
            if level > 0 and len(self.top_down) > 0:
                feature = self.top_down[level - 1](feature, *z_q)
            z_q.append(self._channels_first(quantize(level, feature.movedim(1, -1))))
        return z_q

    def _channels_first(self, z_q: Tensor) -> Tensor:
        """Vectors (B, *grid, D) as convolutions read them, (B, D, *grid).

        Always in one layout: convolutions of another layout differ in the last bits.
        """
        return z_q.contiguous().movedim(-1, 1).to(self.dtype)


def without_hidden(
    outputs: Tensor, levels: Iterable[LevelOutput], encoder: nn.Module | None = None
) -> Tensor:
    """A decoder's outputs, without a gradient where a position was hidden from it by chance.

    Otherwise the codes around would learn to tell what is there, and not only what is theirs.

    Args:
        outputs: (B, O, *input grid)
        levels: What was hidden in any of them counts.
        encoder: That made them; one whose codes are not equal shares of an item says by a method
            ``spread(cells)`` what each stands for, (B, *grid) to (B, *input grid).
    """
    spread: Any = getattr(encoder, "spread", None)
    for level in levels:
        hidden = level.quantized.hidden
        if hidden is not None and hidden.dim() == outputs.dim() - 1:
            if spread is None:
                cells = F.interpolate(hidden.unsqueeze(1).float(), outputs.shape[2:]) > 0
            else:
                cells = spread(hidden).unsqueeze(1)
            outputs = torch.where(cells, outputs.detach(), outputs)
    return outputs


def padding_of(x: Tensor, mask: Tensor) -> Tensor:
    """Where items (B, C, *grid) are not real, for all channels. (B, 1, *grid) bool

    Raises:
        ValueError: If the mask is not (B, *grid) booleans.
    """
    if mask.dtype != torch.bool or mask.shape != x.shape[:1] + x.shape[2:]:
        have = f"mask is {mask.dtype} of shape {tuple(mask.shape)}, x has {tuple(x.shape)}"
        raise ValueError(f"{have}; give booleans, one for all channels of a position")
    return ~mask.unsqueeze(1)


@overload
def level_mask(mask: Tensor, grid: Iterable[int]) -> Tensor: ...
@overload
def level_mask(mask: Tensor | None, grid: Iterable[int]) -> Tensor | None: ...
def level_mask(mask: Tensor | None, grid: Iterable[int]) -> Tensor | None:
    """Which vectors stand for anything real: those with any real input in their part of the item.

    Args:
        mask: True where the item is real; None when all is. (B, *input grid) bool
        grid: Lengths of the axes of what is quantized.

    Returns:
        (B, *grid) bool, or None
    """
    grid = tuple(grid)
    if mask is None or tuple(mask.shape[1:]) == grid:
        return mask
    if len(grid) != mask.dim() - 1 or len(grid) not in POOLS:
        real = mask.flatten(1).any(1)  # no part of the item belongs to one code
        return real.reshape(-1, *[1] * len(grid)).expand(-1, *grid)
    return POOLS[len(grid)](mask.unsqueeze(1).float(), grid).squeeze(1) > 0
