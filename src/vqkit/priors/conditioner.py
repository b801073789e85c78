"""What is known of items, as vectors that networks add or attend to."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.codes import LevelSpec
from vqkit.nn.dropout import check_noise, noise_uniforms
from vqkit.nn.transformer import INIT_STD
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.lengths import extents_of, full

POOLING = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True, slots=True)
class Conditioned:
    """What a network is told.

    Attributes:
        everywhere: Added at every position. (B, W)
        maps: Added at the positions of each level; None without a map. Each (B, positions, W)
        memory: To be attended to; None without vectors. (B, M, W)
        memory_mask: True where that is real. (B, M) bool
    """

    everywhere: Tensor
    maps: tuple[Tensor, ...] | None = None
    memory: Tensor | None = None
    memory_mask: Tensor | None = None

    def at_slots(self, specs: Sequence[LevelSpec]) -> Tensor:
        """What is added at each slot of ``Codes.flat``: (B, L, W)."""
        everywhere = self.everywhere.unsqueeze(1)
        if self.maps is None:
            return everywhere.expand(-1, sum(spec.num_tokens for spec in specs), -1)
        parts = [
            part.repeat_interleave(len(spec.codebook_sizes), dim=1)
            for part, spec in zip(self.maps, specs, strict=True)
        ]
        return everywhere + torch.cat(parts, dim=1)

    @property
    def pooled(self) -> Tensor:
        """What is added at every position by networks that do not attend: (B, W)."""
        if self.memory is None or self.memory_mask is None:
            return self.everywhere
        real = self.memory_mask.unsqueeze(-1).to(self.memory.dtype)
        return self.everywhere + (self.memory * real).sum(1) / real.sum(1)


class Conditioner(nn.Module):
    """Turns labels, vectors, maps and lengths into vectors of a network's width.

    In training, all that is known of an item is left out with a probability, so that one network
    also learns the codes without it: Classifier-Free Diffusion Guidance, algorithm 1,
    https://arxiv.org/abs/2207.12598

    Args:
        spec: What is told.
        specs: The shapes of the levels of codes.
        width: Length W of the vectors.
        drop: Probability of leaving out.
        lengths: Whether the network is told how long the items are.
    """

    zero: Tensor
    """Of the type and on the device of the network. ()"""

    def __init__(
        self,
        spec: ConditioningSpec,
        specs: Sequence[LevelSpec],
        width: int,
        *,
        drop: float,
        lengths: bool,
    ) -> None:
        super().__init__()
        self.specs, self.width, self.drop = tuple(specs), width, drop
        self.register_buffer("zero", torch.zeros(()), persistent=False)
        num_classes, dim, channels = spec.num_classes, spec.vector_dim, spec.map_channels
        self.labels = None if num_classes is None else nn.Embedding(num_classes + 1, width)
        self.vectors = None if dim is None else nn.Linear(dim, width)
        self.map = None if channels is None else nn.Linear(channels, width)
        above = spec.above_channels
        self.above = None if above is None else nn.Linear(above, width)
        # What stands first among the vectors, so that there is always one to attend to.
        self.first = None if dim is None else nn.Parameter(torch.zeros(width))
        self.lengths = nn.Linear(len(full(specs)), width) if lengths else None
        for name, parameter in self.named_parameters():
            nn.init.normal_(parameter, std=0.0 if name.endswith("bias") else INIT_STD)

    def forward(self, given: Conditioning, num: int, mask: Tensor | None) -> Conditioned:
        """What the network is told of ``num`` items.

        Args:
            given: Checked. What is not there is left out.
            num: Number of items B.
            mask: Which integers are real; None when all are. (B, L) bool
        """
        like = self.zero
        kept = self._kept(num, like.device)
        everywhere = like.new_zeros(num, self.width)
        if self.labels is not None:
            nobody = torch.full((num,), self.labels.num_embeddings - 1, device=like.device)
            labels = nobody if given.labels is None else given.labels.to(nobody)
            everywhere = everywhere + self.labels(torch.where(kept, labels, nobody))
        if self.lengths is not None:
            everywhere = everywhere + self.lengths(self._shares(num, mask).to(like))
        memory, memory_mask = self._memory(given, kept)
        return Conditioned(everywhere, self._maps(given, kept), memory, memory_mask)

    def _kept(self, num: int, device: torch.device) -> Tensor:
        """Of which items anything is told. (B,) bool"""
        u = None
        if self.training and self.drop > 0:
            check_noise()
            u = noise_uniforms(num, 1)
        if u is None:
            return torch.ones(num, dtype=torch.bool, device=device)
        return u[:, 0].to(device) >= self.drop

    def _shares(self, num: int, mask: Tensor | None) -> Tensor:
        """How far items reach along each axis, as parts of the longest. (B, A)"""
        longest = torch.tensor(full(self.specs)).double()
        if mask is None:
            return torch.ones(num, len(longest))
        return extents_of(mask, self.specs) / longest.to(mask.device)

    def _memory(self, given: Conditioning, kept: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The vectors, with ``first`` before them, and which are real."""
        if self.vectors is None or self.first is None:
            return None, None
        first = self.first.expand(len(kept), 1, -1)
        real = torch.ones_like(kept).unsqueeze(1)
        if given.vectors is None:
            return first, real
        mask = given.vectors_mask
        if mask is None:
            mask = torch.ones(given.vectors.shape[:2], dtype=torch.bool)
        mask = mask.to(kept.device) & kept.unsqueeze(1)
        vectors = given.vectors.to(first).masked_fill(~mask.unsqueeze(-1), 0)
        return torch.cat([first, self.vectors(vectors)], dim=1), torch.cat([real, mask], dim=1)

    def _maps(self, given: Conditioning, kept: Tensor) -> tuple[Tensor, ...] | None:
        """The map at the positions of each level. Each (B, positions, W)"""
        told: list[tuple[nn.Linear, Tensor, bool]] = []
        if self.map is not None and given.spatial is not None:
            told.append((self.map, given.spatial, True))
        if self.above is not None and given.above is not None:
            told.append((self.above, given.above, False))
        if not told:
            return None
        found = []
        for spec in self.specs:
            total = self.zero
            for linear, spatial, hides in told:
                there = at_grid(spatial.to(linear.weight), spec.grid or (1,))
                positions = linear(there.flatten(2).transpose(1, 2))
                total = total + positions.masked_fill(hides & ~kept[:, None, None], 0)
            found.append(total)
        return tuple(found)


def at_grid(spatial: Tensor, grid: Sequence[int]) -> Tensor:
    """A map of another resolution: (B, C, *grid).

    Down by means, up by repetition where the grid is a multiple, else by interpolation; its mean
    where the grid has another number of axes.
    """
    grid = tuple(grid)
    own = tuple(spatial.shape[2:])
    if own == grid:
        return spatial
    if len(own) != len(grid) or len(grid) not in INTERPOLATION:
        mean = spatial.flatten(2).mean(2)
        return mean.reshape(*mean.shape, *[1] * len(grid)).expand(-1, -1, *grid)
    if all(new <= old for new, old in zip(grid, own, strict=True)):
        return POOLING[len(grid)](spatial, grid)
    if all(new % old == 0 for new, old in zip(grid, own, strict=True)):
        return F.interpolate(spatial, grid, mode="nearest")
    return F.interpolate(spatial, grid, mode=INTERPOLATION[len(grid)], align_corners=False)
