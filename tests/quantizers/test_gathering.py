"""What must hold for vectors that are brought together."""

from pathlib import Path

import torch
from tests.pair import run_pair
from torch import Tensor

from vqkit import distributed
from vqkit.quantizers.gathering import framed, joined_items, joined_rows


def share() -> tuple[Tensor, Tensor | None]:
    """Two items of 2 x 3 with holes on rank 0, one whole item of 3 x 1 on rank 1."""
    if distributed.rank() == 0:
        return torch.arange(24.0).view(2, 2, 3, 2), torch.tensor([[True, True, False]] * 2).expand(
            2, 2, 3
        )
    return 100 + torch.arange(6.0).view(1, 3, 1, 2), None


def joined() -> tuple[Tensor, Tensor, Tensor]:
    return *joined_items(*share()), joined_rows(*share())


def test_items_of_ranks_with_other_grids_are_joined_in_one_frame(tmp_path: Path):
    pair = run_pair(joined, tmp_path)
    for z_e, real, rows in pair:
        assert z_e.shape == (3, 3, 3, 2)
        assert real.sum() == 8 + 3
        assert torch.equal(z_e[real], rows)
        assert real[:2, :2, :2].all()
        assert real[2, :, 0].all()


def test_a_frame_adds_nothing_that_is_real():
    z_e, mask = torch.randn(4, 3, 2), torch.rand(4, 3) > 0.5
    larger, real = framed(z_e, mask, (5,))
    assert larger.shape == (4, 5, 2)
    assert torch.equal(larger[real], z_e[mask])
    same, every = framed(z_e, None, (3,))
    assert same is z_e
    assert every.all()
