"""What must hold for what a codebook tells of its use."""

import copy

import pytest
import torch
from torch.testing import assert_close

from vqkit.quantizers import Codebook, EMAVectorQuantizer, Residual, VectorQuantizer
from vqkit.quantizers.usage import in_use, perplexity

DIM, SIZE = 4, 16


def trained(*, revive: bool = False) -> EMAVectorQuantizer:
    """Used by vectors of one corner only, for longer than an unused entry lives."""
    torch.manual_seed(0)
    layer = EMAVectorQuantizer(DIM, SIZE, revive=revive, start="normal")
    layer.initialize(torch.randn(400, DIM), seed=0)
    for _ in range(4):
        layer(0.3 * torch.randn(50, DIM) + 1)
    return layer


def test_use_is_counted_from_what_chose_the_entries():
    layer, seen = trained(), []
    for _ in range(3):
        seen.append(layer(torch.randn(50, DIM) + 1).indices.flatten())
    usage, every = layer.codebook.usage(), torch.cat(seen).unique()
    assert usage.size == SIZE
    assert usage.dim == DIM
    assert usage.step == 7
    assert usage.used >= len(every)
    alive = layer.codebook.unused_for < 8 * SIZE
    assert usage.used == int((alive & (layer.codebook.average_counts > 0)).sum())
    assert usage.dead == int((~alive).sum()) > 0
    assert usage.share == usage.used / SIZE
    assert usage.longest_unused == 7 * 50  # some were never used


def test_an_entry_that_was_added_is_neither_in_use_nor_dead():
    book = trained().codebook
    before = book.usage()
    book.extend(torch.randn(3, DIM))
    after = book.usage()
    assert (after.used, after.dead, after.size) == (before.used, before.dead, SIZE + 3)


def test_dead_is_what_the_layer_calls_dead():
    book = trained().codebook
    unused = int((book.unused_for == 200).sum())  # 12.5 hits of uniform use
    assert book.usage(dead_after=12.6).dead == 0
    assert book.usage(dead_after=12.4).dead == unused > 0


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([1.0, 1, 1, 1], 4), ([5.0, 0, 0, 0], 1), ([2.0, 2, 0, 0], 2), ([0.0, 0, 0, 0], 1)],
)
def test_perplexity_is_the_number_of_equally_used_entries(counts: list[float], expected: float):
    assert perplexity(torch.tensor(counts)) == pytest.approx(expected)


def test_perplexity_does_not_depend_on_how_much_was_counted():
    counts = torch.rand(100)
    assert perplexity(1e-6 * counts) == pytest.approx(perplexity(counts), rel=1e-5)
    assert 1 < perplexity(counts) < 100


def test_it_tells_what_moves_the_entries_and_how_they_began():
    book = Codebook(SIZE, DIM, metric="cosine", start="data")
    assert (book.usage().start, book.usage().moved_by) == (None, None)
    layer = VectorQuantizer(DIM, SIZE, codebook=book)
    layer.initialize(torch.randn(100, DIM), seed=0)
    usage = book.usage()
    assert (usage.start, usage.moved_by, usage.metric) == ("data", "gradients", "cosine")
    book.freeze()
    assert book.usage().is_frozen
    given = Codebook.from_entries(torch.randn(SIZE, DIM))
    assert EMAVectorQuantizer(DIM, SIZE, codebook=given).codebook.usage().start == "given"
    reloaded = Codebook(SIZE, DIM)
    reloaded.load_state_dict(given.state_dict())
    assert reloaded.usage().start == "given"
    given.initialize(torch.randn(100, DIM), seed=0)
    assert given.usage().start == "kmeans"
    reloaded.load_state_dict(given.state_dict())
    assert reloaded.usage().start == "kmeans"


def test_a_state_from_before_it_was_kept_how_entries_began_is_loaded_as_not_given():
    old = Codebook.from_entries(torch.randn(SIZE, DIM)).state_dict()
    del old["given"]
    book = Codebook.from_entries(torch.randn(SIZE, DIM))
    book.load_state_dict(old)
    assert book.usage().start == "kmeans"
    assert torch.equal(book.entries, old["entries"])


def test_revived_entries_are_counted_and_the_count_is_saved():
    layer = trained(revive=True)
    book, revived = layer.codebook, int(layer.codebook.revived)
    for _ in range(10):
        before, used = book.entries.clone(), layer.encode(z := torch.randn(50, DIM) + 9).unique()
        layer(z)
        moved = (book.entries != before).any(-1)
        moved[used] = False
        revived += int(moved.sum())
    assert book.revived == revived > 0
    reloaded = EMAVectorQuantizer(DIM, SIZE)
    reloaded.load_state_dict(layer.state_dict())
    assert reloaded.codebook.usage().revived == book.usage().revived == int(book.revived)


def test_a_state_from_before_revivals_were_counted_is_loaded():
    layer, old = trained(), copy.deepcopy(trained(revive=True).state_dict())
    del old["codebook.revived"]
    layer.codebook.revived += 5
    layer.load_state_dict(old)
    assert layer.codebook.revived == 0
    assert torch.equal(layer.codebook.entries, old["codebook.entries"])
    del old["codebook.step"]
    with pytest.raises(RuntimeError, match=r"Missing key.*codebook\.step"):
        layer.load_state_dict(old)
    stages = Residual([EMAVectorQuantizer(DIM, SIZE) for _ in range(2)])
    state = {key: value for key, value in stages.state_dict().items() if "revived" not in key}
    stages.load_state_dict(state)


def test_pruning_keeps_what_is_in_use():
    """An average never fades to 0: what was left long ago counts as unused all the same."""
    layer = EMAVectorQuantizer(DIM, SIZE, revive=False)
    layer.initialize(torch.randn(400, DIM), seed=0)
    for _ in range(10):
        layer(torch.randn(50, DIM).abs())
    book = layer.codebook
    assert (book.average_counts > 0).all()
    mine = in_use(book.average_counts, book.unused_for)
    entries = book.entries[mine].clone()
    assert 2 <= len(entries) < SIZE
    book.prune()
    assert_close(book.entries.data, entries, rtol=0, atol=0)
