"""Small spaces of codes, and every prior over them with weights that make a difference."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vqkit.codes import Codes, LevelSpec
from vqkit.priors import (
    AbsorbingDiffusionConfig,
    Conditioning,
    ConditioningSpec,
    CountedPrior,
    DelayTransformerConfig,
    DepthTransformerConfig,
    DiffusionPrior,
    HierarchicalConfig,
    HistogramConfig,
    Lengths,
    MixtureConfig,
    MixturePrior,
    NGramConfig,
    PixelCNNConfig,
    Prior,
    PriorConfig,
    TransformerConfig,
    UniformConfig,
    UniformDiffusionConfig,
)

CLASSES = 3
Pair = tuple[PriorConfig, tuple[LevelSpec, ...]]
LEARNED = (
    "transformer",
    "tied transformer",
    "depth transformer",
    "delay transformer",
    "pixelcnn",
    "pixelsnail",
    "absorbing diffusion",
    "absorbing diffusion by confidence",
    "uniform diffusion",
)
"""The priors that can be told something, and whose samples it changes."""
PRIORS: dict[str, PriorConfig] = {
    "uniform": UniformConfig(),
    "histogram": HistogramConfig(),
    "mixture": MixtureConfig(components=3, draws=50),
    "n-gram": NGramConfig(order=3),
    "n-gram of all places": NGramConfig(order=2, per_place=False),
    "transformer": TransformerConfig(layers=2, width=16, heads=2, dropout=0.2),
    "tied transformer": TransformerConfig(layers=1, width=16, heads=2, dropout=0.2, tied=True),
    "depth transformer": DepthTransformerConfig(
        layers=2, depth_layers=1, width=16, heads=2, dropout=0.2
    ),
    "delay transformer": DelayTransformerConfig(layers=2, width=16, heads=2, dropout=0.2),
    "hierarchical": HierarchicalConfig(
        members=(
            TransformerConfig(layers=1, width=16, heads=2, dropout=0.2),
            PixelCNNConfig(layers=2, width=12, dropout=0.2),
        ),
        width=8,
        blocks=1,
    ),
    "pixelcnn": PixelCNNConfig(layers=2, width=12, dropout=0.2),
    "pixelsnail": PixelCNNConfig(layers=2, width=12, heads=2, attention_every=1, dropout=0.2),
    "absorbing diffusion": AbsorbingDiffusionConfig(layers=2, width=16, heads=2, dropout=0.2),
    "absorbing diffusion by confidence": AbsorbingDiffusionConfig(
        layers=1, width=16, heads=2, dropout=0.2, order="confidence", tied=True, bound_draws=3
    ),
    "uniform diffusion": UniformDiffusionConfig(
        layers=1, width=16, heads=2, dropout=0.2, times=4, bound_draws=5
    ),
}
EXACT = {name: config for name, config in PRIORS.items() if "diffusion" not in name}
"""Those that have a probability, and not a bound of it alone."""
FAITHFUL = {name: config for name, config in PRIORS.items() if "confidence" not in name}
"""Those that draw from what they judge by; by confidence another distribution is drawn from."""
SPACES: dict[str, tuple[LevelSpec, ...]] = {
    "one level": (LevelSpec((2, 2), (3,)),),
    "no grid": (LevelSpec((), (7,)),),
    "two codebooks": (LevelSpec((2,), (2, 4), "residual"),),
    "two levels": (LevelSpec((1,), (3,)), LevelSpec((1, 2), (2, 3), "product")),
}


def fits(config: PriorConfig, specs: tuple[LevelSpec, ...]) -> bool:
    """Whether a prior can be of codes of these levels."""
    if isinstance(config, HierarchicalConfig):
        return len(specs) == len(config.members)
    return len(specs) == 1 or not isinstance(config, PixelCNNConfig)


def pairs(
    configs: Mapping[str, PriorConfig], spaces: Mapping[str, tuple[LevelSpec, ...]]
) -> list[Any]:
    """Each prior with each space that it can be of, as parameters with names."""
    return [
        pytest.param((config, specs), id=f"{name}-{space}")
        for name, config in configs.items()
        for space, specs in spaces.items()
        if fits(config, specs)
    ]


def make(
    config: PriorConfig,
    specs: tuple[LevelSpec, ...],
    num_classes: int | None = None,
    *,
    conditioning: ConditioningSpec | None = None,
    lengths: Lengths | None = None,
) -> Prior:
    """The prior with random weights or counts, far from uniform, in evaluation mode."""
    torch.manual_seed(0)
    told = conditioning or ConditioningSpec(num_classes=num_classes)
    prior = build(config, specs, told, lengths)
    for parameter in prior.parameters():
        nn.init.normal_(parameter, std=0.4)
    if isinstance(prior, CountedPrior):
        prior.start_counting()
        codes, classes = random_codes(specs, 20), prior.num_classes
        labels = None if classes is None else codes.flat().sum(1) % classes
        prior.count(codes, Conditioning(labels))
        prior.end_counting()
    return prior.eval()


def build(
    config: PriorConfig,
    specs: tuple[LevelSpec, ...],
    conditioning: ConditioningSpec | None = None,
    lengths: Lengths | None = None,
) -> Prior:
    """The prior as it is before training, with random vectors of entries where it needs them."""
    prior = config.build(specs, conditioning, lengths)
    if isinstance(prior, MixturePrior):
        prior.embed([torch.randn(slots.size, 2) for slots in prior.slots])
    return prior


def random_codes(specs: tuple[LevelSpec, ...], num: int, *, masked: bool = False) -> Codes:
    """Codes of every entry; where ``masked``, padding holds what no codebook has."""
    columns = [
        torch.randint(0, size, (num,))
        for spec in specs
        for _ in range(math.prod(spec.grid))
        for size in spec.codebook_sizes
    ]
    flat = torch.stack(columns, dim=1)
    if not masked:
        return Codes.from_flat(flat, specs)
    mask = torch.cat(
        [
            (torch.rand(num, math.prod(spec.grid)) > 0.4).repeat_interleave(
                len(spec.codebook_sizes), dim=1
            )
            for spec in specs
        ],
        dim=1,
    )
    return Codes.from_flat(flat.masked_fill(~mask, -99), specs, mask)


def every_code(specs: tuple[LevelSpec, ...]) -> Codes:
    """Each point of the space once."""
    ranges = [
        range(size)
        for spec in specs
        for _ in range(math.prod(spec.grid))
        for size in spec.codebook_sizes
    ]
    return Codes.from_flat(torch.tensor(list(itertools.product(*ranges))), specs)


def labels_of(num: int) -> Conditioning:
    """Labels 0, 1, 2, 0, ..."""
    return Conditioning(torch.arange(num) % CLASSES)


def log_prob_or_bound(prior: Prior, codes: Codes, given: Conditioning | None = None) -> Tensor:
    """The log-probability; of a prior that has none, its lower bound without estimating it."""
    if isinstance(prior, DiffusionPrior):
        return prior.exact_bound(codes, given)
    assert prior.exact
    return prior.log_prob(codes, given)
