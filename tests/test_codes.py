"""What must hold for codes."""

import math

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from vqkit.codes import Codes, Level, LevelSpec

SIZES = ((8,), (16, 4))
GRIDS = ((2, 3), (5,))


def mask_of(shape: tuple[int, ...]) -> Tensor:
    return torch.arange(math.prod(shape)).reshape(shape) % 3 > 0


def codes(num: int = 4, *, masks: tuple[bool, bool] = (False, True), seed: int = 0) -> Codes:
    """Two levels: a plain one on a 2 x 3 grid, and a residual one of two stages on 5 positions."""
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for grid, sizes, structure, masked in zip(
        GRIDS, SIZES, ("flat", "residual"), masks, strict=True
    ):
        parts = [torch.randint(size, (num, *grid), generator=generator) for size in sizes]
        mask = mask_of((num, *grid)) if masked else None
        levels.append(Level(torch.stack(parts, dim=-1), sizes, structure, mask))
    return Codes(tuple(levels))


def assert_same(first: Codes, second: Codes) -> None:
    assert first.specs == second.specs
    for one, other in zip(first.levels, second.levels, strict=True):
        assert torch.equal(one.indices, other.indices)
        assert (one.mask is None) == (other.mask is None)
        assert one.mask is None or torch.equal(one.mask, other.mask)


def test_a_level_knows_its_spec():
    first, second = codes().specs
    assert first == LevelSpec((2, 3), (8,), "flat")
    assert second == LevelSpec((5,), (16, 4), "residual")
    assert (first.num_tokens, second.num_tokens) == (6, 10)
    assert (first.bits, second.bits) == (6 * 3, 5 * (4 + 2))


def test_plain_vectors_are_a_level_without_a_grid():
    level = Level(torch.zeros(7, 1, dtype=torch.int64), (8,))
    assert level.spec == LevelSpec((), (8,))
    assert level.spec.num_tokens == 1


def test_flat_is_levels_coarsest_first_then_raster_order_then_codebooks():
    flat = codes().flat()
    assert flat.shape == (4, 6 + 10)
    coarse, fine = (level.indices for level in codes().levels)
    for b in range(4):
        by_hand = [coarse[b, h, w, 0] for h in range(2) for w in range(3)]
        by_hand += [fine[b, t, q] for t in range(5) for q in range(2)]
        assert flat[b].tolist() == [int(index) for index in by_hand]


@pytest.mark.parametrize("masks", [(False, False), (False, True), (True, False), (True, True)])
def test_from_flat_is_the_inverse_of_flat(masks: tuple[bool, bool]):
    one = codes(masks=masks)
    again = Codes.from_flat(one.flat(), one.specs, one.flat_mask())
    assert again.specs == one.specs
    assert torch.equal(again.flat(), one.flat())
    for before, after in zip(one.levels, again.levels, strict=True):
        expected = torch.ones_like(before.indices[..., 0]).bool()
        expected = expected if before.mask is None else before.mask
        assert (after.mask is None) == (not any(masks))
        assert after.mask is None or torch.equal(after.mask, expected)


def test_without_masks_there_is_no_flat_mask():
    assert codes(masks=(False, False)).flat_mask() is None
    mask = codes(masks=(False, True)).flat_mask()
    assert mask is not None
    assert mask[:, :6].all()
    assert torch.equal(mask[:, 6:], mask_of((4, 5)).repeat_interleave(2, dim=1))


def test_items_are_sliced_in_every_level_and_mask():
    assert len(codes()) == 4
    part = codes()[1:3]
    assert len(part) == 2
    assert torch.equal(part.flat(), codes().flat()[1:3])
    mask, whole = part.flat_mask(), codes().flat_mask()
    assert mask is not None
    assert whole is not None
    assert torch.equal(mask, whole[1:3])


def test_slices_joined_again_are_the_whole():
    assert_same(Codes.cat([codes()[:1], codes()[1:1], codes()[1:]]), codes())


def test_a_batch_without_a_mask_joins_one_with_a_mask_as_all_real():
    joined = Codes.cat([codes(masks=(False, False)), codes(masks=(False, True))])
    assert joined.levels[0].mask is None
    mask = joined.levels[1].mask
    assert mask is not None
    assert mask[:4].all()
    assert torch.equal(mask[4:], mask_of((4, 5)))


def test_codes_move_to_a_device_with_their_masks():
    moved = codes().to("meta")
    assert all(level.indices.is_meta for level in moved.levels)
    assert moved.levels[1].mask is not None
    assert moved.levels[1].mask.is_meta


def test_codes_that_differ_in_kind_are_not_joined():
    other = Codes((codes().levels[0],))
    for parts in ([], [codes(), other]):
        with pytest.raises(ValueError, match="join codes of one tokenizer"):
            Codes.cat(parts)


@pytest.mark.parametrize("shape", [(4, 15), (4, 17), (64,)])
def test_rows_of_another_length_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="rows of 16"):
        Codes.from_flat(torch.zeros(shape, dtype=torch.int64), codes().specs)


def test_levels_whose_parts_do_not_fit_are_refused():
    indices = torch.zeros(4, 5, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="make the last axis 1 long"):
        Level(indices, (8,))
    with pytest.raises(ValueError, match="make the last axis 1 long"):
        Level(torch.zeros(4, dtype=torch.int64), (8,))
    with pytest.raises(ValueError, match="one element per position"):
        Level(indices, (8, 8), mask=torch.ones(4, 5, 2, dtype=torch.bool))


def test_a_spec_survives_json_and_refuses_nonsense():
    adapter = TypeAdapter(LevelSpec)
    for spec in codes().specs:
        assert adapter.validate_json(adapter.dump_json(spec)) == spec
    for bad in (
        {"grid": [0], "codebook_sizes": [8]},
        {"grid": [2], "codebook_sizes": []},
        {"grid": [2], "codebook_sizes": [0]},
        {"grid": [2], "codebook_sizes": [8], "structure": "tree"},
        {"grid": [2], "codebook_sizes": [8], "levels": 2},
    ):
        with pytest.raises(ValidationError):
            adapter.validate_python(bad)
