"""What a prior may be told about the items."""

from dataclasses import dataclass, fields
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as config_dataclass
from torch import Tensor

from vqkit.schema import STRICT

Positive = Annotated[int, Field(ge=1)]


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class ConditioningSpec:
    """What a prior is told about every item: nothing, or any of these."""

    num_classes: Positive | None = None
    """Number of classes of labels. null: it is told no labels."""
    vector_dim: Positive | None = None
    """Length V of vectors, any number for each item. null: it is told none."""
    map_channels: Positive | None = None
    """Channels C of a map that lies over the codes. null: it is told none."""
    above_channels: Positive | None = None
    """Channels of the map of coarser levels, by which ``HierarchicalPrior`` tells a level of those
    above it; never left out. null: there is none."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is told that may be left out."""
        return self == ConditioningSpec(above_channels=self.above_channels)


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What is known of each item besides its codes.

    Attributes:
        labels: Class of each item, at least 0; None when there are none. (B,) int64
        vectors: Such as those of the words of a caption; None when there are none. (B, M, V)
        vectors_mask: True where a vector is real; None when all are. (B, M) bool
        spatial: A map over the item, of any resolution; None when there is none. (B, C, *grid)
        above: The map of coarser levels; None when there is none. (B, C, *grid)
    """

    labels: Tensor | None = None
    vectors: Tensor | None = None
    vectors_mask: Tensor | None = None
    spatial: Tensor | None = None
    above: Tensor | None = None

    @property
    def left_out(self) -> "Conditioning":
        """What remains when all is left out that may be."""
        return Conditioning(above=self.above)

    def __getitem__(self, items: slice | Tensor) -> "Conditioning":
        """That of some of the items."""
        return Conditioning(*(part if part is None else part[items] for part in self._parts()))

    def to(self, device: torch.device | str) -> "Conditioning":
        """The same on a device."""
        return Conditioning(*(part if part is None else part.to(device) for part in self._parts()))

    def _parts(self) -> list[Tensor | None]:
        return [getattr(self, field.name) for field in fields(self)]


NOTHING = Conditioning()


def check_conditioning(
    given: Conditioning | None, spec: ConditioningSpec, num: int, *, needed: bool
) -> Conditioning:
    """What is known of ``num`` items.

    Args:
        given: As the caller gives it.
        spec: What the prior is told.
        num: Number of items B.
        needed: Whether all that ``spec`` names has to be there.

    Raises:
        ValueError: If something does not fit, is missing, or is more than the prior is told.
    """
    given = NOTHING if given is None else given
    if not isinstance(given, Conditioning):
        raise TypeError(f"given is a {type(given).__name__}; give a Conditioning")
    _check_labels(given.labels, spec.num_classes, num)
    _check_vectors(given, spec.vector_dim, num)
    _check_map(given.spatial, spec.map_channels, num)
    if spec.above_channels is not None and given.above is None:
        raise ValueError("the map of the levels above is missing; give it as above")
    if needed:
        _check_missing(given, spec)
    return given


def _check_labels(labels: Tensor | None, num_classes: int | None, num: int) -> None:
    if labels is None:
        return
    if num_classes is None:
        raise ValueError("labels were given to a prior without classes; leave them out")
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels are a {type(labels).__name__}; give a tensor of one axis")
    if labels.shape != (num,) or labels.is_floating_point() or labels.dtype == torch.bool:
        found = f"shape {tuple(labels.shape)}, {labels.dtype}"
        raise ValueError(f"labels have {found}; give one integer for each of {num} items")
    if ((labels < 0) | (labels >= num_classes)).any():
        found = f"{int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"labels are {found}; the classes are 0 to {num_classes - 1}")


def _check_vectors(given: Conditioning, dim: int | None, num: int) -> None:
    vectors, mask = given.vectors, given.vectors_mask
    if vectors is None:
        if mask is not None:
            raise ValueError("vectors_mask was given without vectors; give both, or neither")
        return
    if dim is None:
        raise ValueError("vectors were given to a prior that is told none; leave them out")
    if vectors.dim() != 3 or (len(vectors), vectors.shape[2]) != (num, dim):
        raise ValueError(
            f"vectors have shape {tuple(vectors.shape)}; give ({num}, any number, {dim})"
        )
    if mask is not None and (mask.shape != vectors.shape[:2] or mask.dtype != torch.bool):
        found = f"shape {tuple(mask.shape)}, {mask.dtype}"
        raise ValueError(f"vectors_mask has {found}; give {tuple(vectors.shape[:2])} booleans")
    if not vectors.isfinite().all():
        raise ValueError("vectors hold inf or nan; give finite ones, zeros where the mask is False")


def _check_map(spatial: Tensor | None, channels: int | None, num: int) -> None:
    if spatial is None:
        return
    if channels is None:
        raise ValueError("a map was given to a prior that is told none; leave spatial out")
    if spatial.dim() < 3 or 0 in spatial.shape[2:] or spatial.shape[:2] != (num, channels):
        raise ValueError(
            f"spatial has shape {tuple(spatial.shape)}; give ({num}, {channels}, *grid)"
        )
    if not spatial.isfinite().all():
        raise ValueError("spatial holds inf or nan; give finite numbers")


def _check_missing(given: Conditioning, spec: ConditioningSpec) -> None:
    if spec.num_classes is not None and given.labels is None:
        classes = f"0 to {spec.num_classes - 1}"
        raise ValueError(f"labels are missing; give one of {classes} for each item")
    if spec.vector_dim is not None and given.vectors is None:
        raise ValueError(f"vectors are missing; give (B, any number, {spec.vector_dim})")
    if spec.map_channels is not None and given.spatial is None:
        raise ValueError(f"spatial is missing; give a map (B, {spec.map_channels}, *grid)")
