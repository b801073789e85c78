"""An autoregressive prior of convolutions: a gated PixelCNN over the codes of one level."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.codes import Codes, LevelSpec
from vqkit.nn.pixelcnn import GatedPixelCNN
from vqkit.nn.transformer import INIT_STD
from vqkit.priors.autoregressive import AutoregressivePrior, NextLogits
from vqkit.priors.conditioner import Conditioned, Conditioner
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.embedding import CodeEmbedding
from vqkit.priors.lengths import Lengths
from vqkit.priors.slots import describe
from vqkit.schema import STRICT, AttentionEvery, Heads


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PixelCNNConfig:
    """A gated PixelCNN over the grid of codes, with attention if asked for; for one level."""

    type: Literal["pixelcnn"] = "pixelcnn"
    layers: Annotated[int, Field(ge=1)] = 12
    """Number of gated layers; each sees a little farther."""
    width: Annotated[int, Field(ge=1)] = 128
    """Channels of the layers."""
    kernel: Annotated[int, Field(ge=3)] = 3
    """Side of the square that a layer sees the earlier half of; odd."""
    attention_every: AttentionEvery = None
    """After how many layers there is attention to all earlier codes, each time. null: none."""
    heads: Heads = 4
    """Number of attention heads; divides the width where there is attention."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability of dropping an element in training; raise it for little data."""
    drop_conditioning: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of hiding labels and the like from it in training; 0.1 allows guidance."""

    @field_validator("kernel")
    @classmethod
    def _is_odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError("must be odd")
        return kernel

    def build(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> "PixelCNNPrior":
        """The prior over codes of this level, with new weights."""
        return PixelCNNPrior(specs, conditioning, lengths, config=self)


class PixelCNNPrior(AutoregressivePrior):
    """p(codes | label) as a product over the positions in raster order, and at each its codebooks.

    Conditional Image Generation with PixelCNN Decoders, https://arxiv.org/abs/1606.05328; with
    ``attention_every``, PixelSNAIL, https://arxiv.org/abs/1712.09763. Lines are read from left to
    right. The later codebooks of a position also know those before them. Of vectors that it is
    told it knows the mean.

    Args:
        specs: The shape of the level.
        conditioning: What it is told of the items.
        lengths: How long items are; None when all are as long.
        config: Widths and depth.

    Raises:
        ValueError: If there are several levels, or the grid has more than two axes.
    """

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
        *,
        config: PixelCNNConfig | None = None,
    ) -> None:
        super().__init__(specs, conditioning, lengths)
        self._config = config = config or PixelCNNConfig()
        self.plane = plane_of(self.specs)
        width, num_books = config.width, len(self.slots)
        self.embedding = CodeEmbedding(specs, width)
        self.conditioner = Conditioner(
            self.conditioning,
            specs,
            width,
            drop=config.drop_conditioning,
            lengths=lengths is not None,
        )
        told = not self.conditioning.is_empty or lengths is not None
        maps = self.conditioning.map_channels, self.conditioning.above_channels
        has_map = maps != (None, None)
        self.network = GatedPixelCNN(
            width,
            width,
            num_layers=config.layers,
            kernel=config.kernel,
            dropout=config.dropout,
            attention_every=config.attention_every,
            heads=config.heads,
            condition_channels=width if has_map else None,
            vector_dim=width if told else None,
        )
        # What codebooks after the first add to what they are predicted from.
        self.within = None
        if num_books > 1:
            self.within = nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
            )
        nn.init.normal_(self.embedding.table.weight)  # as wide as what a convolution expects
        if self.embedding.head is not None:
            nn.init.normal_(self.embedding.head.weight, std=INIT_STD)

    @property
    def config(self) -> PixelCNNConfig:
        return self._config

    @property
    def needs_conditioning(self) -> bool:
        return not self.conditioning.is_empty and self._config.drop_conditioning == 0

    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        told = self.conditioner(self.check_given(given, len(flat)), len(flat), mask)
        vectors = self.embedding(flat, mask).unflatten(1, (-1, len(self.slots)))
        grid = vectors.sum(2).mT.unflatten(2, self.plane)
        features = self.network(grid, *self._given(told, len(flat)))
        before = vectors.cumsum(2) - vectors
        hidden = self._within(features.flatten(2).mT.unsqueeze(2), before)
        nats = self.embedding.nats(hidden.flatten(1, 2), flat)
        return nats if mask is None else nats.masked_fill(~mask, 0)

    def next_logits(self, num: int, given: Conditioning, mask: Tensor | None) -> NextLogits:
        told = self.conditioner(given, num, mask)
        sampler = self.network.sampler(num, *self.plane, *self._given(told, num))
        num_books = len(self.slots)
        features = so_far = self.embedding.nothing.new_zeros(num, self._config.width)

        def next_logits(slot: int, previous: Tensor) -> Tensor:
            nonlocal so_far, features
            if slot:
                so_far = so_far + self.embedding.at(slot - 1, previous, mask)
            if slot % num_books == 0:
                features = sampler.step(so_far)
                so_far = torch.zeros_like(so_far)
            hidden = self._within(features, so_far)
            return self.embedding.logits(hidden, self.slots[slot % num_books])

        return next_logits

    def _within(self, features: Tensor, before: Tensor) -> Tensor:
        """What codebooks are predicted from: features of the position, and codes before them.

        Args:
            features: (..., W)
            before: Sum of the vectors of the position's earlier codebooks. (..., W)
        """
        if self.within is None:
            return features
        return features + self.within(features + before)

    def _given(self, told: Conditioned, num: int) -> tuple[Tensor | None, Tensor | None]:
        """The map (B, W, H, W) and the vectors (B, W) that the network is conditioned on."""
        spatial = None
        if self.network.condition_channels is not None:
            if told.maps is None:
                spatial = told.everywhere.new_zeros(num, self._config.width, *self.plane)
            else:
                spatial = told.maps[0].mT.unflatten(2, self.plane)
        return spatial, None if self.network.vector_dim is None else told.pooled


def plane_of(specs: Sequence[LevelSpec]) -> tuple[int, int]:
    """Height and width of the one level that a PixelCNN reads.

    Raises:
        ValueError: If there are several levels, or the grid has more than two axes.
    """
    if len(specs) > 1:
        raise ValueError(
            f"a PixelCNN is a prior of one level, these are {len(specs)}: {describe(specs)}; use "
            "a hierarchical prior with one for each level, or a transformer"
        )
    grid = specs[0].grid
    if len(grid) > 2:
        raise ValueError(
            f"a PixelCNN reads lines and planes, the grid is {describe(specs)}; use a transformer"
        )
    height, width = (1, 1, *grid)[-2:]
    return height, width
