"""What any number of leading stages of residual codes gives: quality against bits."""

import math
from typing import Any

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.autoencoder.framing import called, cut
from vqkit.codes import Codes
from vqkit.data import Batch
from vqkit.quantizers import Quantizer, Residual


class StageTotals:
    """Adds up over a split how good reconstructions from leading stages alone are.

    Args:
        model: With residual codes of one level, in evaluation mode when batches are added.
        device: Where it is.
    """

    def __init__(self, model: VQVAE, *, device: torch.device | str) -> None:
        self.model = model
        self.metrics = [model.objective.modality.metrics(device) for _ in parts_of(model)[1:]]

    @torch.no_grad()
    def add(self, batch: Batch, codes: Codes) -> None:
        """Counts a batch in.

        Args:
            batch: On the device.
            codes: Those of its items.
        """
        for number, metrics in enumerate(self.metrics, start=1):
            found = decode_stages(self.model, codes, number)
            metrics.add(batch.x, cut(found, tuple(batch.x.shape[2:])), batch.mask)

    def results(self, found: dict[str, float], bits_per_dim: float) -> list[dict[str, Any]]:
        """The figures over all batches of all ranks; every rank must call it.

        Args:
            found: Those of all stages together.
            bits_per_dim: What all codes cost for each value, each of the same length.

        Returns:
            For 1, 2 and more ``stages`` their figures and ``bits_per_dim``, as JSON values.
        """
        bits = [sum(map(math.log2, part.codebook_sizes)) for part in parts_of(self.model)]
        rows = [*(metrics.results() for metrics in self.metrics), found]
        return [
            {"stages": num, "bits_per_dim": bits_per_dim * sum(bits[:num]) / sum(bits), **row}
            for num, row in enumerate(rows, start=1)
        ]


def parts_of(model: VQVAE) -> tuple[Quantizer, ...]:
    """The stages of a model of one level; none if it has no residual codes."""
    layer = model.quantizers[0]
    return layer.parts if isinstance(layer, Residual) and len(model.quantizers) == 1 else ()


def has_stages(model: VQVAE) -> bool:
    """Whether items are measured by any number of stages: where a modality asks for it."""
    wanted: bool = getattr(model.objective.modality, "by_stages", False)
    return wanted and len(parts_of(model)) > 1


@torch.no_grad()
def decode_stages(model: VQVAE, codes: Codes, num_stages: int) -> Tensor:
    """What the decoder makes of so many leading stages of residual codes. (B, C, *grid)

    Args:
        model: In evaluation mode, with one level.
        codes: Of all stages.
        num_stages: At least 1.
    """
    (layer,), (level,) = model.quantizers, codes.levels
    num = sum(len(part.codebook_sizes) for part in parts_of(model)[:num_stages])
    z_q = layer.decode(level.indices[..., :num]).contiguous().movedim(-1, 1)
    h = called(model.decoder, z_q, mask=level.mask)
    return model.objective.distribution(h).mode()
