"""Compiled, every quantizer is one graph and does what it does otherwise."""

import copy

import pytest
import torch
from tests.quantizers.test_contract import CASES, DIM, EMA, gradients, train_step
from tests.quantizers.test_grid_contract import GRID_CASES, Case
from torch import Tensor
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from vqkit.quantizers import Hiding, Quantizer, ResidualConfig, SelectiveConfig

ALL = {
    **{name: Case(config, ()) for name, config in CASES.items()},
    **GRID_CASES,
    "residual dropout": Case(ResidualConfig(quantizer=EMA, stages=3, dropout=0.5), ()),
    "selective blocks": Case(SelectiveConfig(quantizer=EMA, hiding=Hiding(block=2)), (4, 6)),
}
KINDS = ["vq", "ema", "cosine simvq", "sampled ema", "balanced vq", "soft gumbel", "ibq", "fsq"]
KINDS += ["lfq", "latent", "residual dropout", "selective blocks", "scales of ema"]
# Of torch's own way to trace functions with a gradient of their own.
INSTANTIATED = "ignore:.*Function'> should not be instantiated:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(INSTANTIATED)]


def started(name: str) -> Quantizer:
    """A quantizer in its seventh step, in which entries are revived."""
    case = ALL[name]
    torch._dynamo.reset()
    torch.manual_seed(0)
    quantizer = case.config.build(DIM)
    quantizer.initialize(torch.randn(60 if case.grid else 500, *case.grid, DIM), seed=0)
    for step in range(6):
        train_step(quantizer, drifting(name, step, 50))
    quantizer.zero_grad()  # a copy would have none
    return quantizer


def drifting(name: str, step: int, num: int) -> Tensor:
    """Vectors that leave entries behind. (num, *grid, DIM)"""
    z_e = torch.randn(num, *ALL[name].grid, DIM)
    z_e[..., 0] += 3 * step
    return z_e


def check_step(quantizer: Quantizer, compiled: Quantizer, z_e: Tensor, mask: Tensor | None) -> None:
    """That both give the same indices, values, losses and gradients."""
    out, gradient = train_step(quantizer, z_e, mask)
    same, same_gradient = train_step(compiled, z_e, mask)
    assert torch.equal(out.indices, same.indices)
    assert torch.equal(out.z_q, same.z_q)
    assert_close(out.loss, same.loss)
    assert_close(gradient, same_gradient)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", ALL)
def test_one_forward_pass_is_one_graph_when_compiled(name: str, training: bool):
    quantizer = started(name).train(training)
    twin = copy.deepcopy(quantizer)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    for step in (6, 7):
        z_e = drifting(name, step, 50)
        check_step(quantizer, compiled, z_e, torch.rand(z_e.shape[:-1]) > 0.3)
        assert_close(gradients(quantizer), gradients(twin))
        assert_close(quantizer.state_dict(), twin.state_dict())


@pytest.mark.parametrize("name", KINDS)
def test_compiled_passes_of_unequal_sizes_are_committed_together(name: str):
    quantizer = started(name)
    quantizer.commit_in_forward = False
    twin = copy.deepcopy(quantizer)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    for step in (6, 7):
        for num in (50, 37):
            check_step(quantizer, compiled, drifting(name, step, num), None)
        quantizer.commit()
        twin.commit()
        assert_close(gradients(quantizer), gradients(twin))
        assert_close(quantizer.state_dict(), twin.state_dict())


@pytest.mark.parametrize("name", ["ema", "gumbel", "lfq", "residual dropout"])
def test_a_compiled_quantizer_that_is_checkpointed_is_refused(name: str):
    """It cannot tell that it runs again, and would count its vectors twice."""
    compiled = torch.compile(started(name), backend="aot_eager", fullgraph=True)

    def loss(z_e: Tensor) -> Tensor:
        out = compiled(z_e)
        return out.loss + out.z_q.square().sum()

    z_e = torch.randn(50, DIM, requires_grad=True)
    with pytest.raises(RuntimeError, match="leave it out of what is compiled"):
        checkpoint(loss, z_e, use_reentrant=False).backward()  # pyright: ignore
    with pytest.raises(RuntimeError, match="checkpoint"):  # torch's own words
        torch.compile(checkpoint, backend="aot_eager", fullgraph=True)(
            started(name), z_e, use_reentrant=False
        )
