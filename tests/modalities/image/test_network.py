"""What must hold for the convolutional networks of images."""

import pytest
import torch
from pydantic import ValidationError

from vqkit.modalities.image import ConvConfig, ConvDecoder, ConvEncoder


def small(downsampling: int) -> ConvConfig:
    return ConvConfig(hidden=8, residual_hidden=4, downsampling=downsampling, dim=6)


@pytest.mark.parametrize("downsampling", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_decoder_undoes_the_shape_of_the_encoder(downsampling: int, channels: int):
    config = small(downsampling)
    x = torch.randn(2, channels, 32, 48)
    z = config.encoder(channels)(x)
    assert z.shape == (2, 6, 32 // downsampling, 48 // downsampling)
    assert config.decoder(5)(z).shape == (2, 5, 32, 48)


def test_the_default_is_the_network_of_the_authors_example():
    """Sizes of https://github.com/google-deepmind/sonnet, the VQ-VAE example, layer by layer."""
    residual = 2 * ((9 * 128 * 32 + 32) + (32 * 128 + 128))
    down = (16 * 3 * 64 + 64) + (16 * 64 * 128 + 128) + (9 * 128 * 128 + 128)
    encoder = down + residual + (128 * 64 + 64)
    up = (16 * 128 * 64 + 64) + (16 * 64 * 3 + 3)
    decoder = (9 * 64 * 128 + 128) + residual + up
    assert sum(p.numel() for p in ConvEncoder(3, ConvConfig()).parameters()) == encoder
    assert sum(p.numel() for p in ConvDecoder(3, ConvConfig()).parameters()) == decoder


@pytest.mark.parametrize("downsampling", [1, 2, 4])
def test_a_code_sees_the_pixels_around_its_square_and_no_others(downsampling: int):
    config = ConvConfig(
        hidden=8, residual_hidden=4, num_residual=1, downsampling=downsampling, dim=6
    )
    x = torch.randn(1, 1, 64, 64, requires_grad=True)
    config.encoder(1)(x)[0, :, 8, 8].sum().backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    # Two 3x3 convolutions at the stride of the codes, and each halving adds one pixel of its own.
    around = 2 * downsampling + (downsampling - 1)
    assert rows.min() >= 8 * downsampling - around
    assert rows.max() <= 9 * downsampling - 1 + around
    assert (x.grad[0, 0, 8 * downsampling : 9 * downsampling] != 0).any()


@pytest.mark.parametrize("size", [(30, 32), (32, 30), (2, 2), (32, 3)])
def test_images_that_do_not_fit_the_stride_are_refused_by_size_stride_and_fix(size: tuple):
    with pytest.raises(ValueError, match=rf"{size[0]} x {size[1]} .*4 x 4; resize.*downsampling"):
        small(4).encoder(3)(torch.randn(1, 3, *size))


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (3, 32, 32), (1, 3, 32)])
def test_what_is_no_batch_of_images_is_refused(shape: tuple):
    with pytest.raises(ValueError, match=r"give images \(B, 3, H, W\)"):
        small(4).encoder(3)(torch.randn(shape))


@pytest.mark.parametrize("downsampling", [0, -4, 3, 6])
def test_a_downsampling_that_is_no_power_of_two_is_refused(downsampling: int):
    with pytest.raises(ValidationError, match="power of two"):
        small(downsampling)


def test_every_key_has_its_help():
    fields = ConvConfig.__pydantic_fields__
    assert all(field.description for name, field in fields.items() if name != "type")
