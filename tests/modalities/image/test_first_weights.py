"""Under the first weights codes are heard."""

import pytest
import torch
from tests.autoencoder.models import images
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.modalities.image import (
    ConvConfig,
    ImageModelConfig,
    LogisticMixtureConfig,
    PixelCNNDecoderConfig,
    TransformerDecoderConfig,
)
from vqkit.modalities.image.decoder import DecoderConfig


def spread(vectors: Tensor) -> float:
    """How much vectors (..., D) differ, beside their length."""
    rows = vectors.flatten(0, -2)
    return float(rows.std(0).norm() / rows.norm(dim=-1).mean())


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("decoder", [PixelCNNDecoderConfig(), TransformerDecoderConfig()])
@torch.no_grad()
def test_what_a_decoder_reads_beside_earlier_pixels_differs(
    decoder: DecoderConfig, activation: str
):
    """Else it learns to do without: of vectors from torch's usual weights it is 0.05 and 0.14."""
    torch.manual_seed(0)
    config = ImageModelConfig(
        network=ConvConfig(activation=activation),
        decoder=decoder,
        objective=LogisticMixtureConfig(),
    )
    model = VQVAE.from_config(config)
    z_e = model.inputs(images(32))[0]
    said = model.decoder(z_e.movedim(-1, 1)).movedim(1, -1)
    assert spread(z_e) > 0.5
    assert spread(said) > 0.5
