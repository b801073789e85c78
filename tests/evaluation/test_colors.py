"""What must hold for the colours of codes."""

import pytest
import torch

from vqkit.evaluation.colors import code_colors, oklab_to_srgb


def test_known_colours_are_converted():
    lab = torch.tensor(
        [[1, 0, 0], [0, 0, 0], [0.62796, 0.22486, 0.12585], [0.45201, -0.03246, -0.31153]],
        dtype=torch.float64,
    )  # white, black, red and blue, as the page of OKLab gives them
    expected = torch.tensor([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]])
    assert (oklab_to_srgb(lab).long() - expected).abs().max() <= 1


def test_equal_vectors_have_equal_colours_and_unequal_ones_mostly_not():
    torch.manual_seed(0)
    table = torch.randn(64, 8)
    indices = torch.randint(64, (1000,))
    colors = code_colors(table[indices])
    pairs = {(int(i), tuple(c)) for i, c in zip(indices, colors.tolist(), strict=True)}
    assert len(pairs) == len(indices.unique())
    assert len({color for _, color in pairs}) > 60


def test_near_vectors_have_near_colours():
    torch.manual_seed(0)
    vectors = torch.randn(300, 3) * torch.tensor([3.0, 2.0, 1.0])
    colors = code_colors(vectors).float()
    distances, differences = torch.cdist(vectors, vectors), torch.cdist(colors, colors)
    near = distances < distances.quantile(0.05)
    assert differences[near].mean() < 0.5 * differences.mean()


@pytest.mark.parametrize("shape", [(1, 4), (5, 1), (2, 2), (9, 64)])
def test_few_or_short_vectors_have_colours(shape: tuple[int, int]):
    assert code_colors(torch.randn(shape)).shape == (shape[0], 3)


def test_vectors_all_alike_have_one_colour():
    assert len(code_colors(torch.ones(7, 4)).unique(dim=0)) == 1
