"""What must hold for models of several levels."""

import itertools

import pytest
import torch
from tests.autoencoder.models import Merge, Pyramid, images, levels
from torch import nn
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.autoencoder.hierarchy import level_mask
from vqkit.modalities.image import GaussianObjective
from vqkit.quantizers import EMAVectorQuantizer


@pytest.mark.parametrize("num", [1, 2, 3])
@pytest.mark.parametrize("top_down", [True, False])
def test_decoded_codes_are_the_reconstruction_of_any_number_of_levels(num: int, top_down: bool):
    model = levels(num, top_down=top_down).eval()
    out = model(images(5, 1))
    codes = model.encode(images(5, 1))
    assert torch.equal(codes.flat(), out.codes.flat())
    assert torch.equal(model.decode(codes), out.reconstruction)


def test_levels_go_from_coarse_to_fine_each_with_its_own_names():
    model = levels(3)
    out = model(images(5, 1))
    assert [spec.grid for spec in out.codes.specs] == [(2, 2), (4, 4), (8, 8)]
    assert [spec.codebook_sizes for spec in out.codes.specs] == [(8,), (9,), (10,)]
    assert [z_e.shape for z_e in out.z_e] == [(5, 2, 2, 4), (5, 4, 4, 4), (5, 8, 8, 4)]
    quantizers = ["quantizer_0", "quantizer_1", "quantizer_2"]
    assert list(out.objectives) == ["reconstruction", *quantizers]
    assert list(out.terms) == ["commitment_0", "commitment_1", "commitment_2"]
    assert list(model.codebooks()) == quantizers
    assert_close(out.loss, sum(mean.value for mean in out.objectives.values()))


def test_a_finer_level_is_told_what_the_coarser_ones_became():
    model = levels(3).eval()
    before = model(images(5, 1))
    model.codebooks()["quantizer_0"].entries.data += 5
    after = model(images(5, 1))
    assert torch.equal(before.z_e[0], after.z_e[0])
    assert not torch.equal(before.z_e[1], after.z_e[1])
    assert not torch.equal(before.z_e[2], after.z_e[2])


def test_without_top_down_modules_the_levels_are_quantized_apart():
    model = levels(2, top_down=False).eval()
    before = model(images(5, 1))
    model.codebooks()["quantizer_0"].entries.data += 5
    assert torch.equal(before.z_e[1], model(images(5, 1)).z_e[1])


def test_each_level_starts_from_what_it_will_see():
    model = levels(3).eval()
    out = model(torch.cat([images(6, 1), images(6, 1, seed=1)]))
    for level, z_e in enumerate(out.z_e):
        error = out.terms[f"commitment_{level}"].value
        assert error < 0.7 * z_e.var(dim=(0, 1, 2)).mean()
        assert len(out.codes.levels[level].indices.unique()) == 8 + level


def test_counts_of_all_levels_are_those_of_the_forward_under_a_mask():
    model, x = levels(3), images(4, 1)
    mask = torch.zeros(4, 16, 16, dtype=torch.bool)
    mask[0], mask[1, :5, :9], mask[2, :1, :1] = True, True, True
    for given in (mask, None):
        expected = {name: mean.count for name, mean in model(x, given).objectives.items()}
        assert model.counts(x, given) == expected


@pytest.mark.parametrize("grid", [(16, 16), (8, 8), (4, 2), (3, 5)])
def test_a_code_is_real_where_any_of_its_inputs_is(grid: tuple[int, int]):
    mask = torch.rand(3, 16, 16) > 0.95
    real = level_mask(mask, grid)
    for i, j in itertools.product(range(grid[0]), range(grid[1])):
        top, bottom = i * 16 // grid[0], -(-(i + 1) * 16 // grid[0])
        left, right = j * 16 // grid[1], -(-(j + 1) * 16 // grid[1])
        assert torch.equal(real[:, i, j], mask[:, top:bottom, left:right].flatten(1).any(1))


@pytest.mark.parametrize(
    ("shape", "grid"), [((3,), ()), ((3, 12), (4,)), ((3, 4, 4, 4), (2, 2, 2)), ((3, 4, 4), (6,))]
)
def test_masks_of_any_rank_find_their_codes(shape: tuple, grid: tuple):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[1] = True
    real = level_mask(mask, grid)
    assert real.shape == (3, *grid)
    assert real[1].all()
    assert not real[0].any()


def test_a_wrong_number_of_parts_is_refused():
    quantizers = [EMAVectorQuantizer(4, 8), EMAVectorQuantizer(4, 8)]
    objective = GaussianObjective()
    with pytest.raises(ValueError, match="quantizers are none"):
        VQVAE(Pyramid(2), [], Merge(2), objective)
    with pytest.raises(ValueError, match="top_down has 2 modules for 2 levels; give 1"):
        VQVAE(Pyramid(2), quantizers, Merge(2), objective, top_down=[nn.Identity()] * 2)
    with pytest.raises(ValueError, match="the encoder gave 3 levels, there are 2 quantizers"):
        VQVAE(Pyramid(3), quantizers, Merge(2), objective)(images(1, 1))
