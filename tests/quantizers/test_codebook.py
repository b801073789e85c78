"""What must hold for the table of entries."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.quantizers.watching import Watch
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.modalities.image import GaussianObjective
from vqkit.quantizers import (
    Codebook,
    EMAVectorQuantizer,
    MultiScaleResidual,
    Normalized,
    Product,
    Projected,
    Quantizer,
    Regularized,
    Residual,
    Selective,
    SimVQuantizer,
    VectorQuantizer,
)
from vqkit.quantizers.codebook_state import MAX_PASSES

Kind = type[EMAVectorQuantizer] | type[VectorQuantizer]


def test_collect_moves_nothing():
    codebook = Codebook(8, 4)
    before = codebook.entries.clone()
    codebook.collect(torch.randn(100, 4), torch.randint(0, 8, (100,)))
    assert torch.equal(codebook.entries, before)


def test_the_first_commit_moves_an_entry_onto_the_mean_of_its_vectors():
    codebook = Codebook(2, 4)
    z = torch.randn(10, 4)
    codebook.collect(z, torch.ones(10, dtype=torch.int64))
    codebook.commit(decay=0.99)
    assert_close(codebook.entries[1], z.mean(0))


def test_a_commit_without_a_decay_follows_the_use_and_moves_no_entry():
    codebook = Codebook(2, 4)
    before = codebook.entries.clone()
    codebook.collect(torch.randn(10, 4), torch.ones(10, dtype=torch.int64))
    codebook.commit(decay=None)
    assert torch.equal(codebook.entries, before)
    assert codebook.unused_for.tolist() == [10, 0]
    assert codebook.average_counts[1] > 0 == codebook.average_counts[0]
    assert codebook.step == 1


def test_pending_counts_stay_exact_beyond_the_integers_of_float32():
    codebook = Codebook(2, 1)
    codebook.pending_counts += 2**24
    codebook.collect(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
    assert codebook.pending_counts.tolist() == [2**24 + 1, 2**24]


def test_the_time_without_use_is_an_exact_number_of_vectors_however_long():
    codebook = Codebook(2, 1)
    codebook.unused_for += torch.tensor([2**40 + 1, 0])
    codebook.collect(torch.zeros(3, 1), torch.ones(3, dtype=torch.int64))
    codebook.commit(decay=0.99)
    assert codebook.unused_for.tolist() == [2**40 + 4, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_never_touches_entries_or_statistics(dtype: torch.dtype):
    codebook = Codebook(8, 4)
    before = {name: value.clone() for name, value in codebook.state_dict().items()}
    torch.nn.Sequential(codebook).to(dtype)
    assert codebook.pending_sums.dtype == torch.float64
    assert_close(codebook.state_dict(), before, rtol=0, atol=0)


# A given layer of vectors of length 4 beside a fresh one, or alone.
COMPOSED: dict[str, Callable[[Quantizer, Quantizer], Quantizer]] = {
    "alone": lambda given, fresh: given,
    "residual": lambda given, fresh: Residual([given, fresh]),
    "residual behind": lambda given, fresh: Residual([fresh, given]),
    "residual shared": lambda given, fresh: Residual([Residual([given, fresh])] * 2),
    "product": lambda given, fresh: Product([given, fresh]),
    "heads": lambda given, fresh: Product([Product([given, fresh])] * 2),
    "selective": lambda given, fresh: Selective(given),
    "selective product": lambda given, fresh: Selective(Product([given, fresh])),
    "normalized": lambda given, fresh: Normalized(Product([given, fresh])),
    "projected": lambda given, fresh: Projected(Residual([given, fresh]), 4),
    "regularized": lambda given, fresh: Regularized(Residual([given, fresh])),
    "residual of residuals": lambda given, fresh: Residual([Residual([fresh, given])]),
    "scales": lambda given, fresh: MultiScaleResidual([fresh, given], [(2,), (5,)]),
    "scales shared": lambda given, fresh: MultiScaleResidual(
        [Residual([given, fresh])] * 2, [(2,), (5,)]
    ),
}


@pytest.mark.parametrize("start", ["first batch", "engine"])
@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("is_loaded", [False, True])
def test_given_entries_are_not_replaced_by_a_start_from_data(
    name: str, start: str, is_loaded: bool
):
    entries = torch.randn(8, 4)
    codebook = Codebook(8, 4) if is_loaded else Codebook.from_entries(entries)
    codebook.load_state_dict({"entries": entries}, strict=False)
    codebook.freeze()
    fresh = EMAVectorQuantizer(4, 8)
    layer = COMPOSED[name](EMAVectorQuantizer(4, 8, codebook=codebook), fresh)
    before, z_e = fresh.codebook.entries.clone(), 2 * torch.rand(40, 5, layer.dim) - 1
    if start == "engine":
        model = VQVAE(torch.nn.Identity(), layer, torch.nn.Identity(), GaussianObjective())
        model.initialize([z_e.movedim(-1, 1)], seed=0, keep_started=True)
    else:
        layer(z_e)
    assert torch.equal(codebook.entries, entries)
    assert codebook.given
    assert layer.is_started
    if fresh.codebook in layer.codebooks():
        assert not torch.equal(fresh.codebook.entries, before)


def test_a_stage_behind_given_entries_starts_from_what_they_leave():
    codebook, z_e = Codebook.from_entries(10 * torch.randn(8, 4)), torch.randn(100, 4)
    given, fresh = VectorQuantizer(4, 8, codebook=codebook), VectorQuantizer(4, 8)
    layer, alone = Residual([given, fresh]), VectorQuantizer(4, 8)
    layer.initialize(z_e, seed=3, keep_started=True)
    left = z_e - given.decode(given.encode(z_e))
    alone.initialize(left, seed=int(fresh.codebook.seed))
    assert torch.equal(fresh.codebook.entries, alone.codebook.entries)


def test_a_start_that_keeps_nothing_replaces_given_entries():
    codebook = Codebook.from_entries(torch.zeros(8, 4))
    layer = Residual([VectorQuantizer(4, 8, codebook=codebook), VectorQuantizer(4, 8)])
    layer.initialize(torch.randn(100, 4), seed=0)
    assert codebook.entries.any()
    assert not codebook.given


@pytest.mark.parametrize("kind", [EMAVectorQuantizer, VectorQuantizer, SimVQuantizer])
def test_entries_given_to_a_layer_that_has_trained_are_as_if_given_to_a_new_one(kind: Kind):
    """No average of the entries before pulls them back, and no map moves them."""
    torch.manual_seed(0)
    entries, z = torch.randn(8, 4), torch.randn(50, 4)
    fresh, trained = kind(4, 8, revive=False), kind(4, 8, revive=False)
    for _ in range(3):
        trained((torch.randn(100, 4) + 20).requires_grad_()).loss.backward()
        torch.optim.SGD(trained.parameters(), lr=0.1).step()
    for layer in (fresh, trained):
        layer.codebook.load_state_dict({"entries": entries}, strict=False)
        assert torch.equal(layer.codebook.table, entries)
        layer(z)
    for name in ("entries", "average_counts", "average_sums", "unused_for", "given"):
        assert_close(getattr(trained.codebook, name), getattr(fresh.codebook, name))


def test_loading_a_fresh_state_makes_the_codebook_fresh_again():
    codebook = Codebook(8, 4)
    fresh = {name: value.clone() for name, value in codebook.state_dict().items()}
    codebook.initialize(torch.randn(100, 4), seed=3)
    codebook.load_state_dict(fresh)
    assert not codebook.is_initialized
    assert codebook.random_seed == fresh["seed"]


def test_one_codebook_is_not_moved_by_both_gradients_and_averages():
    gradients, averages = VectorQuantizer(4, 8), EMAVectorQuantizer(4, 8)
    with pytest.raises(ValueError, match="moved by averages already and gradients would"):
        VectorQuantizer(4, 8, codebook=averages.codebook)
    with pytest.raises(ValueError, match="moved by gradients already and averages would"):
        EMAVectorQuantizer(4, 8, codebook=gradients.codebook)
    assert gradients.codebook.entries.requires_grad
    assert not averages.codebook.entries.requires_grad


def test_a_forgotten_commit_is_an_error_and_not_a_leak():
    layer = EMAVectorQuantizer(2, 4, commit_in_forward=False)
    z_e = torch.randn(1, 2)
    for _ in range(MAX_PASSES):
        layer(z_e)
    with pytest.raises(RuntimeError, match="call commit"):
        layer(z_e)


@pytest.mark.parametrize(("size", "dim"), [(1, 4), (0, 4), (4, 0)])
def test_sizes_that_make_no_codebook_are_refused(size: int, dim: int):
    with pytest.raises(ValueError, match=r"codebook_size is .; give at least 2|dim is 0; give"):
        Codebook(size, dim)


@pytest.mark.parametrize("size", [2.5, "8", None])
def test_sizes_that_are_no_integers_are_refused(size: object):
    with pytest.raises(TypeError, match=r"codebook_size is .*; give an integer"):
        Codebook(size, 4)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("dead", [False, True])
def test_a_training_step_needs_memory_for_vectors_and_entries_not_their_product(dead: bool):
    """The largest tensor: N = 20,000, K = 2,000, N K = 40 M."""

    layer = EMAVectorQuantizer(4, 2000, codebook=Codebook.from_entries(torch.randn(2000, 4)))
    layer.codebook.unused_for += 10**6 * dead
    z_e = torch.randn(20_000, 4, requires_grad=True)
    with Watch() as watch:
        out = layer(z_e)
        (out.z_q.sum() + out.loss).backward()
    assert watch.largest <= 2**19


def test_what_was_collected_before_a_state_was_loaded_is_forgotten():
    torch.manual_seed(0)
    layer = EMAVectorQuantizer(4, 8, commit_in_forward=False)
    layer(torch.randn(100, 4))
    saved = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer(torch.randn(100, 4))
    layer.load_state_dict(saved)
    assert not layer.codebook.candidates
    layer.commit()
    assert_close(dict(layer.state_dict()), saved, rtol=0, atol=0)


def test_given_entries_keep_their_precision_and_are_numbers():
    entries = torch.randn(8, 4, dtype=torch.float64)
    assert torch.equal(Codebook.from_entries(entries).entries, entries)
    for wrong in (entries[0], entries / 0 * 0):
        with pytest.raises(ValueError, match=r"give \(M, D\) numbers that are finite in float64"):
            Codebook.from_entries(wrong)


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ([[0.0] * 4] * 8, TypeError, r"^entries: give a tensor .* not a list"),
        (np.zeros((8, 4)), TypeError, r"^entries: give a tensor .* not a ndarray"),
        (torch.zeros(8, 4, dtype=torch.complex64), TypeError, r"complex64; give real numbers"),
        (torch.full((8, 4), 1e300, dtype=torch.float64), ValueError, "finite in float32"),
        (torch.full((8, 4), torch.nan), ValueError, "finite in float32"),
        (torch.zeros(8), ValueError, r"shape \(8,\); give \(M, "),
    ],
)
def test_what_makes_no_entries_is_refused_in_one_line(
    wrong: torch.Tensor, error: type[Exception], match: str
):
    started = Codebook.from_entries(torch.randn(8, 4))
    before = {name: value.clone() for name, value in started.state_dict().items()}
    with pytest.raises(error, match=match):
        started.extend(wrong)
    if not (isinstance(wrong, torch.Tensor) and wrong.dtype == torch.float64):  # which it keeps
        with pytest.raises(error, match=match):
            Codebook.from_entries(wrong)
    assert_close(dict(started.state_dict()), before)


def test_a_table_is_loaded_in_the_precision_of_the_codebook_however_it_is_loaded():
    half = {name: value.half() for name, value in EMAVectorQuantizer(4, 8).state_dict().items()}
    for layer in (EMAVectorQuantizer(4, 8), EMAVectorQuantizer(4, 8).double()):
        types = {name: value.dtype for name, value in layer.state_dict().items()}
        for assign in (False, True):
            layer.load_state_dict(half, assign=assign)
            assert {name: value.dtype for name, value in layer.state_dict().items()} == types
            layer(torch.randn(20, 4))


def test_entries_without_a_start_are_not_extended_since_the_start_would_replace_them():
    book = Codebook(8, 4)
    with pytest.raises(ValueError, match="start it first"):
        book.extend(torch.randn(2, 4))
    book.initialize(torch.randn(100, 4), seed=0)
    book.extend(torch.ones(2, 4))
    assert torch.equal(book.entries[8:], torch.ones(2, 4))


def test_entries_that_are_not_finite_are_not_loaded():
    layer = VectorQuantizer(4, 8)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    entries = torch.randn(8, 4)
    entries[2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"codebook\.entries: 1 of 8 are not finite"):
        layer.load_state_dict({"codebook.entries": entries}, strict=False)
    assert_close(layer.state_dict(), before, rtol=0, atol=0)
