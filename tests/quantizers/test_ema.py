"""What must hold for a codebook of running averages in particular."""

import pytest
import torch
from torch.testing import assert_close

from vqkit.quantizers import Codebook, EMAVectorQuantizer

DECAY = 0.9


def quantizer(
    size: int = 8, *, commit_in_forward: bool = True, revive: bool = False
) -> EMAVectorQuantizer:
    """A layer whose entries are given: nothing is committed yet."""
    torch.manual_seed(0)
    return EMAVectorQuantizer(
        4,
        size,
        decay=DECAY,
        revive=revive,
        commit_in_forward=commit_in_forward,
        codebook=Codebook.from_entries(torch.randn(size, 4)),
    )


def test_an_entry_is_the_average_of_its_vectors_with_weights_that_decay_per_step():
    layer = quantizer()
    batches = torch.randn(5, 100, 4)
    indices = torch.stack([layer(batch).indices.squeeze(-1) for batch in batches])
    age = torch.arange(5).flip(0)
    weights = (DECAY ** age.double()).unsqueeze(1).expand(5, 100)
    for k, entry in enumerate(layer.codebook.entries):
        mine = indices == k
        expected = weights[mine] @ batches.double()[mine] / weights[mine].sum()
        assert_close(entry.double(), expected, rtol=0, atol=1e-5)


def test_the_update_equals_the_papers_formula_in_float64_over_many_steps():
    """Equations 6 to 8 of the paper, started from N = m = 0, which cancels in m / N."""
    layer = quantizer().double()
    counts = torch.zeros(8, dtype=torch.float64)
    sums = torch.zeros(8, 4, dtype=torch.float64)
    for batch in torch.randn(200, 50, 4, dtype=torch.float64):
        chosen = torch.nn.functional.one_hot(layer(batch).indices.squeeze(-1), 8).double()
        counts = DECAY * counts + (1 - DECAY) * chosen.sum(0)
        sums = DECAY * sums + (1 - DECAY) * chosen.T @ batch
        assert_close(layer.codebook.entries.data, sums / counts.unsqueeze(-1), rtol=0, atol=1e-12)
        assert_close(layer.codebook.average_counts, counts, rtol=0, atol=1e-12)


def test_the_decay_rises_to_its_value():
    """Against the recurrence, step by step; with no warm-up it has its value from the start."""
    for warmup in (0, 5, 50):
        torch.manual_seed(0)
        book = Codebook.from_entries(torch.randn(2, 3))
        layer = EMAVectorQuantizer(
            3, 2, decay=DECAY, decay_warmup=warmup, revive=False, codebook=book
        ).double()
        sums, counts = 0, 0
        for step, batch in enumerate(torch.randn(100, 20, 3, dtype=torch.float64)):
            decay = min(DECAY, (1 + step) / max(warmup + step, 1))
            mine = layer(batch).indices.squeeze(-1) == 0
            sums = decay * sums + (1 - decay) * batch[mine].sum(0)
            counts = decay * counts + (1 - decay) * mine.sum().double()
            assert_close(layer.codebook.entries[0].data, sums / counts, rtol=0, atol=1e-12)


def test_an_entry_that_nobody_used_does_not_move():
    layer = quantizer(size=64)
    before = layer.codebook.entries.clone()
    used = torch.cat([layer(torch.randn(5, 4) + 1).indices.unique() for _ in range(20)])
    unused = torch.ones(64, dtype=torch.bool).index_fill(0, used, False)
    assert 0 < unused.sum() < 64
    assert torch.equal(layer.codebook.entries[unused], before[unused])


def test_an_entry_stays_where_it_is_while_others_are_used():
    layer = quantizer(size=2)
    layer.codebook.collect(torch.randn(10, 4), torch.zeros(10, dtype=torch.int64))
    layer.commit()
    before = layer.codebook.entries[0].clone()
    for _ in range(5000):  # long enough for its average count to vanish in float32
        layer.codebook.collect(torch.randn(1, 4), torch.ones(1, dtype=torch.int64))
        layer.commit()
    assert torch.equal(layer.codebook.entries[0], before)


def test_micro_batches_move_the_entries_once_and_as_one_batch():
    whole, split = quantizer(), quantizer(commit_in_forward=False)
    before = split.codebook.entries.clone()
    for batch in torch.randn(3, 100, 4):
        whole(batch)
        split(batch[:30])
        split(batch[30:])
        assert torch.equal(split.codebook.entries, before)
        split.commit()
        assert_close(split.state_dict(), whole.state_dict())
        before = split.codebook.entries.clone()


def test_a_batch_collected_twice_moves_the_entries_as_once():
    once, twice = quantizer(), quantizer(commit_in_forward=False)
    for batch in torch.randn(3, 100, 4):
        once(batch)
        twice(batch)
        twice(batch)  # as activation checkpointing does
        twice.commit()
    assert_close(twice.codebook.entries, once.codebook.entries)


@pytest.mark.parametrize("revive", [False, True])
def test_a_shared_codebook_moves_once_though_each_owner_commits(revive: bool):
    first = quantizer(commit_in_forward=False, revive=revive)
    second = EMAVectorQuantizer(4, 8, decay=DECAY, commit_in_forward=False, codebook=first.codebook)
    for _ in range(3):
        first(torch.randn(100, 4))
        second(torch.randn(100, 4))
        first.commit()
        before = {name: state.clone() for name, state in first.state_dict().items()}
        second.commit()
        assert_close(first.state_dict(), before, rtol=0, atol=0)


def test_no_gradient_reaches_the_entries():
    layer = quantizer()
    out = layer(torch.randn(10, 4, requires_grad=True))
    (out.loss + out.z_q.sum()).backward()
    assert layer.codebook.entries.grad is None
    assert not any(parameter.requires_grad for parameter in layer.parameters())


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_without_meaning_is_refused(decay: float):
    with pytest.raises(ValueError, match="decay"):
        EMAVectorQuantizer(4, 8, decay=decay)


def test_a_gradient_that_would_move_averaged_entries_is_refused():
    with pytest.raises(ValueError, match="averages move the entries, and a gradient for them has"):
        EMAVectorQuantizer(4, 8, gradient="directional")


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_one_vector_that_is_not_finite_costs_one_update_of_one_entry(poison: float):
    """As an overflow in mixed precision, in a step that the optimizer then skips."""
    layer, clean = quantizer(revive=True), quantizer(revive=True)
    layer.refuse_not_finite = False
    batch = torch.randn(100, 4)
    layer(torch.cat([batch, torch.full((1, 4), poison)]))
    clean(batch)
    for one in (layer.codebook, clean.codebook):
        assert one.entries.isfinite().all()
        assert one.average_sums.isfinite().all()
    assert (layer.codebook.entries == clean.codebook.entries).all(-1).sum() == 7
    assert layer(torch.randn(1000, 4)).indices.unique().numel() == 8


def test_no_gradient_reaches_the_entries_whoever_asks_for_it():
    """The usual way to freeze and unfreeze a network."""
    layer = quantizer(commit_in_forward=False).requires_grad_(False).requires_grad_(True)
    z_e = torch.randn(10, 4, requires_grad=True)
    (layer(z_e).loss + layer(z_e).z_q.sum()).backward()
    assert layer.codebook.entries.grad is None
    assert z_e.grad is not None


@pytest.mark.parametrize("passes", [1, 16])
def test_millions_of_equal_vectors_are_averaged_without_loss(passes: int):
    """Silence or background: float32 sums of 4 million values are off by 4 %."""
    book = Codebook.from_entries(torch.tensor([[0.0], [100.0]]))
    layer = EMAVectorQuantizer(
        1, 2, decay=0.0, revive=False, codebook=book, commit_in_forward=False
    )
    for _ in range(passes):
        layer(torch.full((2**22 // passes, 1), 1.1))
    layer.commit()
    assert_close(book.entries[0].detach(), torch.tensor([1.1]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sums_stay_exact_in_a_model_that_is_converted(dtype: torch.dtype):
    assert quantizer().to(dtype).codebook.pending_sums.dtype == torch.float64
