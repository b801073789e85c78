"""A prior of several levels: the coarsest first, each finer one given those above it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.codes import Codes, LevelSpec
from vqkit.nn.residual import ResidualStack
from vqkit.priors.absorbing import AbsorbingDiffusionConfig
from vqkit.priors.base import Prior
from vqkit.priors.conditioner import at_grid
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.delay import DelayTransformerConfig
from vqkit.priors.depth import DepthTransformerConfig
from vqkit.priors.embedding import CodeEmbedding
from vqkit.priors.known import Known
from vqkit.priors.lengths import Lengths
from vqkit.priors.pixelcnn import PixelCNNConfig
from vqkit.priors.sampling import Decoding
from vqkit.priors.slots import describe
from vqkit.priors.transformer import TransformerConfig
from vqkit.priors.uniform_diffusion import UniformDiffusionConfig
from vqkit.random import hash_int
from vqkit.schema import STRICT

MemberConfig = Annotated[
    AbsorbingDiffusionConfig
    | DelayTransformerConfig
    | DepthTransformerConfig
    | PixelCNNConfig
    | TransformerConfig
    | UniformDiffusionConfig,
    Field(discriminator="type"),
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HierarchicalConfig:
    """One prior for each level: the coarsest alone, each finer one given those above it."""

    type: Literal["hierarchical"] = "hierarchical"
    members: Annotated[tuple[MemberConfig, ...], Field(min_length=1)] = (
        TransformerConfig(),
        PixelCNNConfig(),
    )
    """The priors of the levels, coarsest first."""
    width: Annotated[int, Field(ge=1)] = 128
    """Channels of the map by which a level knows those above it."""
    blocks: Annotated[int, Field(ge=0)] = 2
    """Number of residual blocks that make this map."""

    def build(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> "HierarchicalPrior":
        """The prior over codes of these levels, with new weights."""
        return HierarchicalPrior(specs, conditioning, lengths, config=self)


class HierarchicalPrior(Prior):
    """p(top) p(next | top) ...: each level has a prior of its own, which knows the levels above.

    Generating Diverse High-Fidelity Images with VQ-VAE-2, section 3.2 and algorithm 2,
    https://arxiv.org/abs/1906.00446. What is above becomes a map over the level's grid.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What all levels are told of the items.
        lengths: How long items are; None when all are as long.
        config: The members.

    Raises:
        ValueError: If there is not one member for each level.
    """

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
        *,
        config: HierarchicalConfig | None = None,
    ) -> None:
        super().__init__(specs, conditioning, lengths)
        self._config = config = config or HierarchicalConfig()
        if len(config.members) != len(specs):
            raise ValueError(
                f"prior.members is a list of {len(config.members)} for {len(specs)} levels "
                f"({describe(specs)}); write one for each, coarsest first, such as "
                "prior.members='[{type: transformer}, {type: pixelcnn}]'"
            )
        own, width = self.conditioning, config.width
        below = replace(own, above_channels=width)
        self.members = nn.ModuleList(
            member.build([spec], below if number else own)
            for number, (member, spec) in enumerate(zip(config.members, specs, strict=True))
        )
        self.above = nn.ModuleList(
            Above(self.specs[:number], self.specs[number], width, config.blocks)
            for number in range(1, len(specs))
        )
        priors = list(self._priors())
        self.exact = all(prior.exact for prior in priors)
        self.in_steps = any(prior.in_steps for prior in priors)

    @property
    def config(self) -> HierarchicalConfig:
        return self._config

    @property
    def needs_conditioning(self) -> bool:
        return not self.conditioning.is_empty and any(p.needs_conditioning for p in self._priors())

    def check_steps(self, steps: int) -> None:
        super().check_steps(steps)
        for prior in self._priors():
            if prior.in_steps:
                prior.check_steps(steps)

    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        given = self.check_given(given, len(codes))
        clean = Codes.from_flat(flat, self.specs, mask)
        parts = [
            prior.nats(Codes((level,)), self._given(number, given, flat, mask))
            for number, (prior, level) in enumerate(zip(self._priors(), clean.levels, strict=True))
        ]
        return torch.cat([part.double() for part in parts], dim=1)

    def draw(
        self, known: Known, given: Conditioning, decoding: Decoding, mask: Tensor | None
    ) -> Tensor:
        self._check_known(known)
        flat, start = known.flat.clone(), 0
        for number, (prior, spec) in enumerate(zip(self._priors(), self.specs, strict=True)):
            where = slice(start, start + spec.num_tokens)
            flat[:, where] = prior.draw(
                Known(known.flat[:, where], known.mask[:, where]),
                self._given(number, given, flat, mask),
                replace(
                    decoding,
                    seed=hash_int(decoding.seed, number),
                    steps=decoding.steps if prior.in_steps else None,
                ),
                None if mask is None else mask[:, where],
            )
            start = where.stop
        return flat

    def _priors(self) -> Iterator[Prior]:
        """The members, coarsest level first."""
        return (cast(Prior, member) for member in self.members)

    def _given(
        self, number: int, given: Conditioning, flat: Tensor, mask: Tensor | None
    ) -> Conditioning:
        """What a level is told: what all are, and a map of the levels above it."""
        if number == 0:
            return given
        return replace(given, above=cast(Above, self.above[number - 1])(flat, mask))

    def _check_known(self, known: Known) -> None:
        """Raises ValueError if codes are known below a level that is not known whole."""
        whole, start = torch.ones_like(known.mask[:, 0]), 0
        for number, spec in enumerate(self.specs):
            own = known.mask[:, start : start + spec.num_tokens]
            if (own.any(1) & ~whole).any():
                raise ValueError(
                    f"known codes of level {number} lie below a level that is not known whole, and "
                    "each level is drawn from those above it; give the levels above too"
                )
            whole, start = whole & own.all(1), start + spec.num_tokens


class Above(nn.Module):
    """The codes of all coarser levels as a map over the grid of a level.

    Args:
        specs: The shapes of the coarser levels, coarsest first.
        own: The shape of the level.
        width: Channels of the map.
        num_blocks: Number of residual blocks; none where the grid has more than two axes.
    """

    def __init__(
        self, specs: Sequence[LevelSpec], own: LevelSpec, width: int, num_blocks: int
    ) -> None:
        super().__init__()
        self.specs, self.grid = tuple(specs), own.grid or (1,)
        self.embedding = CodeEmbedding(specs, width, tied=True)
        nn.init.normal_(self.embedding.table.weight)
        plane = len(self.grid) in (1, 2)
        self.network = ResidualStack(width, width, num_blocks, activation=F.silu) if plane else None

    def forward(self, flat: Tensor, mask: Tensor | None) -> Tensor:
        """The map.

        Args:
            flat: Integers of all levels, in the order of ``Codes.flat``. (B, L) int64
            mask: Which are real; None when all are. (B, L) bool

        Returns:
            (B, width, *grid)
        """
        length = len(self.embedding.offsets)
        vectors = self.embedding(flat[:, :length], None if mask is None else mask[:, :length])
        total, start = vectors.new_zeros(len(flat), vectors.shape[2], *self.grid), 0
        for spec in self.specs:
            part = vectors[:, start : start + spec.num_tokens]
            summed = part.unflatten(1, (-1, len(spec.codebook_sizes))).sum(2)
            grid = spec.grid or (1,)
            total = total + at_grid(summed.mT.unflatten(2, grid), self.grid)
            start += spec.num_tokens
        if self.network is None:
            return total
        plane = total if len(self.grid) == 2 else total.unsqueeze(2)
        return self.network(plane).reshape(total.shape)
