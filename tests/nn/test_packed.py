"""Packed layers compute what the layers do that they are made of."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from vqkit.nn import packed
from vqkit.nn.packed import PackedLinear

SIZES = [(16, 48), (48, 16), (7, 5), (256, 256)]


@pytest.mark.parametrize("rows", [0, 1, 2, 16, 33])
@pytest.mark.parametrize(("before", "after"), SIZES)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@torch.no_grad()
def test_it_is_the_layer_it_is_made_of(
    rows: int, before: int, after: int, dtype: torch.dtype, atol: float
):
    torch.manual_seed(0)
    linear, x = nn.Linear(before, after).to(dtype), torch.randn(rows, before, dtype=dtype)
    made = PackedLinear(linear, rows)
    assert_close(made(x), linear(x), rtol=0, atol=atol)
    assert_close(made.gelu(x), F.gelu(linear(x)), rtol=0, atol=atol)


@torch.no_grad()
def test_where_nothing_can_be_packed_it_is_the_plain_product(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed, "can_pack", lambda weight: False)
    linear, x = nn.Linear(8, 12), torch.randn(4, 8)
    made = PackedLinear(linear, 4)
    assert made.packed is None
    assert_close(made(x), linear(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("before", "after"), SIZES)
@torch.no_grad()
def test_it_keeps_the_weights_it_was_made_of(before: int, after: int):
    linear, x = nn.Linear(before, after), torch.randn(4, before)
    for rows in (1, 4):
        made, expected = PackedLinear(linear, rows), linear(x[:rows])
        linear.weight.add_(1)
        linear.bias.add_(1)
        assert_close(made(x[:rows]), expected, rtol=1e-5, atol=1e-5)
