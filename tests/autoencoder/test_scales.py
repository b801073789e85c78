"""What must hold for autoencoders whose codes have another grid than their vectors."""

from pathlib import Path
from unittest import mock

import pytest
import torch
from tests.autoencoder.models import images, small, with_scales
from torch import Tensor
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE, start
from vqkit.autoencoder.hierarchy import level_mask
from vqkit.codes import Codes, Level
from vqkit.quantizers import (
    EMAConfig,
    MultiScaleConfig,
    MultiScaleResidual,
    QuantizerConfig,
)

SCALES: QuantizerConfig = MultiScaleConfig(quantizer=EMAConfig(codebook_size=16), scales=(1, 2, 4))


def holes(num: int = 8) -> Tensor:
    """Where images of 16 x 16 are real: all, a part, or nothing. (num, 16, 16) bool"""
    mask = torch.rand(num, 16, 16) > 0.7
    mask[0], mask[1], mask[2, :, 8:] = True, False, False
    return mask


def test_codes_are_one_level_whose_grid_is_all_scales_in_a_row():
    model, x = small(SCALES).eval(), images(5)
    out = model(x)
    assert out.z_e[0].shape == (5, 4, 4, 4)
    assert [spec.grid for spec in out.codes.specs] == [(21,)]
    assert torch.equal(model.encode(x).flat(), out.codes.flat())
    assert torch.equal(model.decode(out.codes), out.reconstruction)


def test_images_of_the_leading_scales_come_nearer_with_each():
    model, x = small(SCALES).eval(), images(40)
    level = model.encode(x).levels[0]
    wholes = model.quantizers[0].decode(level.indices)
    errors = []
    for end in (1, 5, 21):
        part = Level(level.indices[:, :end], level.codebook_sizes)
        assert model.decode(Codes((part,))).shape == x.shape
        errors.append((model.quantizers[0].decode(part.indices) - wholes).square().mean().item())
    assert errors[0] > errors[1] > errors[2] == 0


def test_masks_of_codes_are_those_of_their_cells_and_objectives_count_vectors():
    model, x, mask = small(SCALES), images(8), holes()
    out = model(x, mask)
    real = level_mask(mask, (4, 4))
    assert torch.equal(out.masks[0], real)
    found = out.codes.levels[0].mask
    assert torch.equal(found[:, 5:], real.flatten(1))
    assert torch.equal(found[:, 0], mask.flatten(1).any(1))
    assert out.objectives["quantizer"].count == real.sum() != found.sum()
    for given in (mask, None):
        expected = {name: mean.count for name, mean in model(x, given).objectives.items()}
        assert model.counts(x, given) == expected


def test_what_padding_holds_has_no_effect_on_start_loss_and_codes():
    x, mask = images(8), holes()
    models = [small(SCALES) for _ in range(2)]
    for model, filler in zip(models, (0, 255), strict=True):
        filled = x.masked_fill(~mask.unsqueeze(1), filler)
        model.initialize([(filled, mask), images(2)], seed=0)
        model(filled, mask).loss.backward()
    assert_close(dict(models[0].state_dict()), dict(models[1].state_dict()), rtol=0, atol=0)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert_close(one.grad, other.grad, rtol=0, atol=0)
    fillers = [x.masked_fill(~mask.unsqueeze(1), filler) for filler in (0, 255)]
    codes = [models[0].encode(filled, mask).flat() for filled in fillers]
    assert torch.equal(*codes)


def test_a_level_of_several_may_be_one_of_scales(tmp_path: Path):
    model, x, mask = with_scales(), images(5, 1), holes(5)
    out = model.eval()(x, mask)
    assert [spec.grid for spec in out.codes.specs] == [(4, 4), (74,)]
    assert torch.equal(model.encode(x, mask).flat(), out.codes.flat())
    expected = {name: mean.count for name, mean in out.objectives.items()}
    assert model.counts(x, mask) == expected
    assert_close(model.decode(out.codes), out.reconstruction, rtol=0, atol=0)
    model.save_pretrained(tmp_path)
    again = VQVAE.from_pretrained(tmp_path, model=with_scales())
    assert torch.equal(again.decode(out.codes), out.reconstruction)


def test_it_starts_from_whole_items_of_all_batches_evenly_thinned():
    model = small(SCALES)
    seen: list[tuple[Tensor, Tensor]] = []
    with (
        mock.patch.object(start, "MAX_VECTORS", 10 * 16 * 3),
        mock.patch.object(
            MultiScaleResidual, "initialize", lambda _, z_e, mask, **__: seen.append((z_e, mask))
        ),
    ):
        batches = [images(50, seed=1), images(7, seed=2), images(60, seed=3)]
        model.initialize(batches, seed=0)
        model.initialize(batches, seed=0)
    (z_e, mask), (same, _) = seen
    assert z_e.shape == (10 + 7 + 10, 4, 4, 4)
    assert mask.all()
    assert torch.equal(z_e, same)
    (own,) = model.eval()(batches[1]).z_e
    assert torch.equal(z_e[10:17], own)


def test_items_of_another_size_are_refused_by_their_grid():
    with pytest.raises(ValueError, match=r"the last of scales is \(4, 4\)"):
        small(SCALES)(images(2, size=32))
