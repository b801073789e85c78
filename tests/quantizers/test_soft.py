"""What must hold for quantizers whose training weighs all entries."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit.quantizers import (
    Annealing,
    Codebook,
    GumbelQuantizer,
    IndexBackpropQuantizer,
    StochasticQuantizer,
)
from vqkit.quantizers import soft as module
from vqkit.quantizers.soft import weigh

DIM, SIZE = 4, 8


def book() -> Codebook:
    return Codebook.from_entries(torch.randn(SIZE, DIM, dtype=torch.float64))


def probabilities(z: Tensor, entries: Tensor, precision: float = 1.0) -> Tensor:
    """Written out: softmax(-precision |z - e|^2 / D). (N, D), (K, D) -> (N, K)"""
    return (-precision * (z.unsqueeze(1) - entries).square().mean(-1)).softmax(-1)


def own_precision(entries: Tensor) -> float:
    """That of a layer whose log_precision is 0: 1 over the entries' variance."""
    return 1 / float((entries - entries.mean(0)).detach().square().mean())


@pytest.mark.parametrize("size", [1e-6, 1e6])
@pytest.mark.parametrize("kind", [GumbelQuantizer, StochasticQuantizer, IndexBackpropQuantizer])
def test_an_encoder_whose_outputs_grow_or_shrink_with_the_entries_gets_the_same_gradient(
    kind: type[GumbelQuantizer | StochasticQuantizer | IndexBackpropQuantizer], size: float
):
    entries, z = torch.randn(SIZE, DIM).double(), torch.randn(50, DIM).double()
    upstream = torch.randn(50, DIM).double()
    found = []
    for scale in (1.0, size):
        torch.manual_seed(0)
        layer = kind(DIM, SIZE, revive=False, codebook=Codebook.from_entries(scale * entries))
        given = (scale * z).requires_grad_()
        out = layer.double()(given)
        found.append((out.indices, *torch.autograd.grad((out.z_q * upstream).sum(), given)))
    assert_close(found[1], found[0])


def test_entries_are_drawn_with_the_probabilities_of_their_distances():
    layer = GumbelQuantizer(DIM, SIZE, revive=False, codebook=book()).double()
    z = torch.randn(DIM, dtype=torch.float64)
    entries = layer.codebook.entries
    expected = probabilities(z.unsqueeze(0), entries, own_precision(entries))[0].detach()
    num = 40_000
    counts = layer(z.expand(num, DIM)).indices.flatten().bincount(minlength=SIZE)
    spread = (num * expected * (1 - expected)).sqrt()
    assert ((counts - num * expected).abs() < 5 * spread).all()


def test_at_first_a_vector_becomes_an_average_and_then_an_entry():
    annealing = Annealing(start=2, end=0.5, steps=4, soft_steps=2)
    layer = GumbelQuantizer(DIM, SIZE, annealing=annealing, revive=False, codebook=book())
    temperatures = [annealing.temperature(torch.tensor(step)).item() for step in range(6)]
    assert temperatures == pytest.approx([2, 2**0.5, 1, 0.5**0.5, 0.5, 0.5])
    for step in range(4):
        out = layer(torch.randn(50, DIM, dtype=torch.float64))
        is_entry = (out.z_q == layer.codebook.lookup(out.indices.squeeze(-1))).all(-1)
        assert is_entry.all() if step >= 2 else not is_entry.any()
    layer.eval()
    out = layer(torch.randn(50, DIM, dtype=torch.float64))
    assert torch.equal(out.z_q, layer.decode(out.indices))


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_weights_made_a_few_rows_at_a_time_have_the_gradients_of_all(
    monkeypatch: pytest.MonkeyPatch, rows: int
):
    monkeypatch.setattr(module, "SCORES_PER_CHUNK", rows * SIZE)
    z, table = torch.randn(20, DIM).double(), torch.randn(SIZE, DIM).double()
    inputs = [x.requires_grad_() for x in (z, table, torch.tensor(3.0).double())]
    found = weigh(*inputs)
    shares = probabilities(*inputs)
    assert_close(found.average, shares @ table)
    assert_close(found.entropy, -(shares * shares.log()).sum(-1))
    gaps = (z.unsqueeze(1) - table).square().mean(-1)
    assert_close(found.gap, (shares * gaps).sum(-1))
    loss = found.average.square().sum() + found.entropy.sum() + found.gap.sum()
    dense = (shares @ table).square().sum() - (shares * (shares.log() - gaps)).sum()
    assert_close(torch.autograd.grad(loss, inputs), torch.autograd.grad(dense, inputs))


def test_the_gradient_of_an_index_is_that_of_its_softmax():
    """The paper's one-hot - sg(p) + p, times the entries, written out."""
    layer = IndexBackpropQuantizer(DIM, SIZE, revive=False, codebook=book()).double()
    z = torch.randn(20, DIM, dtype=torch.float64, requires_grad=True)
    out, upstream = layer(z), torch.randn(20, DIM, dtype=torch.float64)
    entries = layer.codebook.entries
    shares = probabilities(z, entries, own_precision(entries))
    one_hot = torch.nn.functional.one_hot(out.indices.squeeze(-1), SIZE).double()
    weights = one_hot - shares.detach() + shares
    expected = one_hot @ entries + (weights - one_hot) @ entries.detach()
    assert_close(out.z_q, expected)
    assert_close(
        torch.autograd.grad((out.z_q * upstream).sum(), [z, entries]),
        torch.autograd.grad((expected * upstream).sum(), [z, entries]),
    )


def test_the_losses_of_drawing_are_those_of_a_loop_over_real_vectors():
    """Means over vectors, and over nothing else: however many there are, and beside padding."""
    z, mask = torch.randn(3, 5, DIM, dtype=torch.float64), torch.rand(3, 5) > 0.4
    for kind, weight in ((GumbelQuantizer, 0.3), (StochasticQuantizer, 0.7)):
        layer = kind(DIM, SIZE, weight=weight, revive=False, codebook=book()).double()
        layer.log_precision.data.fill_(0.8)
        entries = layer.codebook.entries.detach()
        precision = math.exp(0.8) * own_precision(entries)
        entropies, gaps = [], []
        for vector in z[mask]:
            squares = [float((vector - entry).square().mean()) for entry in entries]
            scores = [math.exp(-precision * square) for square in squares]
            shares = [score / sum(scores) for score in scores]
            entropies.append(-sum(share * math.log(share) for share in shares))
            gaps.append(sum(share * gap for share, gap in zip(shares, squares, strict=True)))
        entropy, gap = (sum(parts) / len(parts) for parts in (entropies, gaps))
        expected = weight / DIM * (precision * gap - entropy)
        if kind is GumbelQuantizer:
            expected = weight * (math.log(SIZE) - entropy)
        out = layer(z, mask)
        assert out.loss.item() == pytest.approx(expected)
        terms = {name: mean.value.item() for name, mean in out.terms.items()}
        by_hand = {"entropy": entropy, "distance": precision * gap}
        by_hand["divergence"] = math.log(SIZE) - entropy
        assert terms == pytest.approx({name: by_hand[name] for name in terms})


def test_beta_of_index_backpropagation_weighs_the_encoders_term_alone():
    """By autograd of the equations, written out."""
    layer = IndexBackpropQuantizer(DIM, SIZE, commitment=0.1, revive=False, codebook=book())
    layer = layer.double()
    z = torch.randn(20, DIM, dtype=torch.float64, requires_grad=True)
    out, entries = layer(z), layer.codebook.entries
    chosen = entries[out.indices.squeeze(-1)]
    shares = probabilities(z, entries, own_precision(entries))
    z_q = chosen + (shares - shares.detach()) @ entries.detach()
    loss = (z_q - z.detach()).square().mean() + 0.1 * (z - chosen.detach()).square().mean()
    assert_close(out.loss, loss)
    inputs = [z, entries]
    assert_close(torch.autograd.grad(out.loss, inputs), torch.autograd.grad(loss, inputs))


def test_the_variance_of_stochastic_quantization_falls_to_that_of_the_clusters():
    centers = 3 * torch.randn(SIZE, DIM)
    layer = StochasticQuantizer(DIM, SIZE, annealing=Annealing(steps=50))
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    for _ in range(150):
        z = centers[torch.randint(SIZE, (256,))] + 0.1 * torch.randn(256, DIM)
        out = layer(z)
        optimizer.zero_grad()
        (out.loss + (out.z_q - z).square().mean()).backward()
        optimizer.step()
    z = centers[torch.randint(SIZE, (256,))] + 0.1 * torch.randn(256, DIM)
    out = layer.eval()(z)
    assert (out.z_q - z).square().mean() < 0.02
    assert out.terms["entropy"].value < 0.05


def test_an_annealing_that_is_none_is_refused():
    with pytest.raises(TypeError, match=r"annealing is 1\.0; give Annealing"):
        GumbelQuantizer(4, 8, annealing=1.0)  # pyright: ignore


def test_a_first_batch_of_equal_vectors_gives_no_huge_losses():
    """As from an encoder whose last layer starts at 0."""
    for kind in (GumbelQuantizer, StochasticQuantizer, IndexBackpropQuantizer):
        torch.manual_seed(0)
        layer = kind(8, 64)
        for z in (torch.ones(64, 8), torch.randn(64, 8)):
            z_e = z.requires_grad_()
            out = layer(z_e)
            (out.z_q.sum() + out.loss).backward()
            assert z_e.grad is not None
            gradients = [z_e.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]
            # What Adam squares in float32.
            assert all(g.square().isfinite().all() for g in gradients)


@pytest.mark.parametrize("kind", [GumbelQuantizer, StochasticQuantizer, IndexBackpropQuantizer])
def test_an_encoder_whose_last_layer_starts_at_0_learns(
    kind: type[GumbelQuantizer | StochasticQuantizer | IndexBackpropQuantizer],
):
    torch.manual_seed(0)
    data = torch.randn(64, 32)[torch.arange(4096) % 64] + 0.1 * torch.randn(4096, 32)
    encoder = nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, DIM))
    decoder = nn.Sequential(nn.Linear(DIM, 64), nn.SiLU(), nn.Linear(64, 32))
    for parameter in encoder[-1].parameters():
        nn.init.zeros_(parameter)
    model = nn.ModuleList([encoder, decoder, kind(DIM, 64)])
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    errors = []
    for _ in range(400):
        x = data[torch.randint(4096, (256,))]
        out = model[2](encoder(x))
        errors.append((decoder(out.z_q) - x).square().mean())
        optimizer.zero_grad()
        (errors[-1] + out.loss).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert torch.stack(errors[-50:]).mean() < 0.9 * data.var()
