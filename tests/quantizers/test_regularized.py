"""What must hold for quantizers with further losses in particular."""

import copy
from collections.abc import Callable

import pytest
import torch
from tests.quantizers.test_regularizers import by_vectors, cosines_by_pairs
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit.means import Mean
from vqkit.quantizers import (
    Codebook,
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    GumbelQuantizer,
    IndexBackpropQuantizer,
    LookupFreeQuantizer,
    MultiScaleResidual,
    Normalized,
    Product,
    Projected,
    Quantized,
    Quantizer,
    RandomProjectionQuantizer,
    Regularized,
    Residual,
    Selective,
    SimVQuantizer,
    VectorQuantizer,
)

DIM, SIZE, TEMPERATURE = 4, 8, 1.7


def vq(dim: int = DIM, **options: object) -> VectorQuantizer:
    entries = torch.randn(SIZE, dim, dtype=torch.float64)
    book = Codebook.from_entries(entries)
    return VectorQuantizer(dim, SIZE, codebook=book, **options)  # pyright: ignore


COMPOSED: dict[str, Callable[[], Quantizer]] = {
    "vq": vq,
    "cosine vq": lambda: VectorQuantizer(DIM, SIZE, metric="cosine"),
    "ema": lambda: EMAVectorQuantizer(DIM, SIZE),
    "simvq": lambda: SimVQuantizer(DIM, SIZE),
    "gumbel": lambda: GumbelQuantizer(DIM, SIZE),
    "normalized": lambda: Normalized(vq()),
    "projected": lambda: Projected(vq(3), DIM),
    "product": lambda: Product([vq(2), vq(2)]),
    "heads": lambda: Product([vq(2)] * 2),
    "residual": lambda: Residual([vq(), vq()]),
    "residual shared": lambda: Residual([vq()] * 3),
    "residual beams": lambda: Residual([vq(), vq()], beams=4),
    "product of residual beams": lambda: Product([Residual([vq(2), vq(2)], beams=SIZE), vq(2)]),
    "selective": lambda: Selective(vq()),
    "scales": lambda: MultiScaleResidual([vq()] * 2, [(2, 3), (4, 6)]),
    "scales apart": lambda: MultiScaleResidual([vq(), vq()], [(2, 3), (4, 6)]),
}


@pytest.fixture(params=COMPOSED)
def inner(request: pytest.FixtureRequest) -> Quantizer:
    torch.manual_seed(0)
    return COMPOSED[request.param]().double()


def batch() -> tuple[Tensor, Tensor]:
    """Items on the grid of the scales, and where they are real."""
    mask = torch.rand(3, 4, 6) > 0.4
    return torch.randn(3, 4, 6, DIM, dtype=torch.float64), mask


def with_all(inner: Quantizer, **options: float) -> Regularized:
    entropies = {"diversity": 0.3, "certainty": 0.7, "temperature": TEMPERATURE}
    return Regularized(inner, **{**entropies, **options}).double()


def expected_terms(layer: Regularized, z_e: Tensor, mask: Tensor) -> dict[str, Mean]:
    """Written out, over all that codebooks see."""
    books = list(dict.fromkeys(layer.codebooks()))
    entropies, costs = [], []
    for book, rows in layer.quantizer.seen(z_e, mask):
        prices = -layer.averages[books.index(book)].average.double().log()
        found = by_vectors(rows.detach(), book.table.detach(), prices)
        entropies.append(found[0])
        costs.append(found[1])
    return {
        "certainty": Mean.over(torch.cat(entropies)),
        "diversity": Mean.over(torch.cat(costs)),
    }


def test_terms_are_means_over_all_that_codebooks_see(inner: Quantizer):
    z_e, mask = batch()
    layer = with_all(inner)
    layer(*batch())  # starts the codebook
    for average in layer.averages:
        average.average.copy_(torch.rand(SIZE).softmax(-1))
    terms = layer.eval()(z_e, mask).terms
    for name, mean in expected_terms(layer, z_e, mask).items():
        assert_close(terms[name].value, mean.value, rtol=1e-9, atol=1e-9)
        assert terms[name].count == mean.count


@pytest.mark.parametrize("name", sorted(COMPOSED.keys() - {"selective"}))
def test_terms_count_as_much_in_evaluation_as_in_training(name: str):
    """But in Selective, which keeps other positions in training."""
    torch.manual_seed(0)
    z_e, mask = batch()
    layer = with_all(COMPOSED[name]().double())
    layer.commit_in_forward = False
    trained, evaluated = layer(z_e, mask), layer.eval()(z_e, mask)
    for term in ("certainty", "diversity"):
        assert evaluated.terms[term].count == trained.terms[term].count


def test_terms_weigh_in_evaluation_as_in_training_where_both_choose_alike():
    torch.manual_seed(0)
    layer = with_all(COMPOSED["product of residual beams"]())
    z_e = torch.randn(300, DIM, dtype=torch.float64)
    layer.commit_in_forward = False
    alike = (layer.encode(z_e) == layer(z_e).indices).all(-1)
    assert 10 < alike.sum() < alike.numel()
    evaluated, trained = layer.eval()(z_e, alike), layer.train()(z_e, alike)
    assert_close(evaluated.loss, trained.loss, rtol=1e-9, atol=1e-9)


def test_codes_values_and_the_terms_of_the_quantizer_stay_its_own(inner: Quantizer):
    z_e, mask = batch()
    alone, layer = copy.deepcopy(inner), with_all(inner)
    assert not any(module._forward_hooks for module in alone.modules())
    for _ in range(3):
        out, plain = layer(z_e, mask), alone(z_e, mask)
        assert torch.equal(out.indices, plain.indices)
        assert torch.equal(out.z_q, plain.z_q)
        assert out.objective.count == plain.objective.count
        for name, mean in plain.terms.items():
            assert torch.equal(out.terms[name].total, mean.total)
        assert out.terms.keys() - plain.terms.keys() == {"diversity", "certainty"}
    state = {name.removeprefix("quantizers.0."): x for name, x in layer.state_dict().items()}
    for name, tensor in alone.state_dict().items():
        assert torch.equal(state[name], tensor)


def test_with_all_weights_0_it_is_what_it_holds(inner: Quantizer):
    z_e, mask = batch()
    alone, layer = copy.deepcopy(inner), Regularized(inner)
    for _ in range(3):
        pair = [each(z_e.requires_grad_(), mask) for each in (layer, alone)]
        assert torch.equal(pair[0].loss, pair[1].loss)
        assert pair[0].terms.keys() == pair[1].terms.keys()
        found = [torch.autograd.grad(out.loss + out.z_q.square().sum(), z_e) for out in pair]
        assert torch.equal(found[0][0], found[1][0])
    names = [name.removeprefix("quantizers.0.") for name in layer.state_dict()]
    assert names == list(alone.state_dict())
    assert layer.gradient == inner.gradient


STAGES: dict[str, Callable[[], Quantizer]] = {
    "fsq": lambda: FiniteScalarQuantizer((5,) * DIM),
    "vq": vq,
    "rotated": lambda: vq(gradient="rotation"),
    "directional": lambda: vq(gradient="directional"),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_with_all_weights_0_is_what_it_holds(name: str):
    torch.manual_seed(0)
    alone = Residual([STAGES[name](), STAGES[name]()])
    twins = copy.deepcopy(alone)
    layer = Residual([Regularized(twin) for twin in twins.parts])
    z_e = batch()[0].requires_grad_()
    out, plain = layer(z_e), alone(z_e)
    assert torch.equal(out.indices, plain.indices)
    assert torch.equal(out.z_q, plain.z_q)
    assert torch.equal(layer.decode(out.indices), alone.decode(out.indices))
    found = [torch.autograd.grad(one.loss + one.z_q.square().sum(), z_e) for one in (out, plain)]
    assert torch.equal(found[0][0], found[1][0])


def test_a_quantizer_called_past_its_wrapper_has_the_losses_and_padding_no_part_in_them():
    torch.manual_seed(0)
    z_e, mask = batch()
    layer = with_all(vq()).eval()
    expected = layer(z_e, mask)
    out = layer.quantizer(z_e.masked_fill(~mask.unsqueeze(-1), torch.nan), mask=mask)
    assert_close(out.loss, expected.loss)


def test_a_reloaded_average_continues_bit_for_bit():
    torch.manual_seed(0)
    layer, reloaded = (Regularized(VectorQuantizer(DIM, SIZE), diversity=1) for _ in range(2))
    batches = torch.randn(6, 50, DIM)
    for z_e in batches[:3]:
        layer(z_e)
    reloaded.load_state_dict(copy.deepcopy(layer.state_dict()))
    for z_e in batches[3:]:
        assert torch.equal(layer(z_e).loss, reloaded(z_e).loss)


@pytest.mark.parametrize("name", ["vq", "heads", "residual", "scales apart"])
def test_the_objective_is_the_quantizers_own_and_the_weighed_terms(name: str):
    torch.manual_seed(0)
    z_e, _ = batch()
    inner = COMPOSED[name]().double()
    before = copy.deepcopy(inner)  # a forward may revive entries
    plain = copy.deepcopy(inner)(z_e)
    out = with_all(inner, orthogonality=0.9)(z_e)
    entropies = {"certainty": 0.7, "diversity": -0.3}
    added = sum(weight * out.terms[term].value for term, weight in entropies.items())
    books = dict.fromkeys(before.codebooks())
    cosines = torch.stack([cosines_by_pairs(book.entries) for book in books]).mean()
    assert_close(out.terms["orthogonality"].value, cosines, check_dtype=False)
    if name == "scales apart":  # a mean over scales, where terms are means over codes
        found = expected_by_scale(before, z_e)
        added = 0.7 * found[0] - 0.3 * found[1]
    assert_close(out.loss, plain.loss + 0.9 * cosines + added)


def expected_by_scale(inner: Quantizer, z_e: Tensor) -> tuple[Tensor, Tensor]:
    prices = torch.full((SIZE,), SIZE, dtype=torch.float64).log()
    found = [by_vectors(rows, book.table, prices)[:2] for book, rows in inner.seen(z_e)]
    first, second = (torch.stack([one[k].mean() for one in found]).mean() for k in (0, 1))
    return first, second


def only_certainty(out: Quantized) -> Tensor:
    return out.terms["certainty"].total


@pytest.mark.parametrize("kind", [vq, lambda: EMAVectorQuantizer(DIM, SIZE).double()])
def test_gradients_reach_the_encoder_and_entries_that_gradients_move(kind: Callable):
    torch.manual_seed(0)
    inner = kind()
    layer = with_all(inner)
    z = torch.randn(30, DIM, dtype=torch.float64, requires_grad=True)
    inner.initialize(z, seed=0)
    entries = inner.codebook.entries
    entropies, _, _ = by_vectors(z, entries, torch.zeros(SIZE))
    found = only_certainty(layer(z))
    leaves = [z, entries] if entries.requires_grad else [z]
    pairs = [torch.autograd.grad(one, leaves) for one in (found, entropies.sum())]
    assert all((one != 0).any() for one in pairs[0])
    assert_close(*pairs, rtol=1e-8, atol=1e-10)


def test_a_stage_moves_its_own_entries_and_every_stage_the_encoder():
    torch.manual_seed(0)
    first, second = vq(), vq()
    layer = Regularized(Residual([first, second]), certainty=1, temperature=TEMPERATURE)
    z = torch.randn(30, DIM, dtype=torch.float64, requires_grad=True)
    left = z - first.decode(first.encode(z)).detach()
    tables = [first.codebook.entries, second.codebook.entries]
    inputs = zip((z, left), tables, strict=True)
    expected = sum(by_vectors(rows, table, torch.zeros(SIZE))[0].sum() for rows, table in inputs)
    found = [torch.autograd.grad(x, [z, *tables]) for x in (only_certainty(layer(z)), expected)]
    assert_close(*found, rtol=1e-8, atol=1e-10)


def test_the_gradient_of_diversity_is_that_of_minus_the_entropy_once_the_average_is_there():
    torch.manual_seed(0)
    layer = Regularized(vq(commitment=0), diversity=1, temperature=TEMPERATURE).double()
    layer.quantizer.codebook.freeze()
    z = torch.randn(30, DIM, dtype=torch.float64, requires_grad=True)
    for _ in range(300):
        layer(z)
    out = layer(z)
    _, _, taken = by_vectors(z, layer.quantizer.codebook.entries, torch.zeros(SIZE))
    mean = taken / len(z)
    entropy = -(mean * mean.log()).sum()
    assert_close(out.terms["diversity"].value, entropy, rtol=1e-9, atol=0)
    total = -out.terms["diversity"].value
    assert_close(torch.autograd.grad(total, z), torch.autograd.grad(-entropy, z))


def test_orthogonality_spreads_random_entries():
    torch.manual_seed(0)
    inner = VectorQuantizer(64, 32, revive=False)  # fewer entries than dimensions
    inner.codebook.load_state_dict({"entries": torch.randn(32, 64) + 1}, strict=False)
    layer = Regularized(inner, orthogonality=100.0)

    def mean_cosine() -> float:
        units = nn.functional.normalize(inner.codebook.entries.detach())
        return float((units @ units.T - torch.eye(32)).abs().mean())

    before, z = mean_cosine(), torch.randn(200, 64)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        layer(z).loss.backward()
        optimizer.step()
    assert mean_cosine() < 0.3 * before


def test_diversity_opens_a_collapsed_codebook_and_certainty_takes_sides():
    """An encoder that puts all vectors on one entry of a codebook that stays."""
    torch.manual_seed(0)
    z, table = torch.randn(400, 2), 2 * torch.randn(16, 2)

    def trained(**weights: float) -> tuple[float, float]:
        inner = VectorQuantizer(2, 16, commitment=0, codebook=Codebook.from_entries(table))
        inner.codebook.freeze()
        layer, encoder = Regularized(inner, **weights), nn.Linear(2, 2)
        nn.init.constant_(encoder.weight, 0)
        encoder.weight.data += 0.01 * torch.eye(2)
        optimizer = torch.optim.Adam(encoder.parameters(), lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            layer(encoder(z)).loss.backward()
            optimizer.step()
        use = layer.encode(encoder(z)).flatten().bincount(minlength=16).double() / len(z)
        asked = Regularized(inner, certainty=1.0).eval()(encoder(z))
        return float((-use.xlogy(use).sum()).exp()), float(asked.terms["certainty"].value.detach())

    (collapsed, _), (spread, doubt) = trained(), trained(diversity=1.0)
    even, sure = trained(diversity=1.0, certainty=0.8)
    assert collapsed == 1
    assert spread > 5
    assert even > 5
    assert sure < 0.8 * doubt


def test_the_orthogonality_of_a_split_batch_adds_up_and_nothing_costs_nothing():
    torch.manual_seed(0)
    layer = Regularized(vq(), orthogonality=3)
    layer.commit_in_forward = False
    z_e, mask = batch()
    value = cosines_by_pairs(layer.quantizer.codebook.entries)
    parts = [layer(z_e[:1], mask[:1]), layer(z_e[1:], mask[1:])]
    both = parts[0].terms["orthogonality"] + parts[1].terms["orthogonality"]
    assert_close(both.value, value)
    assert both.count == mask.sum()
    out = layer(z_e, torch.zeros_like(mask))
    assert out.objective.total == out.terms["orthogonality"].total == 0


def test_entries_that_are_frozen_stay():
    torch.manual_seed(0)
    layer = with_all(vq(), orthogonality=3)
    layer.quantizer.codebook.freeze()
    z_e = torch.randn(20, DIM, dtype=torch.float64, requires_grad=True)
    out = layer(z_e)
    out.loss.backward()
    assert out.terms["orthogonality"].value > 0
    assert layer.quantizer.codebook.entries.grad is None
    assert z_e.grad is not None


def test_a_codebook_of_another_size_is_followed():
    torch.manual_seed(0)
    layer = with_all(vq(), orthogonality=3).double()
    book = layer.quantizer.codebook
    z_e = torch.randn(100, DIM, dtype=torch.float64)
    for size in (SIZE, SIZE - 3, SIZE + 2):
        if size < SIZE:
            book.prune(torch.arange(SIZE) < size)
        elif size > SIZE:
            book.extend(torch.randn(size - book.size, DIM, dtype=torch.float64))
        even = torch.tensor(size).double().log()
        if size != SIZE:
            assert_close(layer.eval()(z_e).terms["diversity"].value, even)
        for _ in range(3):
            assert layer.train()(z_e).loss.isfinite()
        assert layer.averages[0].average.shape == (size,)
        assert layer.eval()(z_e).terms["diversity"].value != even


def test_layers_that_share_a_codebook_share_its_average():
    torch.manual_seed(0)
    first = vq(2)
    second = VectorQuantizer(2, SIZE, codebook=first.codebook)
    layer = with_all(Product([first, second]))
    assert len(layer.averages) == 1
    out = layer(torch.randn(20, 4, dtype=torch.float64))
    assert out.terms["diversity"].count == 40


def test_what_could_have_no_effect_is_refused_with_its_reason():
    ema, fsq = EMAVectorQuantizer(DIM, SIZE), FiniteScalarQuantizer((3,) * DIM)
    with pytest.raises(ValueError, match=r"averages overwrite the entries .* VectorQuantizer"):
        Regularized(ema, orthogonality=1)
    with pytest.raises(ValueError, match="in EMAVectorQuantizer averages overwrite"):
        Regularized(Residual([vq(), EMAVectorQuantizer(DIM, SIZE)]), orthogonality=1)
    others = (fsq, LookupFreeQuantizer(DIM), RandomProjectionQuantizer(DIM, SIZE, entry_dim=2))
    for weight in ("orthogonality", "diversity", "certainty"):
        for other in others:
            kind = type(other).__name__
            with pytest.raises(ValueError, match=f"{weight} is 1, but {kind} has no codebook"):
                Regularized(other, **{weight: 1})
            with pytest.raises(ValueError, match="around the other parts"):
                Regularized(Product([vq(), Normalized(other)]), **{weight: 1})


@pytest.mark.parametrize("name", ["orthogonality", "diversity", "certainty"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_weights_that_are_none_are_refused(name: str, value: float):
    with pytest.raises(ValueError, match=f"{name} is {value}; give a number of at least 0"):
        Regularized(vq(), **{name: value})


def test_other_nonsense_is_refused():
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature is"):
            Regularized(vq(), temperature=temperature)
    with pytest.raises(ValueError, match="holds Regularized already"):
        Regularized(Normalized(Regularized(vq(), certainty=1)), diversity=1)


REVIVING: dict[str, Callable[[], Quantizer]] = {
    "diversity": lambda: Regularized(VectorQuantizer(DIM, 32), diversity=1),
    "certainty": lambda: Regularized(VectorQuantizer(DIM, 32), certainty=1),
    "orthogonality": lambda: Regularized(VectorQuantizer(DIM, 32), orthogonality=9),
    "cosines": lambda: Regularized(VectorQuantizer(DIM, 32, metric="cosine"), certainty=1),
    "ibq": lambda: IndexBackpropQuantizer(DIM, 32),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REVIVING)
def test_a_compiled_pass_that_moves_entries_has_the_gradients_of_those_before(name: str):
    torch.manual_seed(0)
    torch._dynamo.reset()
    layer = REVIVING[name]()
    layer.initialize(torch.randn(500, DIM), seed=0)
    compiled = torch.compile(copy.deepcopy(layer), backend="aot_eager", fullgraph=True)
    batches = torch.randn(6, 100, DIM)
    batches[..., 0] += 3 * torch.arange(6).unsqueeze(1)
    for z_e in batches:
        found = []
        for one in (layer, compiled):
            one.zero_grad()
            one(z_e).loss.backward()
            found.append([parameter.grad for parameter in one.parameters()])
        assert_close(*found, rtol=1e-5, atol=1e-6)
    assert layer.codebooks()[0].revived > 0


def test_a_pruned_quantizer_is_saved_with_averages_of_its_size():
    quantizer = Regularized(VectorQuantizer(4, 8), diversity=0.1)
    quantizer(torch.randn(100, 4))
    quantizer.quantizer.codebooks()[0].prune(torch.arange(8) < 6)
    reloaded = Regularized(VectorQuantizer(4, 6), diversity=0.1)
    reloaded.load_state_dict(quantizer.state_dict())
    z_e = torch.randn(50, 4)
    assert torch.equal(reloaded(z_e).loss, quantizer(z_e).loss)
