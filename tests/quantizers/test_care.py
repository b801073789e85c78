"""What must hold when a codebook is frozen, extended or pruned, and on the sphere."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import Codebook, EMAVectorQuantizer, SimVQuantizer, VectorQuantizer

DIM, SIZE = 4, 16
KINDS = [EMAVectorQuantizer, VectorQuantizer]
Kind = type[EMAVectorQuantizer] | type[VectorQuantizer]


def layer(kind: Kind = EMAVectorQuantizer, *, metric: str = "euclidean", revive: bool = False):
    torch.manual_seed(0)
    book = Codebook.from_entries(torch.randn(SIZE, DIM), metric=metric)  # pyright: ignore
    return kind(DIM, SIZE, codebook=book, revive=revive)


def train_step(quantizer: EMAVectorQuantizer | VectorQuantizer, z_e: Tensor) -> Tensor:
    """One step of all that may move entries; the indices."""
    out = quantizer(z_e)
    leaves = [leaf for leaf in quantizer.parameters() if leaf.requires_grad]
    if leaves:
        out.loss.backward()
        torch.optim.SGD(leaves, lr=1.0).step()
    return out.indices.squeeze(-1)


def saved(book: Codebook) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in book.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_entries_do_not_move_while_their_use_is_followed(kind: Kind):
    """Neither by averages, nor by gradients, nor by revival."""
    quantizer = layer(kind, revive=True)
    book = quantizer.codebook
    book.freeze()
    before = saved(book)
    book.unused_for += 10**6
    used = torch.cat([train_step(quantizer, torch.randn(5, DIM) + 3) for _ in range(3)]).unique()
    assert torch.equal(book.entries, before["entries"])
    assert torch.equal(book.average_counts > 0, torch.isin(torch.arange(SIZE), used))
    assert (book.unused_for[used] < 15).all()
    assert book.unused_for.amax() == 10**6 + 15
    assert not book.candidates
    assert book.step == 3


@pytest.mark.parametrize("kind", KINDS)
def test_entries_that_are_freed_again_move_again(kind: Kind):
    quantizer = layer(kind, revive=True)
    quantizer.codebook.freeze()
    train_step(quantizer, torch.randn(20, DIM))
    quantizer.codebook.freeze(False)
    before = quantizer.codebook.entries.detach().clone()
    quantizer.codebook.unused_for += 10**6
    used = train_step(quantizer, torch.randn(5, DIM)).unique()
    moved = (quantizer.codebook.entries != before).any(-1)
    assert moved[used].all()
    assert moved.sum() > len(used)  # revival too
    assert quantizer.codebook.entries.requires_grad is (kind is VectorQuantizer)


@pytest.mark.parametrize("kind", [VectorQuantizer, SimVQuantizer])
def test_an_optimizer_that_holds_gradients_and_momentum_moves_no_frozen_entry(kind: Kind):
    torch.manual_seed(0)
    quantizer = kind(DIM, SIZE)
    optimizer = torch.optim.AdamW(quantizer.parameters(), lr=0.1, weight_decay=0.5)
    quantizer(torch.randn(50, DIM)).loss.backward()
    optimizer.step()
    quantizer.codebook.freeze()
    table = quantizer.codebook.table.clone()
    for _ in range(2):
        optimizer.zero_grad(set_to_none=False)
        quantizer(torch.randn(50, DIM))
        optimizer.step()
    assert torch.equal(quantizer.codebook.table, table)
    quantizer.codebook.freeze(False)
    quantizer(torch.randn(50, DIM)).loss.backward()
    optimizer.step()
    assert not torch.equal(quantizer.codebook.table, table)


@pytest.mark.parametrize("change", ["prune", "extend"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_was_changed_in_inference_mode_trains_on(kind: Kind, change: str):
    quantizer = layer(kind)
    with torch.inference_mode():
        if change == "prune":
            quantizer.codebook.prune(torch.arange(SIZE) < 5)
        else:
            quantizer.codebook.extend(torch.randn(3, DIM))
    before = quantizer.codebook.entries.detach().clone()
    train_step(quantizer, torch.randn(50, DIM))
    assert not torch.equal(quantizer.codebook.entries, before)


@pytest.mark.parametrize(
    ("used", "error", "match"),
    [
        (
            torch.ones(5, dtype=torch.bool),
            ValueError,
            r"shape \(5,\); give a boolean for each of 16",
        ),
        ([True] * SIZE, TypeError, r"^used: give a tensor .* not a list"),
        (np.ones(SIZE, dtype=bool), TypeError, r"^used: give a tensor .* not a ndarray"),
    ],
)
def test_what_does_not_say_which_entries_stay_is_refused(
    used: Tensor, error: type[Exception], match: str
):
    with pytest.raises(error, match=match):
        layer().codebook.prune(used)


def test_a_codebook_frozen_before_a_quantizer_takes_it_stays_frozen():
    book = Codebook.from_entries(torch.randn(SIZE, DIM))
    book.freeze()
    assert not VectorQuantizer(DIM, SIZE, codebook=book).codebook.entries.requires_grad
    book.freeze(False)
    assert book.entries.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_added_entries_leave_old_codes_alone_and_start_unused(kind: Kind):
    quantizer = layer(kind)
    train_step(quantizer, torch.randn(50, DIM))
    book = quantizer.codebook
    before, old = saved(book), torch.arange(SIZE).unsqueeze(-1)
    values, new = quantizer.decode(old).detach().clone(), torch.randn(3, DIM)
    book.extend(new)
    assert quantizer.codebook_sizes == (book.size,) == (SIZE + 3,)
    assert torch.equal(quantizer.decode(old), values)
    assert torch.equal(quantizer.decode(torch.arange(SIZE, SIZE + 3).unsqueeze(-1)), new)
    for name in ("average_counts", "average_sums", "unused_for"):
        assert torch.equal(getattr(book, name)[:SIZE], before[name])
        assert not getattr(book, name)[SIZE:].any()
    assert book.entries.requires_grad is (kind is VectorQuantizer)


@pytest.mark.parametrize("kind", KINDS)
def test_an_extended_codebook_trains_on_as_one_of_that_size(kind: Kind):
    """Against a codebook that had all entries from the start."""
    quantizer, new = layer(kind, revive=True), torch.randn(5, DIM)
    entries = torch.cat([quantizer.codebook.entries.detach(), new])
    whole = kind(DIM, SIZE + 5, codebook=Codebook.from_entries(entries))
    whole.codebook.random_seed = quantizer.codebook.random_seed
    whole.codebook.seed.copy_(quantizer.codebook.seed)
    quantizer.codebook.extend(new)
    for batch in torch.randn(10, 50, DIM):
        assert torch.equal(train_step(quantizer, batch), train_step(whole, batch))
    assert_close(saved(quantizer.codebook), saved(whole.codebook), rtol=0, atol=0)
    assert (quantizer.codebook.average_counts[SIZE:] > 0).any()


def test_pruning_keeps_what_indices_stand_for_and_sends_others_to_the_nearest():
    quantizer = layer()
    for _ in range(3):
        train_step(quantizer, torch.randn(6, DIM))
    book, every = quantizer.codebook, torch.arange(SIZE)
    before, values = saved(book), quantizer.decode(every.unsqueeze(-1)).clone()
    used = before["average_counts"] > 0
    assert 2 <= used.sum() < SIZE
    remap = book.prune()
    assert quantizer.codebook_sizes == (int(used.sum()),)
    found = quantizer.decode(remap.unsqueeze(-1))
    assert torch.equal(found[used], values[used])
    for k in every[~used]:
        nearest = (values[used] - values[k]).square().sum(-1).argmin()
        assert torch.equal(found[k], values[used][nearest])
    for name in ("entries", "average_counts", "average_sums", "unused_for"):
        assert torch.equal(book.state_dict()[name], before[name][used])
    z_e = torch.randn(100, DIM)
    assert quantizer.encode(z_e).amax() < book.size
    train_step(quantizer, z_e)
    assert book.entries.isfinite().all()


def test_those_that_stay_may_be_named_and_equal_entries_keep_their_own_place():
    book = Codebook.from_entries(torch.tensor([[0.0], [1], [1], [5]]))
    assert book.prune(torch.tensor([False, True, True, True])).tolist() == [0, 0, 1, 2]
    assert book.entries.flatten().tolist() == [1, 1, 5]


@pytest.mark.parametrize("change", [lambda b: b.extend(torch.ones(1, DIM)), Codebook.prune])
def test_what_was_pending_for_the_old_table_is_forgotten(change: Callable[[Codebook], object]):
    quantizer = layer(revive=True)
    train_step(quantizer, torch.randn(50, DIM))
    quantizer.commit_in_forward = False
    quantizer(torch.randn(50, DIM) + 5)
    change(quantizer.codebook)
    assert not quantizer.codebook.candidates
    after = saved(quantizer.codebook)
    quantizer.commit()
    assert_close(saved(quantizer.codebook), after, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda b: b.extend(torch.ones(2, DIM + 1)), ValueError, r"\(2, 5\); give \(M, 4\)"),
        (lambda b: b.extend(torch.ones(DIM)), ValueError, r"\(4,\); give \(M, 4\)"),
        (lambda b: b.extend(torch.full((1, DIM), torch.nan)), ValueError, "finite"),
        (lambda b: b.prune(torch.arange(SIZE) < 1), ValueError, "1 of 16 entries would stay"),
        (lambda b: b.prune(), ValueError, "0 of 16 entries would stay"),
        (lambda b: b.prune(torch.ones(3, dtype=torch.bool)), ValueError, "a boolean for each"),
        (lambda b: b.prune(torch.ones(SIZE, dtype=torch.int64)), TypeError, "give booleans"),
    ],
)
def test_a_change_that_is_refused_leaves_the_state(
    change: Callable[[Codebook], object], error: type[Exception], match: str
):
    book = layer().codebook
    before = saved(book)
    with pytest.raises(error, match=match):
        change(book)
    assert_close(saved(book), before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_cosine_lookup_loss_and_value_are_on_the_sphere(kind: Kind):
    quantizer, z_e = layer(kind, metric="cosine"), 3 * torch.randn(200, DIM)
    entries = F.normalize(quantizer.codebook.entries.detach().double(), dim=-1)
    directions = F.normalize(z_e.double(), dim=-1)
    quantizer.commit_in_forward = False
    out = quantizer(z_e)
    best = (directions @ entries.T).argmax(-1)
    assert torch.equal(out.indices.squeeze(-1), best)
    assert torch.equal(quantizer.encode(z_e).squeeze(-1), best)
    assert_close(out.z_q.double(), entries[best], rtol=0, atol=1e-6)
    by_hand = (directions - entries[best]).square().mean()
    assert_close(out.terms["commitment"].value.double(), by_hand, rtol=1e-4, atol=0)
    assert_close(out.loss.double(), by_hand * quantizer.error_weight, rtol=1e-4, atol=0)


def test_with_the_cosine_an_entry_is_the_normalised_mean_direction_of_its_vectors():
    quantizer = layer(metric="cosine")
    batches = torch.randn(3, 100, DIM) * torch.tensor([1.0, 10, 100]).view(3, 1, 1)
    indices = torch.stack([train_step(quantizer, batch) for batch in batches])
    weights = (0.99 ** torch.tensor([2.0, 1, 0])).unsqueeze(1).expand(3, 100)
    directions = F.normalize(batches, dim=-1)
    for k in range(SIZE):
        mine = indices == k
        assert mine.any()
        expected = F.normalize(weights[mine] @ directions[mine], dim=0)
        assert_close(quantizer.codebook.entries[k].data, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-2, 10.0, 1e6])
def test_with_the_cosine_the_scale_of_vectors_changes_no_code(kind: Kind, scale: float):
    quantizer, z_e = layer(kind, metric="cosine"), torch.randn(200, DIM)
    assert torch.equal(quantizer.encode(z_e), quantizer.encode(scale * z_e))
    scales = torch.rand(200, 1) + 0.5
    assert torch.equal(quantizer.encode(z_e), quantizer.encode(scales * z_e))


def test_with_the_cosine_the_start_revival_and_added_entries_are_on_the_sphere():
    quantizer = EMAVectorQuantizer(DIM, SIZE, metric="cosine")
    book = quantizer.codebook
    book.initialize(book.project(5 * torch.randn(200, DIM)), seed=0)
    assert_close(book.entries.norm(dim=-1), torch.ones(SIZE))
    before = book.entries.detach().clone()
    book.unused_for += 10**6
    used = quantizer(7 * torch.randn(3, DIM)).indices.unique()
    assert (book.entries != before).any(-1).sum() > len(used)
    book.extend(9 * torch.randn(2, DIM))
    assert_close(book.entries.norm(dim=-1), torch.ones(SIZE + 2), rtol=0, atol=1e-4)


def test_a_metric_that_is_none_is_refused():
    with pytest.raises(ValueError, match="give 'euclidean' or 'cosine'"):
        Codebook(SIZE, DIM, metric="manhattan")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="codebook has metric 'euclidean'"):
        VectorQuantizer(DIM, SIZE, metric="cosine", codebook=Codebook(SIZE, DIM))
    assert copy.deepcopy(Codebook(SIZE, DIM, metric="cosine")).metric == "cosine"


@pytest.mark.parametrize("kind", [EMAVectorQuantizer, VectorQuantizer, SimVQuantizer])
def test_frozen_entries_stay_where_a_model_around_them_is_thawed(kind: Kind):
    torch.manual_seed(0)
    quantizer = kind(DIM, SIZE)
    quantizer.initialize(torch.randn(100, DIM), seed=0)
    quantizer.codebook.freeze()
    quantizer.requires_grad_(False).requires_grad_(True)
    table = quantizer.codebook.table.detach().clone()
    optimizer = torch.optim.AdamW(quantizer.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        z_e = torch.randn(50, DIM, requires_grad=True)
        out = quantizer(z_e)
        (out.z_q.square().mean() + out.loss).backward()
        optimizer.step()
    assert torch.equal(quantizer.codebook.table, table)


def test_the_entries_of_a_linear_map_stay_where_a_model_around_them_is_thawed():
    quantizer = SimVQuantizer(DIM, SIZE, revive=False)
    quantizer.initialize(torch.randn(100, DIM), seed=0)
    quantizer.requires_grad_(True)
    before = saved(quantizer.codebook)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.1)
    quantizer(torch.randn(50, DIM)).loss.backward()
    optimizer.step()
    assert torch.equal(quantizer.codebook.entries, before["entries"])
    assert not torch.equal(quantizer.codebook.weight, before["weight"])  # pyright: ignore
