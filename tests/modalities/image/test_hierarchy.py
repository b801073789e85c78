"""What must hold for the convolutional networks of several levels."""

import pytest
import torch
from torch import Tensor, nn

from vqkit.autoencoder import VQVAE
from vqkit.modalities.image import (
    ConvConfig,
    ConvDecoder,
    ConvEncoder,
    GaussianObjective,
    ImageModelConfig,
    LevelsDecoder,
    LevelsEncoder,
)
from vqkit.modalities.image.hierarchy import hide_finer
from vqkit.nn.dropout import noise
from vqkit.quantizers import EMAConfig, EMAVectorQuantizer


def small(levels: int, *, downsampling: int = 2, step: int = 2) -> ConvConfig:
    return ConvConfig(
        hidden=8,
        residual_hidden=4,
        num_residual=1,
        downsampling=downsampling,
        levels=levels,
        level_downsampling=step,
        dim=6,
    )


@pytest.mark.parametrize("levels", [2, 3, 4])
@pytest.mark.parametrize(("downsampling", "step"), [(1, 2), (2, 2), (4, 2), (1, 4)])
def test_each_level_has_the_grid_of_its_stride_coarsest_first(
    levels: int, downsampling: int, step: int
):
    config = small(levels, downsampling=downsampling, step=step)
    strides = [downsampling * step**n for n in reversed(range(levels))]
    assert config.strides == tuple(strides)
    side = 2 * strides[0]
    features = config.encoder(3)(torch.randn(2, 3, side, 2 * side))
    grids = [(side // stride, 2 * side // stride) for stride in strides]
    assert [tuple(each.shape[2:]) for each in features] == grids
    z_q = [torch.randn(2, 6, *grid) for grid in grids]
    for level, join in enumerate(config.top_down(), start=1):
        assert join(features[level], *z_q[:level]).shape == z_q[level].shape
    assert config.decoder(5)(*z_q).shape == (2, 5, side, 2 * side)


def test_one_level_is_the_plain_network_weight_for_weight():
    """The names are those of models that were saved before there were levels."""
    config = ConvConfig(hidden=8, residual_hidden=4, num_residual=1, dim=6)
    assert type(config.encoder(3)) is ConvEncoder
    assert type(config.decoder(3)) is ConvDecoder
    torch.manual_seed(0)
    model = VQVAE.from_config(
        ImageModelConfig(network=config, quantizer=EMAConfig(codebook_size=8))
    )
    torch.manual_seed(0)
    parts = ConvEncoder(3, config), EMAVectorQuantizer(6, 8), ConvDecoder(3, config)
    plain = VQVAE(*parts, GaussianObjective())
    block = ["wide.weight", "wide.bias", "narrow.weight", "narrow.bias"]
    inner = [f"residual.blocks.0.{name}" for name in block]
    pair = [f"{part}.{kind}" for part in ("down.0", "down.1", "mix") for kind in ("weight", "bias")]
    encoder = [*pair, *inner, "project.weight", "project.bias"]
    mirror = ["mix.weight", "mix.bias", *inner, "up.0.weight", "up.0.bias", *encoder[-2:]]
    found = [name for name, _ in model.named_parameters() if "quantizers" not in name]
    assert found == [f"encoder.{name}" for name in encoder] + [f"decoder.{name}" for name in mirror]
    for (name, tensor), (other, same) in zip(
        model.state_dict().items(), plain.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(tensor, same)
    assert (
        model.fingerprint() != VQVAE.from_config(ImageModelConfig(network=small(2))).fingerprint()
    )


@pytest.mark.parametrize("levels", [2, 3])
def test_the_decoder_sees_every_level_and_each_level_all_above_it(levels: int):
    config = small(levels)
    strides = config.strides
    z_q = [torch.randn(1, 6, 32 // s, 32 // s, requires_grad=True) for s in strides]
    config.decoder(3)(*z_q).square().sum().backward()
    assert all(z.grad is not None and (z.grad != 0).any() for z in z_q)
    features = config.encoder(3)(torch.randn(1, 3, 32, 32))
    for level, join in enumerate(config.top_down(), start=1):
        above = [z.detach().requires_grad_() for z in z_q[:level]]
        own = features[level].detach().requires_grad_()
        join(own, *above).square().sum().backward()
        for seen in (own, *above):
            assert seen.grad is not None
            assert (seen.grad != 0).any()


def test_a_level_is_told_only_of_the_places_around():
    """The small decoder from above and the projection read near places, as convolutions do."""
    (join,) = small(2).top_down()
    features, above = torch.randn(1, 8, 32, 32), torch.randn(1, 6, 16, 16, requires_grad=True)
    join(features, above)[0, :, 16, 16].sum().backward()
    assert above.grad is not None
    rows = above.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.min() >= 8 - 3
    assert rows.max() <= 8 + 3
    assert above.grad[0, :, 8, 8].any()


@pytest.mark.parametrize("size", [(40, 48), (48, 40), (8, 8)])
def test_images_that_do_not_fit_the_coarsest_stride_are_refused_by_it(size: tuple[int, int]):
    config = small(3, downsampling=4)
    message = rf"{size[0]} x {size[1]} .*coarsest level stands for 16 x 16; resize.*or levels"
    with pytest.raises(ValueError, match=message):
        config.encoder(3)(torch.randn(1, 3, *size))


def test_what_is_compiled_computes_the_same():
    torch.manual_seed(0)
    config = small(3)
    encoder, decoder = LevelsEncoder(3, config), LevelsDecoder(3, config)
    x = torch.randn(2, 3, 32, 32)
    z_q = [torch.randn(2, 6, 32 // s, 32 // s) for s in config.strides]
    for module, given in ((encoder, (x,)), (decoder, z_q)):
        plain, traced = module(*given), torch.compile(module, backend="eager")(*given)
        torch.testing.assert_close(traced, plain)


def test_more_levels_cost_what_their_parts_have():
    """Each further level adds a coarser encoder, a join and its way up, and nothing is unused."""
    models = [VQVAE.from_config(ImageModelConfig(network=small(n))) for n in (1, 2, 3)]
    sizes = [sum(p.numel() for p in model.parameters()) for model in models]
    assert sizes == sorted(sizes)
    for model in models:
        model.initialize([torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8)], seed=0)
        model(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)).loss.backward()
        parts: list[nn.Module] = [model.encoder, *model.top_down, model.decoder]
        for part in parts:
            assert all(p.grad is not None for p in part.parameters())


@pytest.mark.parametrize("step", [2, 4])
def test_at_the_start_the_vectors_of_all_levels_vary_alike(step: int):
    """Or the decoder would learn to do without those that hardly differ."""
    torch.manual_seed(0)
    config = ConvConfig(hidden=64, downsampling=2, levels=3, level_downsampling=step, dim=32)
    x = torch.nn.functional.interpolate(torch.rand(4, 3, 16, 16) * 2 - 1, scale_factor=8)
    features, z_q = config.encoder(3)(x), list[torch.Tensor]()
    joins = [lambda z: z, *config.top_down()]
    for feature, join in zip(features, joins, strict=True):
        z_q.append(join(feature, *z_q))
    spreads = [z.var(dim=(0, 2, 3)).mean().sqrt() for z in z_q]
    assert max(spreads) < 4 * min(spreads)
    y = config.decoder(3)(*z_q)
    for level in range(3):
        other = list(z_q)
        other[level] = z_q[level].roll(1, 0)
        assert (config.decoder(3)(*other) - y).var() > 0.05 * y.var()


def vectors(num: int, levels: int) -> list[Tensor]:
    """Of items and levels, no element 0."""
    return [torch.rand(num, 3, 2**level, 2**level) + 1 for level in range(levels)]


def test_of_some_items_the_finer_levels_are_hidden_each_number_as_often():
    z_q = vectors(6000, 3)
    with noise(0, 0, torch.arange(6000)):
        hidden = hide_finer(z_q, 0.3)
    seen = torch.stack([each.flatten(1).ne(0).all(1) for each in hidden])
    none = torch.stack([each.flatten(1).eq(0).all(1) for each in hidden])
    assert (seen ^ none).all()  # a level is seen whole, or not at all
    assert all(torch.equal(a[s], b[s]) for a, b, s in zip(hidden, z_q, seen, strict=True))
    assert seen[0].all()
    num_seen = seen.sum(0)
    assert torch.equal(seen, torch.arange(3).unsqueeze(1) < num_seen)  # the coarsest ones
    shares = num_seen.bincount(minlength=4)[1:] / 6000
    assert (shares - torch.tensor([0.15, 0.15, 0.7])).abs().max() < 0.025


def test_what_is_hidden_depends_on_the_step_and_the_place_in_the_global_batch_alone():
    z_q = vectors(64, 2)
    with noise(1, 5, torch.arange(64)):
        whole = hide_finer(z_q, 0.5)
    halves = []
    for part in (slice(0, 30), slice(30, 64)):
        with noise(1, 5, torch.arange(64)[part]):
            halves.append(hide_finer([each[part] for each in z_q], 0.5))
    for each, parts in zip(whole, zip(*halves, strict=True), strict=True):
        assert torch.equal(each, torch.cat(parts))
    with noise(1, 6, torch.arange(64)):
        assert not torch.equal(hide_finer(z_q, 0.5)[1], whole[1])


def test_nothing_is_hidden_in_evaluation_nor_where_nobody_says_the_step():
    decoder, z_q = LevelsDecoder(1, small(2)), [torch.rand(4, 6, n, n) for n in (2, 4)]
    expected = decoder.eval()(*z_q)
    assert torch.equal(decoder.train()(*z_q), expected)
    with noise(0, 0, torch.arange(4)):
        assert torch.equal(decoder.eval()(*z_q), expected)


def test_a_model_decodes_its_coarsest_levels_alone():
    torch.manual_seed(0)
    model = VQVAE.from_config(ImageModelConfig(channels=1, network=small(3))).eval()
    codes = model.encode(torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8))
    whole = model.distribution(codes, 3).mode()
    assert torch.equal(whole, model.decode(codes))
    pairs = zip(model.quantizers, codes.levels, strict=True)
    z_q = [layer.decode(level.indices) for layer, level in pairs]
    for num in (1, 2):
        blank = [z.movedim(-1, 1) * (i < num) for i, z in enumerate(z_q)]
        expected = model.objective.distribution(model.decoder(*blank)).mode()
        assert torch.equal(model.distribution(codes, num).mode(), expected)
