"""How many values and vectors the objectives of a forward pass are means over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vqkit.autoencoder.framing import code_mask, whole
from vqkit.nn.evaluating import evaluating

if TYPE_CHECKING:
    from vqkit.autoencoder.model import VQVAE

Layout = tuple[list[str], list[str], list[tuple[int, ...]]]
"""Names of the objective's parts, those of the quantizers, and the grids of the levels."""


def of(model: VQVAE, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """The counts of the forward's objectives; see ``VQVAE.counts``.

    An objective whose parts are means over other things than real values says how many there are by
    a method ``counts(x, mask)``.
    """
    parts, quantizers, grids = layout(model, x)
    if mask is None:
        mask = torch.ones(x.shape[:1] + x.shape[2:], dtype=torch.bool, device=x.device)
    found = dict.fromkeys(parts, mask.sum() * x.shape[1])
    own: Any = getattr(model.objective, "counts", None)
    if own is not None:
        found = own(x, mask)
    _, padded = whole(model.encoder, x, mask)
    for name, grid in zip(quantizers, grids, strict=True):
        real = code_mask(model.encoder, padded, grid)
        assert real is not None  # there was a mask
        found[name] = real.sum()
    return found


def layout(model: VQVAE, x: Tensor) -> Layout:
    """What there is to count, for items of the shape of x's; found once for each shape."""
    shape = x.shape[1:]
    if shape not in model.layouts:
        with evaluating(model):
            out = model(x.new_zeros(1, *shape))
        names, num = list(out.objectives), len(model.quantizers)
        grids = [tuple(z_e.shape[1:-1]) for z_e in out.z_e]
        model.layouts[shape] = names[:-num], names[-num:], grids
    return model.layouts[shape]
