"""What must hold for entries that one linear map moves in particular."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from vqkit.quantizers import LinearCodebook, SimVQuantizer, VectorQuantizer, codebook
from vqkit.quantizers.codebook import Metric

DIM, SIZE, BETA = 4, 16, 0.25


def layer(*, metric: Metric = "euclidean", revive: bool = False) -> SimVQuantizer:
    """Given entries and a map that was trained: no longer the identity."""
    torch.manual_seed(0)
    book = LinearCodebook.from_entries(torch.randn(SIZE, DIM), metric=metric)
    with torch.no_grad():
        book.weight += 0.3 * torch.randn(DIM, DIM)
    return SimVQuantizer(DIM, SIZE, commitment=BETA, metric=metric, revive=revive, codebook=book)


def test_the_table_is_the_product_of_entries_and_map():
    quantizer = layer()
    book = quantizer.codebook
    assert isinstance(book, LinearCodebook)
    table = torch.stack([sum(e[i] * book.weight[i] for i in range(DIM)) for e in book.entries])
    assert_close(book.table, table)
    every = torch.arange(SIZE).unsqueeze(-1)
    assert_close(quantizer.decode(every), table)
    assert torch.equal(quantizer.encode(table), every)


def test_gradients_reach_the_map_alone_by_the_papers_equation_through_the_product():
    quantizer, z_e = layer(), torch.randn(30, DIM, requires_grad=True)
    book = quantizer.codebook
    assert isinstance(book, LinearCodebook)
    out = quantizer(z_e)
    index = out.indices.squeeze(-1)
    assert torch.equal(index, torch.cdist(z_e, book.entries @ book.weight).argmin(-1))
    gap = (book.entries[index] @ book.weight - z_e).detach()
    assert_close(out.loss, (1 + BETA) * gap.square().mean())
    out.loss.backward()
    assert_close(book.weight.grad, 2 / (30 * DIM) * book.entries[index].T @ gap)
    assert_close(z_e.grad, -2 * BETA / (30 * DIM) * gap)
    assert book.entries.grad is None
    assert [p for p in quantizer.parameters() if p.requires_grad] == [book.weight]


def test_an_entry_that_nobody_uses_moves_with_the_others():
    quantizer, usual = layer(), VectorQuantizer(DIM, SIZE, revive=False)
    with torch.no_grad():
        usual.codebook.entries.copy_(quantizer.codebook.table)
    usual.codebook.initialized.fill_(True)
    usual.codebook.is_initialized = True
    z_e = quantizer.codebook.table[:3].detach() + 0.1
    moved = {}
    for one in (quantizer, usual):
        before = one.codebook.table.detach().clone()
        out = one(z_e)
        assert set(out.indices.flatten().tolist()) == {0, 1, 2}
        out.loss.backward()
        torch.optim.SGD([p for p in one.parameters() if p.requires_grad], lr=1.0).step()
        moved[one] = (one.codebook.table - before).abs().amax(-1) > 1e-4
    assert moved[quantizer].all()
    assert moved[usual].tolist() == [True] * 3 + [False] * (SIZE - 3)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_revival_puts_the_drawn_vectors_into_the_table_whatever_the_map(metric: Metric):
    quantizer = layer(metric=metric, revive=True)
    book = quantizer.codebook
    book.unused_for += 10**6
    before, found = book.table.detach().clone(), []

    def noted(*args: object) -> object:
        found.append(replacements(*args))  # pyright: ignore[reportArgumentType]
        return found[-1]

    replacements = codebook.replacements
    z_e = torch.randn(3, DIM) + torch.tensor([5.0, -5, 5, -5])
    with mock.patch.object(codebook, "replacements", noted):
        quantizer(z_e)
    (drawn,) = found
    rows = drawn.rows[drawn.accepted]
    assert len(rows) > 0
    assert_close(book.table[rows], drawn.vectors[drawn.accepted], rtol=0, atol=1e-5)
    among = torch.cdist(book.table[rows].detach(), book.project(z_e))
    assert (among.amin(-1) < 1e-5).all()
    others = torch.ones(SIZE, dtype=torch.bool).index_fill(0, rows, False)
    assert torch.equal(book.table[others], before[others])


def test_revival_does_not_reach_into_a_direction_that_the_map_has_almost_lost():
    quantizer = layer(revive=True)
    book = quantizer.codebook
    assert isinstance(book, LinearCodebook)
    left, _, right = torch.linalg.svd(torch.randn(DIM, DIM))
    strong = torch.tensor([2.0, 1.0, 0.5])
    with torch.no_grad():
        book.weight.copy_(left @ torch.cat([strong, torch.tensor([1e-5])]).diag() @ right)
    book.unused_for += 10**6
    before = book.entries.clone()
    z_e = 5 + torch.randn(3, DIM)
    quantizer(z_e)
    rows = (book.entries != before).any(-1)
    assert rows.any()
    assert (book.entries[rows].norm(dim=-1) < 10 * z_e.norm(dim=-1).max() / strong.min()).all()
    # What is left of a vector without that direction is reached.
    kept = z_e @ right[:3].T @ right[:3]
    assert (torch.cdist(book.table[rows].detach(), kept).amin(-1) < 1e-3).all()


def test_a_start_from_data_sets_the_map_to_the_identity():
    quantizer = layer()
    book = quantizer.codebook
    assert isinstance(book, LinearCodebook)
    centres = torch.randn(SIZE, DIM)
    quantizer.initialize(centres.repeat(5, 1), seed=0)
    assert torch.equal(book.weight, torch.eye(DIM))
    gaps = torch.cdist(book.table.detach(), centres)
    assert (gaps.amin(0) < 1e-4).all()
    assert (gaps.amin(1) < 1e-4).all()


def test_the_map_of_a_frozen_codebook_stays_and_the_entries_never_take_gradients():
    quantizer = layer(revive=True)
    book = quantizer.codebook
    assert isinstance(book, LinearCodebook)
    for frozen in (True, False):
        book.freeze(frozen)
        assert book.weight.requires_grad is not frozen
        assert not book.entries.requires_grad
        before = book.table.detach().clone()
        book.unused_for += 10**6
        z_e = (torch.randn(50, DIM) + 5).requires_grad_()
        quantizer(z_e).loss.backward()
        assert torch.equal(book.table, before) is frozen
        assert (book.weight.grad is None) is frozen


def test_entries_that_are_added_are_in_the_table_whatever_the_map():
    book = layer().codebook
    before, new = book.table.detach().clone(), torch.randn(3, DIM)
    book.extend(new)
    assert_close(book.table, torch.cat([before, new]), rtol=0, atol=1e-5)
    assert not book.entries.requires_grad
    remap = book.prune(torch.arange(SIZE + 3) >= 2)
    assert_close(book.table[remap[2:]], torch.cat([before, new])[2:], rtol=0, atol=1e-5)


def test_lengths_and_angles_of_the_map_count_for_the_cosine_after_it():
    book, z_e = layer(metric="cosine").codebook, torch.randn(40, DIM)
    assert isinstance(book, LinearCodebook)
    table = F.normalize(book.entries @ book.weight, dim=-1)
    assert_close(book.table, table)
    assert torch.equal(book.nearest(book.project(z_e)), (z_e @ table.T).argmax(-1))
