"""Joining examples."""

import pytest
import torch
from torch import Tensor

from vqkit.data import Example, collate


def images(*sizes: tuple[int, int]) -> list[Example]:
    return [Example(torch.randint(1, 256, (3, *size)).to(torch.uint8)) for size in sizes]


def test_bytes_stay_bytes_and_equal_shapes_need_no_mask():
    examples = images((4, 5), (4, 5))
    batch = collate(examples, [7, 9])
    assert batch.x.dtype == torch.uint8
    assert torch.equal(batch.x[1], examples[1].x)
    assert batch.mask is None
    assert batch.labels is None
    assert batch.positions.tolist() == [7, 9]
    assert len(batch) == 2


@pytest.mark.parametrize("axes", [(), (3,)], ids=["positions alone", "channels first"])
def test_unequal_lengths_are_padded_with_zeros_and_masked(axes: tuple[int, ...]):
    xs = [torch.rand(*axes, length) for length in (2, 5, 0)]
    batch = collate([Example(x) for x in xs], range(3))
    assert batch.mask is not None
    assert batch.mask.tolist() == [[i < x.shape[-1] for i in range(5)] for x in xs]
    for row, mask, x in zip(batch.x, batch.mask, xs, strict=True):
        assert torch.equal(row[..., mask], x)
        assert not row[..., ~mask].any()


def test_masks_of_examples_are_kept_under_padding():
    part = torch.tensor([True, False, True])
    batch = collate([Example(torch.ones(3), mask=part), Example(torch.ones(4))], [0, 1])
    assert batch.mask is not None
    assert batch.mask.tolist() == [[True, False, True, False], [True] * 4]


def test_images_of_unequal_sizes_share_a_mask_over_channels():
    batch = collate(images((2, 3), (4, 1)), [0, 1])
    assert batch.x.shape == (2, 3, 4, 3)
    assert batch.mask is not None
    assert batch.mask.sum((1, 2)).tolist() == [6, 4]
    assert torch.equal(batch.mask, (batch.x != 0).all(1))


def test_labels_are_joined():
    batch = collate([Example(torch.zeros(1), label) for label in (3, 0)], [0, 1])
    assert batch.labels is not None
    assert batch.labels.tolist() == [3, 0]
    assert batch.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "examples is empty"),
        ([Example(torch.zeros(1), 0), Example(torch.zeros(1))], "label all or none"),
        ([Example(torch.zeros(1)), Example(torch.zeros(1).long())], "make them alike"),
        ([Example(torch.zeros(3, 1)), Example(torch.zeros(1, 1))], "make them alike"),
        ([Example(torch.zeros(3)), Example(torch.zeros(3, 1))], "make them alike"),
        ([Example(torch.zeros(3), mask=torch.ones(2).bool())], "mask has shape"),
    ],
)
def test_examples_that_do_not_fit_together_are_refused(examples: list[Example], message: str):
    with pytest.raises(ValueError, match=message):
        collate(examples, range(len(examples)))


def test_a_batch_moves_with_all_its_tensors():
    examples = [Example(torch.zeros(length), length) for length in (1, 2)]
    moved = collate(examples, [0, 1]).to("meta")
    parts = (moved.x, moved.mask, moved.labels, moved.positions)
    assert all(isinstance(part, Tensor) and part.is_meta for part in parts)
