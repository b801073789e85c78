"""What quantizers have in common whose stages each code what the stages before left."""

from collections.abc import Sequence

from torch import Tensor, nn

from vqkit.quantizers.base import Quantizer, detached_at_padding
from vqkit.quantizers.binary import BinarySphericalQuantizer
from vqkit.quantizers.composite import (
    CompositeQuantizer,
    dims,
    refuse_grid_readers,
    refuse_some_shared,
    without_parts,
)
from vqkit.quantizers.gradients import Gradient
from vqkit.quantizers.learned import LearnedQuantizer
from vqkit.quantizers.normalized import Normalized
from vqkit.quantizers.projected import Projected
from vqkit.quantizers.scalar import FiniteScalarQuantizer
from vqkit.quantizers.selective import Selective


class StagedQuantizer(CompositeQuantizer):
    """Holds the stages of a residual; the encoder gets the decoder's gradient once for all.

    Args:
        quantizers: The stages, for vectors of one length. All different, or the same one for all.
    """

    def __init__(self, quantizers: Sequence[Quantizer]) -> None:
        lengths = set(dims(quantizers))
        if len(lengths) != 1:
            raise ValueError(f"stages have vectors of lengths {sorted(lengths)}; give one length")
        refuse_grid_readers(quantizers)
        refuse_some_shared(quantizers, "stages")
        inside = [module for quantizer in quantizers for module in quantizer.modules()]
        for module in inside:
            check_inside(module, type(self).__name__)
            if len(quantizers) > 1:
                check_left(module)
        gradient = common_gradient(quantizers)
        if gradient != "straight_through" and any(isinstance(one, Projected) for one in inside):
            raise ValueError(
                f"gradient of the stages is {gradient!r}, but one projects vectors, and only the "
                "straight-through gradient trains its projection; put one around all stages: "
                f"Projected({type(self).__name__}(...), dim)"
            )
        super().__init__(lengths.pop(), quantizers)
        self.gradient = gradient
        for quantizer in self.quantizers.modules():
            if isinstance(quantizer, Quantizer):
                quantizer.passes_gradient = quantizer.squashes = False  # this one does both

    @property
    def is_shared(self) -> bool:
        """Whether one quantizer is several stages."""
        return len(self.quantizers) < len(self.parts)

    def squashed(self, z_e: Tensor) -> Tensor:
        """Vectors in the range of the stages, where that is bounded. (..., D)"""
        return self.parts[0].squash(z_e)

    def passed_once(self, z_e: Tensor, z_q: Tensor, mask: Tensor | None) -> Tensor:
        """The sum with the encoder's gradient, and that of what the stages train by it."""
        if not (z_q.requires_grad and self.gradient == "straight_through" and self.passes_gradient):
            return z_q if not self.passes_gradient else self.passed(z_e, z_q, mask)
        # Which adds exactly 0.
        return detached_at_padding(z_q, mask) + (z_e - z_e.detach()).to(z_q.dtype)


def summed(parts: Sequence[Tensor]) -> Tensor:
    """The sum, from the first to the last: rounded alike wherever it is made."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def common_gradient(quantizers: Sequence[Quantizer]) -> Gradient:
    """That of all that quantizes inside; raises ValueError if it is not one."""
    leaves = [leaf for quantizer in quantizers for leaf in without_parts(quantizer)]
    gradients: list[Gradient] = list(dict.fromkeys(leaf.gradient for leaf in leaves))
    if len(gradients) > 1:
        raise ValueError(f"stages have gradients {gradients}; give one to all that is inside them")
    return gradients[0]


def check_inside(module: nn.Module, name: str) -> None:
    """Raises ValueError if what a stage is, or holds, does not work in one.

    Args:
        module: It.
        name: What holds the stages.
    """
    if isinstance(module, Projected) and not module.codebooks():
        raise ValueError(
            "a stage projects vectors and has no codebook, so nothing would train its "
            f"projection; put one around all stages: Projected({name}(...), dim)"
        )
    if has_one_length(module):
        raise ValueError(
            f"a stage is {type(module).__name__}, which makes all vectors alike in length, "
            "while what stages leave gets shorter and shorter; put it around all stages, "
            f"as in Normalized({name}(...), 'l2')"
        )
    if isinstance(module, Selective):
        raise ValueError(
            "a stage is selective, and the decoder's gradient, which trains what is kept, "
            "does not reach it; put it around all stages: Selective(Residual(...))"
        )


def check_left(module: nn.Module) -> None:
    """Raises ValueError if a quantizer cannot code what it leaves itself."""
    if isinstance(module, FiniteScalarQuantizer) and min(module.levels) < 3:
        raise ValueError(
            f"a stage has levels {module.levels}, and the two values of a level of 2, -1 and 0, "
            "cannot code what a stage before left above 0; give levels of at least 3"
        )


def has_one_length(module: nn.Module) -> bool:
    """Whether a quantizer gives all vectors one length or one spread before it codes them."""
    is_cosine = isinstance(module, LearnedQuantizer) and module.codebook.metric == "cosine"
    return is_cosine or isinstance(module, BinarySphericalQuantizer | Normalized)
