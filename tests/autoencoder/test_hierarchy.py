"""What must hold for models of several levels."""

import copy
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.autoencoder.models import Merge, Pyramid, built, images, levels
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.autoencoder.hierarchy import level_mask
from vqkit.modalities.image import GaussianObjective
from vqkit.quantizers import EMAConfig, EMAVectorQuantizer, FSQConfig, ResidualConfig, VQConfig

Make = Callable[[int], VQVAE]
MAKERS = {"own": levels, "apart": partial(levels, top_down=False), "config": built}


@pytest.fixture(params=["own", "config"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a model of so many levels: of the user's own modules, or of a config."""
    return MAKERS[request.param]


def masked() -> Tensor:
    """Where images are real: all, a part, a corner, nothing. (4, 16, 16) bool"""
    mask = torch.zeros(4, 16, 16, dtype=torch.bool)
    mask[0], mask[1, :5, :9], mask[2, :1, :1] = True, True, True
    return mask


@pytest.mark.parametrize("num", [1, 2, 3])
@pytest.mark.parametrize("kind", MAKERS)
def test_decoded_codes_are_the_reconstruction_of_any_number_of_levels(num: int, kind: str):
    model = MAKERS[kind](num).eval()
    out = model(images(5, 1))
    codes = model.encode(images(5, 1))
    assert torch.equal(codes.flat(), out.codes.flat())
    assert torch.equal(model.decode(codes), out.reconstruction)


def test_levels_go_from_coarse_to_fine_each_with_its_own_names(make: Make):
    model = make(3)
    out = model(images(5, 1))
    assert [spec.grid for spec in out.codes.specs] == [(2, 2), (4, 4), (8, 8)]
    assert [spec.codebook_sizes for spec in out.codes.specs] == [(8,), (9,), (10,)]
    assert [z_e.shape for z_e in out.z_e] == [(5, 2, 2, 4), (5, 4, 4, 4), (5, 8, 8, 4)]
    quantizers = ["quantizer_0", "quantizer_1", "quantizer_2"]
    assert list(out.objectives) == ["reconstruction", *quantizers]
    assert list(out.terms) == ["commitment_0", "commitment_1", "commitment_2"]
    assert list(model.codebooks()) == quantizers
    assert_close(out.loss, sum(mean.value for mean in out.objectives.values()))


def test_a_finer_level_is_told_what_the_coarser_ones_became(make: Make):
    model = make(3).eval()
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


def test_each_level_starts_from_what_it_will_see(make: Make):
    model = make(3).eval()
    out = model(torch.cat([images(6, 1), images(6, 1, seed=1)]))
    for level, z_e in enumerate(out.z_e):
        error = out.terms[f"commitment_{level}"].value
        assert error < 0.7 * z_e.var(dim=(0, 1, 2)).mean()
        assert len(out.codes.levels[level].indices.unique()) == 8 + level


def test_counts_of_all_levels_are_those_of_the_forward_under_a_mask(make: Make):
    model, x = make(3), images(4, 1)
    for given in (masked(), None):
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


@pytest.mark.parametrize("num", [2, 3])
def test_what_padding_holds_changes_nothing_at_any_level(make: Make, num: int):
    mask, results = masked(), []
    for filler in (0, 255):
        model, x = make(num), images(4, 1).masked_fill(~mask.unsqueeze(1), filler)
        model.initialize([(x, mask), images(6, 1)], seed=0)
        out = model(x, mask)
        out.loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        codes = model.encode(x, mask)
        results.append((out.loss, codes.flat(), gradients, dict(model.state_dict())))
        for level in codes.levels:
            assert torch.equal(level.mask, level_mask(mask, level.indices.shape[1:-1]))
            assert not level.indices[~level.mask].any()
        assert_close(model.eval().decode(codes), model(x, mask).reconstruction, rtol=0, atol=0)
    assert_close(results[1], results[0], rtol=0, atol=0)


@pytest.mark.parametrize("num", [2, 3])
@pytest.mark.parametrize("gradient", [False, True])
def test_every_part_of_a_built_model_learns(num: int, gradient: bool):
    model = built(num, gradient=gradient)
    model(images(6, 1)).loss.backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert all(grad is not None and grad.abs().sum() > 0 for grad in trained.values())


def test_levels_may_have_unlike_quantizers(tmp_path: Path):
    ema = EMAConfig(codebook_size=8)
    kinds = FSQConfig(levels=(3, 3, 3, 3)), ResidualConfig(quantizer=ema, stages=2), VQConfig()
    model = built(3, *kinds[:2], VQConfig(codebook_size=16))
    out = model(images(5, 1))
    assert [spec.codebook_sizes for spec in out.codes.specs] == [(81,), (8, 8), (16,)]
    assert list(model.codebooks()) == ["quantizer_1 stage 0", "quantizer_1 stage 1", "quantizer_2"]
    out.loss.backward()
    model.eval().save_pretrained(tmp_path)
    opened = VQVAE.from_pretrained(tmp_path)
    codes = model.encode(images(5, 1))
    assert opened.config == model.config
    assert opened.fingerprint() == model.fingerprint()
    assert torch.equal(opened.encode(images(5, 1)).flat(), codes.flat())
    assert torch.equal(opened.decode(codes), model.decode(codes))


@pytest.mark.parametrize("num", [2, 3])
def test_a_saved_model_of_levels_trains_on_bit_for_bit(num: int, tmp_path: Path):
    model = built(num)
    model(images(6, 1))
    model.save_pretrained(tmp_path)
    opened = VQVAE.from_pretrained(tmp_path).train()
    for seed in range(3):
        assert torch.equal(
            model(images(6, 1, seed=seed)).loss, opened(images(6, 1, seed=seed)).loss
        )
    assert_close(dict(opened.state_dict()), dict(model.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("num", [2, 3])
def test_the_fingerprint_changes_with_every_part_of_a_model_of_levels(num: int):
    model = built(num)
    names = [model.fingerprint()]
    for part in (model.encoder, *model.quantizers, *model.top_down, model.decoder):
        next(part.parameters()).data[0] += 1e-3
        names.append(model.fingerprint())
    assert len(set(names)) == len(names)


def test_two_forwards_and_one_commit_move_the_codebooks_of_all_levels_as_the_joined_batch():
    whole = built(3)
    for quantizer in whole.quantizers:
        quantizer.commit_in_forward = False
    split, x = copy.deepcopy(whole), images(6, 1, seed=3)
    before = copy.deepcopy(whole.state_dict())
    whole(x)
    split(x[:2])
    split(x[2:])
    whole.commit()
    split.commit()
    assert_close(split.state_dict(), whole.state_dict())
    for name in ("quantizers.0", "quantizers.1", "quantizers.2"):
        key = f"{name}.codebook.entries"
        assert not torch.equal(before[key], whole.state_dict()[key])
