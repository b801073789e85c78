"""What must hold for the bound on what rounding can swap."""

import pytest
import torch

from vqkit.quantizers.search.products import Table
from vqkit.quantizers.search.rounding import decide, uncertainty


@pytest.mark.parametrize("dim", [1, 8, 64, 512])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_no_score_is_off_by_more_than_half_the_bound(dim: int, offset: float):
    """Against scores in float64 of the vectors as they are, centred in float64."""
    torch.manual_seed(0)
    z, entries = 3 * torch.randn(500, dim) + offset, torch.randn(192, dim) + offset
    table = Table.of(entries)
    (block,) = table.blocks
    rows = torch.cat([z - table.center, torch.ones(500, 1)], 1)
    center = table.center.double()
    points, columns = z.double() - center, entries.double() - center
    exact = points @ columns.T - columns.square().sum(1) / 2
    bound = uncertainty(rows[:, :-1].norm(dim=1), table.longest, dim)
    assert ((rows @ block - exact).abs() <= bound.unsqueeze(1) / 2).all()
    assert (bound < 1e-5 * dim * (points.norm(dim=1) + 10) * columns.norm(dim=1).max()).all()


def test_distance_decides_only_among_scores_that_may_be_the_best():
    z = torch.tensor([[0.0], [0.0]])
    entries = torch.tensor([[3.0], [1.0], [2.0]])
    scores = torch.tensor([[5.0, 1.0, 4.0], [5.0, 1.0, 4.0]])
    assert decide(z, entries, scores, torch.tensor([3.0, 0.0])).tolist() == [2, 1]
