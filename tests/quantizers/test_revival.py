"""What must hold for the revival of dead entries."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import Codebook, EMAVectorQuantizer, Quantizer, VectorQuantizer
from vqkit.quantizers.revival import (
    MAX_DRAWN,
    Candidates,
    costs_of_removal,
    draw,
    gains,
    replacements,
    shares_of_use,
)

KINDS = {"vq": VectorQuantizer, "ema": EMAVectorQuantizer}
FAR = 100.0


def layer(kind: str, entries: Tensor, *, revive: bool = True, dead_after: float = 8) -> Quantizer:
    size, dim = entries.shape
    book = Codebook.from_entries(entries)
    return KINDS[kind](dim, size, revive=revive, dead_after=dead_after, codebook=book)


def candidates(vectors: Tensor, errors: Tensor) -> Candidates:
    """All of them real."""
    return Candidates(vectors, errors, torch.ones(len(errors), dtype=torch.bool))


def one_dead(size: int = 4) -> Tensor:
    """Entries (size, 2), the last far from all vectors of ``batch``."""
    entries = torch.arange(size).unsqueeze(-1) * torch.tensor([1.0, 0.0])
    entries[-1] = FAR
    return entries


def batch(num: int, size: int = 4) -> Tensor:
    """Vectors (num, 2) near all entries of ``one_dead`` but the last."""
    return one_dead(size)[torch.arange(num) % (size - 1)] + 0.1 * torch.randn(num, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dead_after", [2, 8, 32])
def test_an_entry_is_dead_when_uniform_use_would_have_given_it_hits(kind: str, dead_after: int):
    """However many steps that takes: of 4 entries, 8 hits, 31 vectors leave it, the 32nd not."""
    last = 4 * dead_after - 1
    for num in (1, last):
        torch.manual_seed(0)
        quantizer = layer(kind, one_dead(), dead_after=dead_after)
        for vectors in batch(last).split(num):
            quantizer(vectors)
        (codebook,) = quantizer.codebooks()
        assert codebook.unused_for.tolist()[-1] == last
        assert codebook.entries[-1, 0] == FAR
        quantizer(batch(1))
        assert codebook.entries[-1, 0] < FAR / 2
        assert codebook.unused_for[-1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_entries_in_use_are_left_alone(kind: str):
    torch.manual_seed(0)
    quantizer, without = layer(kind, one_dead()), layer(kind, one_dead(), revive=False)
    vectors = batch(256)
    quantizer(vectors)
    without(vectors)
    mine, others = quantizer.codebooks()[0].entries, without.codebooks()[0].entries
    assert torch.equal(mine[:3], others[:3])
    assert mine[3, 0] < FAR / 2 < others[3, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_replacement_is_a_real_vector_of_the_step(kind: str):
    torch.manual_seed(0)
    quantizer = layer(kind, one_dead())
    z_e, mask = batch(256), torch.arange(256) < 140
    z_e[~mask] = 50.0
    quantizer(z_e, mask)
    (codebook,) = quantizer.codebooks()
    assert (z_e[mask] == codebook.entries[-1]).all(-1).sum() == 1


def test_a_revived_entry_survives_the_next_step():
    torch.manual_seed(0)
    quantizer = layer("ema", one_dead())
    quantizer(batch(256))
    (codebook,) = quantizer.codebooks()
    revived = codebook.entries[-1].clone()
    assert_close(codebook.average_sums[-1] / codebook.average_counts[-1], revived)
    quantizer(torch.zeros(5, 2))  # which does not use it
    assert torch.equal(codebook.entries[-1], revived)
    quantizer(revived + 0.01 * torch.randn(5, 2))
    assert_close(codebook.entries[-1], revived, rtol=0, atol=0.05)


def test_draws_are_proportional_to_the_squared_error():
    errors = torch.tensor([0.0, 1.0, 2.0, 5.0])
    first = torch.zeros(4, dtype=torch.int64)
    for step in range(800):
        drawn = draw([candidates(errors.unsqueeze(-1), errors)], 1, (0, torch.tensor(step)))
        first[(errors == drawn.vectors[0]).nonzero().item()] += 1
    assert first[0] == 0
    expected = errors / errors.sum()
    assert_close(first / 800, expected, rtol=0, atol=0.06)


def test_draws_are_without_replacement_and_padding_is_never_drawn():
    torch.manual_seed(0)
    errors, vectors = torch.rand(20), torch.arange(20.0).unsqueeze(-1)
    real = torch.arange(20) % 2 == 0
    drawn = draw([Candidates(vectors, errors, real)], 16, (0, torch.tensor(0)))
    valid = drawn.chances > -torch.inf
    assert valid.sum() == 10
    assert sorted(drawn.vectors[valid].flatten().tolist()) == list(range(0, 20, 2))


def test_draws_do_not_depend_on_how_a_step_is_split_or_padded():
    torch.manual_seed(0)
    errors, vectors = torch.rand(100), torch.randn(100, 3)
    words = (5, torch.tensor(7))
    whole = draw([candidates(vectors, errors)], 8, words)
    split = [
        candidates(vectors[:30], errors[:30]),
        candidates(vectors[30:], errors[30:]),
    ]
    padded = torch.rand(150) > 0.4
    padded[:] = False
    padded[torch.randperm(150)[:100]] = True
    spread = Candidates(torch.zeros(150, 3), torch.full((150,), 9.0), padded)
    spread.vectors[padded], spread.errors[padded] = vectors, errors
    for other in (draw(split, 8, words), draw([spread], 8, words)):
        assert_close(other.chances, whole.chances, rtol=0, atol=0)
        assert torch.equal(other.vectors, whole.vectors)


def test_draws_differ_from_step_to_step():
    torch.manual_seed(0)
    one = candidates(torch.randn(100, 3), torch.ones(100))
    drawn = [draw([one], 1, (0, torch.tensor(step))).vectors for step in range(10)]
    assert len(torch.cat(drawn).unique(dim=0)) > 5


def test_an_unlucky_entry_stays_where_its_place_is_worth_more():
    """It had a third of the vectors, and one step without them does not make it dead."""
    torch.manual_seed(0)
    entries = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    quantizer = layer("ema", entries)
    for _ in range(5):
        quantizer(entries.repeat(20, 1) + 0.1 * torch.randn(60, 2))
    (codebook,) = quantizer.codebooks()
    before = codebook.entries[2].clone()
    quantizer(entries[:2].repeat(60, 1) + 0.1 * torch.randn(120, 2))
    assert codebook.unused_for[2] == 120 > 32 * 3
    assert torch.equal(codebook.entries[2], before)


def test_an_unlucky_entry_goes_where_a_vector_needs_it_more():
    torch.manual_seed(0)
    entries = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.1, 0.0]])  # the last is nearly a copy
    quantizer = layer("ema", entries)
    for _ in range(5):
        quantizer(entries.repeat(20, 1))
    quantizer(torch.cat([entries[:2].repeat(60, 1), torch.tensor([[0.0, 9.0]])]))
    (codebook,) = quantizer.codebooks()
    assert codebook.entries[2].tolist() == [0.0, 9.0]


def test_the_cost_of_removal_is_the_growth_of_the_error():
    """By brute force, where the vectors of each entry sit on it."""
    torch.manual_seed(0)
    entries = torch.randn(10, 3)
    z = entries.repeat_interleave(torch.arange(10), dim=0)
    shares = torch.arange(10.0) / 4.5
    alive = torch.zeros(10, dtype=torch.bool)
    costs = costs_of_removal(entries, torch.arange(10), alive, shares)
    for k in range(10):
        rest = torch.cat([entries[:k], entries[k + 1 :]])
        grown = torch.cdist(z, rest).amin(1).square().sum() / z.numel()
        alive[k] = True
        cost = costs_of_removal(entries, torch.tensor([k]), alive, shares)[0]
        alive[k] = False
        assert_close(cost, grown * 10, rtol=1e-4, atol=1e-6)
        assert costs[k] == 0  # of two that may take over, the entry itself is the nearest


def test_hits_that_did_not_come_lower_the_share_of_use():
    """Fully trusted right after a hit, halved by as many missed hits as the average counts for."""
    counts = torch.tensor([30.0, 60.0, 60.0, 90.0])
    missed = torch.tensor([0, 4 * 8, 4 * 80_000, 0])
    shares = shares_of_use(counts, missed, dead_after=8)
    assert_close(shares, torch.tensor([0.5, 0.5, 1e-4, 1.5]), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["shifted", "shrunk", "elsewhere"])
def test_entries_that_the_vectors_have_left_are_not_held_by_their_past(kind: str, change: str):
    torch.manual_seed(0)
    centers = 2 * torch.randn(64, 8)
    quantizer = KINDS[kind](8, 64)

    def step() -> None:
        quantizer(centers.repeat(8, 1) + 0.1 * torch.randn(512, 8))

    for _ in range(100):
        step()
    centers = {
        "shifted": centers + 5,
        "shrunk": centers / 4,
        "elsewhere": centers[:, [7, *range(7)]],
    }[change]
    for _ in range(60):
        step()
    assert quantizer.encode(centers).unique().numel() >= 54


def test_the_gain_is_the_shrinkage_of_the_error():
    """By brute force; of the vectors of the step and as many that gain nothing as entries."""
    torch.manual_seed(0)
    entries, z = 30 + torch.randn(10, 3), 30 + torch.randn(6000, 3)
    errors = torch.cdist(z, entries).amin(1).square() / 3
    new = z[:5]
    found = gains([candidates(z, errors)], entries, new)
    for vector, gain in zip(new, found, strict=True):
        shrunk = torch.cdist(z, torch.cat([entries, vector[None]])).amin(1).square() / 3
        assert_close(gain, (errors - shrunk).sum() * 10 / (6000 + 10), rtol=1e-3, atol=1e-4)
    assert found.min() > 0


def test_the_gain_does_not_depend_on_passes_padding_or_precision():
    torch.manual_seed(0)
    entries, z, errors = torch.randn(10, 3), torch.randn(100, 3), torch.rand(100)
    whole = gains([candidates(z, errors)], entries, z[:5])
    padded = candidates(torch.full((150, 3), torch.nan), torch.full((150,), torch.nan))
    real = torch.rand(150).argsort() < 70
    padded.vectors[real], padded.errors[real] = z[30:], errors[30:]
    split = [candidates(z[:30], errors[:30]), replace(padded, real=real)]
    assert_close(gains(split, entries, z[:5]), whole)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gains([candidates(z, errors)], entries, z[:5]), whole)


def test_a_collapsed_codebook_is_revived_within_a_few_steps():
    torch.manual_seed(0)
    entries = torch.full((200, 4), FAR) + torch.randn(200, 4)
    for kind in KINDS:
        quantizer = layer(kind, entries.clone())
        for _ in range(32 * 200 // 2000 + 2 * 200 // MAX_DRAWN):
            quantizer(torch.randn(2000, 4))
        assert quantizer.encode(torch.randn(5000, 4)).unique().numel() > 190


@pytest.mark.parametrize("poison", [torch.nan, -torch.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_that_are_not_finite_become_no_entries(kind: str, poison: float):
    torch.manual_seed(0)
    quantizer = layer(kind, one_dead())
    vectors = batch(256)
    vectors[::2, 1] = poison
    quantizer.refuse_not_finite = False  # as the training engine does
    quantizer(vectors)
    (codebook,) = quantizer.codebooks()
    assert codebook.entries[-1, 0] < FAR / 2
    assert codebook.entries.isfinite().all()


def test_vectors_that_are_entries_already_replace_nothing():
    entries = one_dead()
    quantizer = layer("vq", entries)
    quantizer(entries[:3].repeat(60, 1))
    (codebook,) = quantizer.codebooks()
    assert torch.equal(codebook.entries, entries)


def test_without_revival_dead_entries_stay():
    for kind in KINDS:
        quantizer = layer(kind, one_dead(), revive=False)
        quantizer(batch(256))
        (codebook,) = quantizer.codebooks()
        assert codebook.entries[-1, 0] == FAR
        assert not codebook.candidates


def test_revival_in_the_forward_pass_does_not_disturb_the_gradients():
    torch.manual_seed(0)
    z_e = batch(256)
    found = []
    for revive in (True, False):
        quantizer = layer("vq", one_dead(), revive=revive)
        quantizer(z_e).loss.backward()
        found.append(quantizer.codebooks()[0].entries.grad)
    assert torch.equal(*found)


def test_all_entries_dead_is_no_error():
    found = replacements(
        [candidates(torch.randn(10, 2), torch.ones(10))],
        torch.randn(4, 2),
        torch.ones(4),
        torch.full((4,), 1000),
        (0, torch.tensor(0)),
    )
    assert not found.accepted.any()


def test_full_use_comes_soon_and_with_a_small_error():
    """The true centres leave 0.04; any vector for a dead entry fills the use as fast, and not them.

    After 100 steps such draws leave 0.06, and where nobody looks before a replacement, 0.1.
    """
    errors = []
    for seed in range(3):
        torch.manual_seed(seed)
        centers = 2 * torch.randn(64, 16)
        quantizer = layer("ema", torch.randn(64, 16))  # most are dead
        for _ in range(101):
            z_e = centers[torch.randint(64, (512,))] + 0.2 * torch.randn(512, 16)
            out = quantizer(z_e)
        assert out.indices.unique().numel() >= 63
        errors.append((z_e - out.z_q).square().mean().item())
    assert sum(errors) / 3 < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_full_usage_comes_with_an_error_near_that_of_the_true_centres(kind: str, seed: int):
    """A small version of the benchmark with the frozen encoder: the true centres leave 0.04.

    The start is no help: entries drawn blindly, most of which are dead.
    """
    torch.manual_seed(seed)
    centers = 2 * torch.randn(64, 16)

    def vectors(num: int) -> Tensor:
        return centers[torch.randint(64, (num,))] + 0.2 * torch.randn(num, 16)

    quantizer = layer(kind, torch.randn(64, 16))
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=1e-2) if kind == "vq" else None
    for _ in range(400):
        loss = quantizer(vectors(512)).loss
        if optimizer:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    z_e = vectors(10_000)
    out = quantizer.eval()(z_e)
    assert out.indices.unique().numel() == 64
    # Gradients move the last entries slowly.
    assert (z_e - out.z_q).square().mean() <= {"ema": 0.042, "vq": 0.055}[kind]


def test_the_first_pairs_do_not_depend_on_how_many_follow():
    """On a CPU no more are drawn than entries are dead."""
    torch.manual_seed(0)
    entries, z = torch.randn(80, 3), torch.randn(300, 3)
    unused = torch.randint(3000, (80,))
    few, many = (
        replacements(
            [candidates(z, torch.rand(300, generator=torch.Generator().manual_seed(0)))],
            entries,
            torch.ones(80),
            unused,
            (1, torch.tensor(2)),
            num=num,
        )
        for num in (7, 64)
    )
    for name in ("rows", "accepted", "vectors"):
        assert torch.equal(getattr(few, name), getattr(many, name)[:7])


def test_a_buffer_that_is_filled_anew_before_the_commit_does_no_harm():
    """As where the vectors of a frozen encoder come from one buffer."""
    torch.manual_seed(0)
    layers = [EMAVectorQuantizer(4, 64, start="normal", commit_in_forward=False) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    start = 5 + 0.1 * torch.randn(500, 4)
    for layer in layers:
        layer.initialize(start, seed=0)
    buffer = torch.empty(600, 4)
    for _ in range(5):
        z = torch.randn(600, 4)
        layers[0](z)
        layers[1](buffer.copy_(z))
        buffer.fill_(torch.nan)
        for layer in layers:
            layer.commit()
    assert layers[0].codebook.revived > 0
    assert_close(layers[1].state_dict(), layers[0].state_dict(), rtol=0, atol=0)
