"""A step of training is that of float64 far from the origin, and the same under autocast."""

import copy

import pytest
import torch
from tests.quantizers.test_contract import CASES, DIM, LEARNED, WITH_NETWORKS
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from vqkit.quantizers import Codebook, Quantizer
from vqkit.quantizers.kmeans import kmeans
from vqkit.quantizers.revival import Candidates, costs_of_removal, gains
from vqkit.quantizers.scores import scores_in_chunks

FAR = 1000.0
WITHOUT_NETWORKS = [n for n in CASES if n not in WITH_NETWORKS]
# What is on a sphere is not far; SimVQ's map would have to be found again by training.
IN_SPACE = [n for n in LEARNED if not {*n.split()} & {"cosine", "simvq"}] + ["residual beams"]


def started(name: str, center: float = 0.0) -> Quantizer:
    torch.manual_seed(0)
    quantizer = CASES[name].build(DIM)
    quantizer.initialize(torch.randn(500, DIM) + center, seed=0)
    return quantizer


@pytest.mark.parametrize("name", WITHOUT_NETWORKS)
def test_autocast_changes_nothing(name: str):
    """Where only elementwise arithmetic and protected products are."""
    quantizer = started(name)
    for book in quantizer.codebooks():
        book.unused_for += 10**6  # what nobody uses now is revived
    twin, z_e = copy.deepcopy(quantizer), torch.randn(60, DIM)
    found = []
    for one, enabled in ((quantizer, False), (twin, True)):
        leaf = z_e.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = one(leaf)
            loss = out.loss - (out.z_q * torch.arange(DIM)).sum()
            indices = one.encode(z_e)
            assert torch.equal(one.decode(indices), one.eval()(z_e).z_q)
        loss.backward()
        found.append((out.indices, indices, out.z_q, out.loss, leaf.grad, dict(one.state_dict())))
    assert_close(*found)


@pytest.mark.parametrize("name", IN_SPACE)
def test_far_from_the_origin_a_step_is_that_of_float64(name: str):
    """Of the same vectors and entries; a draw next to an edge may fall on the other side of it."""
    quantizer = started(name, FAR)
    for training in (True, False):
        twin = copy.deepcopy(quantizer).double()
        z_e = torch.randn(400, DIM) + FAR
        out = quantizer.train(training)(z_e)
        exact = twin.train(training)(z_e.double())
        assert (out.indices == exact.indices).float().mean() > 0.99
        assert out.loss.item() == pytest.approx(exact.loss.item(), rel=0.02, abs=1e-3)


def test_the_precision_that_the_user_chose_for_products_holds_in_no_choice():
    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm_.default):
                seen.append(torch.backends.mkldnn.matmul.fp32_precision)
            return func(*args, **(kwargs or {}))

    seen: list[str] = []
    book, z = Codebook(16, DIM), torch.randn(50, DIM)
    torch.set_float32_matmul_precision("medium")
    try:
        with Seen():
            # Where draws, prices and beams have their scores, inside operators that hide them.
            list(scores_in_chunks(z, book.table))
            kmeans(z, 16, seed=0)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert len(seen) > 10
    assert set(seen) == {"ieee"}


def test_far_from_the_origin_a_start_is_as_good():
    torch.manual_seed(0)
    points = torch.randn(2000, DIM)

    def error(center: float) -> float:
        entries = kmeans(points + center, 64, seed=0, iterations=0).entries.double() - center
        return torch.cdist(points.double(), entries).amin(1).square().mean().item()

    assert error(10 * FAR) == pytest.approx(error(0.0), rel=0.05)


def test_far_from_the_origin_what_revival_gains_and_costs_is_that_of_float64():
    torch.manual_seed(0)
    entries, z = torch.randn(32, DIM) + FAR, torch.randn(500, DIM) + FAR
    rows, dead = torch.arange(32), torch.arange(32) % 4 == 0

    def found(entries: Tensor, z: Tensor) -> Tensor:
        errors = torch.cdist(z.double() - FAR, entries.double() - FAR).amin(1).square() / DIM
        one = Candidates(z, errors.to(z.dtype), torch.ones(500, dtype=torch.bool))
        shares = torch.ones(32, dtype=z.dtype)
        return torch.cat(
            [gains([one], entries, z[:20]), costs_of_removal(entries, rows, dead, shares)]
        )

    exact = found(entries.double(), z.double())
    assert_close(found(entries, z).double(), exact, rtol=1e-2, atol=1e-3)
