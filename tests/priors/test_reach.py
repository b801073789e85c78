"""Slots behind the longest item of a batch are not computed, and nothing changes by that."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.codes import Codes, LevelSpec
from vqkit.nn.transformer import Transformer
from vqkit.priors import Lengths
from vqkit.priors.delay import DelayTransformerConfig
from vqkit.priors.sequence import SequencePrior, reach
from vqkit.priors.transformer import TransformerConfig

LINE = (LevelSpec((9,), (7, 5), "residual"),)
KINDS = {"transformer": TransformerConfig, "delay": DelayTransformerConfig}
every_kind = pytest.mark.parametrize("kind", KINDS)


def prior(kind: str) -> SequencePrior:
    torch.manual_seed(0)
    config = KINDS[kind](layers=2, width=16, heads=2)
    own = config.build(LINE, None, Lengths(((3,), (5,)), (2, 1)))
    for parameter in own.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return own.double().eval()


def codes(lengths: list[int]) -> Codes:
    torch.manual_seed(1)
    flat = torch.stack([torch.randint(0, 5, (18,)) for _ in lengths])
    mask = torch.arange(18) // 2 < torch.tensor(lengths).unsqueeze(1)
    return Codes.from_flat(flat.masked_fill(~mask, 0), LINE, mask)


@every_kind
@torch.no_grad()
def test_an_item_costs_the_same_beside_long_items_and_short_ones(kind: str):
    own = prior(kind)
    both, short = own.nats(codes([3, 9])), own.nats(codes([3, 2]))
    assert both.shape == short.shape == (2, 18)
    assert_close(both[0], short[0], rtol=1e-12, atol=1e-12)
    assert (short[0, 6:] == 0).all()
    assert (short[0, :6] > 0).all()


@pytest.mark.parametrize(("kind", "steps"), [("transformer", [6, 18, 1]), ("delay", [4, 10, 1])])
def test_no_slot_behind_the_longest_is_computed(
    kind: str, steps: list[int], monkeypatch: pytest.MonkeyPatch
):
    seen, forward = [], Transformer.forward

    def watched(self: Transformer, x: Tensor, *rest: object, **keys: object) -> Tensor:
        seen.append(x.shape[1])
        return forward(self, x, *rest, **keys)

    monkeypatch.setattr(Transformer, "forward", watched)
    own = prior(kind)
    for lengths in ([3, 2], [3, 9], [0, 0]):
        own.nats(codes(lengths))
    assert seen == steps


@every_kind
def test_gradients_are_those_of_the_whole(kind: str):
    own = prior(kind)
    own.loss(codes([3, 9, 2]))["nats_per_token"].total.backward()
    found = {name: p.grad.clone() for name, p in own.named_parameters() if p.grad is not None}
    own.zero_grad()
    for part in (slice(0, 1), slice(1, 2), slice(2, 3)):
        own.loss(codes([3, 9, 2])[part])["nats_per_token"].total.backward()
    for name, parameter in own.named_parameters():
        assert_close(found[name], parameter.grad, rtol=1e-9, atol=1e-12)


@every_kind
def test_short_items_are_drawn_in_as_few_steps_and_as_they_are_beside_long_ones(kind: str):
    own = prior(kind)
    alone, many = own.sample(1, seed=2), own.sample(8, seed=2)
    assert alone.flat_mask().sum() < 18
    assert alone.flat()[0].equal(many.flat()[0])
    assert alone.flat_mask()[0].equal(many.flat_mask()[0])


def test_the_reach_is_that_of_the_longest_and_at_least_one_slot():
    mask = torch.tensor([[True, True, False, False], [True, False, False, False]])
    assert reach(mask, 4) == 2
    assert reach(mask[:, 2:], 2) == 1
    assert reach(None, 4) == 4
