"""A small run with every trap of merging, independent of what vqkit can train."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Ema:
    """Averages."""

    type: Literal["ema"] = "ema"
    size: Annotated[int, Field(ge=2)] = 512
    """Number of entries."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Weight of the past."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Vq:
    """Gradients."""

    type: Literal["vq"] = "vq"
    size: Annotated[int, Field(ge=2)] = 512
    """Number of entries."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Wrapped:
    """Any other, wrapped."""

    type: Literal["wrapped"] = "wrapped"
    inner: Annotated[Ema | Vq, Field(discriminator="type")] = Field(default_factory=Ema)
    """What is inside."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Model:
    """The model."""

    quantizer: Annotated[Ema | Vq | Wrapped, Field(discriminator="type")] = Ema(size=256)
    """The quantizer."""
    width: int = 8
    """Even."""

    @field_validator("width")
    @classmethod
    def _even(cls, width: int) -> int:
        if width % 2:
            raise ValueError(f"must be even; give {width + 1}")
        return width


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """The data."""

    path: str
    """Where they are."""
    size: int | tuple[int, int] | None = None
    """Height and width."""
    crop: Literal["center", "random"] = "center"
    """Where to cut."""
    flip: bool = False
    """Whether to mirror."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Train:
    """The training."""

    steps: Annotated[int, Field(ge=1)] = 100
    """Number of steps."""
    rate: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Weights of the past."""
    trackers: tuple[str, ...] = ()
    """Names."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Run:
    """All of it."""

    data: Data
    """What is trained on."""
    model: Model = Field(default_factory=Model)
    """What is trained."""
    train: Train = Field(default_factory=Train)
    """How."""
