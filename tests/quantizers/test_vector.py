"""What must hold for a codebook trained by gradient in particular."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import Codebook, Quantized, VectorQuantizer


def worked_case() -> tuple[Quantized, Tensor, Tensor]:
    """One vector (1, 2) beside the entry (0, 0): squared error (1 + 4) / 2 = 2.5."""
    codebook = Codebook.from_entries(torch.tensor([[0.0, 0.0], [9.0, 9.0]]))
    z_e = torch.tensor([[1.0, 2.0]], requires_grad=True)
    return VectorQuantizer(2, 2, commitment=0.1, codebook=codebook)(z_e), z_e, codebook.entries


def test_the_loss_is_the_codebook_term_plus_commitment_times_the_commitment_term():
    out, _, _ = worked_case()
    assert {name: mean.value.item() for name, mean in out.terms.items()} == {
        "codebook": 2.5,
        "commitment": 2.5,
    }
    assert_close(out.loss, torch.tensor(2.5 + 0.1 * 2.5))


def test_the_loss_moves_encoder_and_entries_as_the_paper_says():
    out, z_e, entries = worked_case()
    out.loss.backward()
    assert_close(z_e.grad, 0.1 * torch.tensor([[1.0, 2.0]]))
    assert_close(entries.grad, torch.tensor([[-1.0, -2.0], [0.0, 0.0]]))


def test_the_codebook_term_reaches_only_the_entries():
    out, z_e, entries = worked_case()
    out.terms["codebook"].value.backward()
    assert z_e.grad is None
    assert entries.grad.count_nonzero() == 2


def test_the_commitment_term_reaches_only_the_encoder():
    out, z_e, entries = worked_case()
    out.terms["commitment"].value.backward()
    assert z_e.grad.count_nonzero() == 2
    assert entries.grad is None


def test_the_reconstruction_reaches_only_the_encoder():
    out, z_e, entries = worked_case()
    out.z_q.sum().backward()
    assert torch.equal(z_e.grad, torch.ones(1, 2))
    assert entries.grad is None


def test_losses_are_means_over_vectors_and_coordinates():
    torch.manual_seed(0)
    layer = VectorQuantizer(4, 8, commitment=0.25, codebook=Codebook.from_entries(torch.eye(8, 4)))
    z_e = torch.randn(50, 4)
    out = layer(z_e)
    by_hand = [
        sum((z_e[n, d].item() - out.z_q[n, d].item()) ** 2 for d in range(4)) / 4 for n in range(50)
    ]
    assert_close(out.loss.item(), 1.25 * sum(by_hand) / 50, rtol=1e-5, atol=0)


def test_gradient_descent_on_the_codebook_term_reaches_the_means_of_the_clusters():
    torch.manual_seed(0)
    layer = VectorQuantizer(
        4, 2, codebook=Codebook.from_entries(torch.tensor([[-1.0], [1.0]]) + torch.zeros(4))
    )
    z_e = torch.cat([torch.randn(50, 4) - 5, torch.randn(50, 4) + 5])
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    for _ in range(100):
        optimizer.zero_grad()
        layer(z_e).loss.backward()
        optimizer.step()
    expected = torch.stack([z_e[:50].mean(0), z_e[50:].mean(0)])
    assert_close(layer.codebook.entries.data, expected, rtol=0, atol=1e-3)


def test_a_shared_codebook_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="shape"):
        VectorQuantizer(2, 3, codebook=Codebook(2, 2))


@pytest.mark.parametrize("commitment", [-0.1, float("nan"), float("inf")])
def test_a_commitment_without_meaning_is_refused(commitment: float):
    with pytest.raises(ValueError, match="commitment"):
        VectorQuantizer(4, 8, commitment=commitment)
