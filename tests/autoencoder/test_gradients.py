"""Which part of the model each term of the loss moves."""

import pytest
import torch
from tests.autoencoder.models import images, levels, small
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.autoencoder.output import Output
from vqkit.quantizers import EMAConfig, VQConfig

PARTS = ("encoder", "quantizers", "top_down", "decoder")


def moved_by(model: VQVAE, loss: Tensor) -> set[str]:
    """Names of the parts, with their level where there are several, that have a gradient."""
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    moved = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    return {part(name) for name in moved}


def part(name: str) -> str:
    first, second = name.split(".")[:2]
    return f"{first}.{second}" if first in ("quantizers", "top_down") else first


def output(model: VQVAE) -> Output:
    for quantizer in model.quantizers:
        quantizer.commit_in_forward = False
    return model(images(6, 3 if model.config else 1))


@pytest.fixture
def by_gradient() -> VQVAE:
    return small(VQConfig(codebook_size=16))


def test_the_reconstruction_moves_encoder_and_decoder(by_gradient: VQVAE):
    out = output(by_gradient)
    loss = out.objectives["reconstruction"].value
    assert moved_by(by_gradient, loss) == {"encoder", "decoder"}


def test_the_codebook_term_moves_the_entries_alone(by_gradient: VQVAE):
    assert moved_by(by_gradient, output(by_gradient).terms["codebook"].value) == {"quantizers.0"}


def test_the_commitment_moves_the_encoder_alone(by_gradient: VQVAE):
    assert moved_by(by_gradient, output(by_gradient).terms["commitment"].value) == {"encoder"}


def test_every_parameter_of_encoder_and_decoder_has_a_gradient(by_gradient: VQVAE):
    output(by_gradient).loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in by_gradient.parameters())


def test_beta_weighs_the_commitment_and_not_the_codebook_term(by_gradient: VQVAE):
    """Hand-worked: of means over N x D values, 2 (e - z) and beta 2 (z - e), each over N x D."""
    out = output(by_gradient)
    book, (z_e,) = by_gradient.codebooks()["quantizer"], out.z_e
    indices = out.codes.levels[0].indices.flatten()
    pull = 2 * (z_e.flatten(0, -2) - book.entries[indices]).detach() / z_e.numel()
    on_entries = torch.zeros_like(book.entries).index_add_(0, indices, -pull)
    found = torch.autograd.grad(out.objectives["quantizer"].value, [z_e, book.entries])
    assert_close(found[0].flatten(0, -2), 0.25 * pull, rtol=1e-4, atol=1e-9)
    assert_close(found[1], on_entries, rtol=1e-4, atol=1e-9)


def test_averaged_entries_are_moved_by_no_term():
    model = small(EMAConfig(codebook_size=16))
    out = output(model)
    assert moved_by(model, out.loss) == {"encoder", "decoder"}
    assert moved_by(model, out.terms["commitment"].value) == {"encoder"}
    assert not any(
        name.startswith("quant") for name, p in model.named_parameters() if p.requires_grad
    )


def test_the_encoder_gets_the_decoders_gradient_unchanged(by_gradient: VQVAE):
    """The straight-through estimator: d loss / d z_e is d loss / d z_q."""
    seen: dict[str, Tensor] = {}

    def watch_decoder(module: nn.Module, args: tuple[Tensor]) -> None:
        args[0].register_hook(lambda gradient: seen.update(z_q=gradient))

    def watch_encoder(module: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        out.register_hook(lambda gradient: seen.update(z_e=gradient))

    by_gradient.decoder.register_forward_pre_hook(watch_decoder)
    by_gradient.encoder.register_forward_hook(watch_encoder)
    output(by_gradient).objectives["reconstruction"].value.backward()
    assert torch.equal(seen["z_e"], seen["z_q"])
    assert seen["z_e"].any()


def test_each_term_of_a_hierarchy_moves_its_own_level_and_what_comes_before_it():
    model = levels(2, gradient=True)
    out = output(model)
    assert moved_by(model, out.objectives["reconstruction"].value) == {
        "encoder",
        "top_down.0",
        "decoder",
    }
    assert moved_by(model, out.terms["codebook_0"].value) == {"quantizers.0"}
    assert moved_by(model, out.terms["codebook_1"].value) == {"quantizers.1"}
    assert moved_by(model, out.terms["commitment_0"].value) == {"encoder"}
    assert moved_by(model, out.terms["commitment_1"].value) == {"encoder", "top_down.0"}
