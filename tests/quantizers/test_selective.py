"""What must hold in particular where only some positions get a code."""

import copy

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.codes import Codes, Level
from vqkit.evaluation.codebook import CodeCounter
from vqkit.evaluation.likelihood import uniform_bits
from vqkit.quantizers import (
    Codebook,
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    Hiding,
    Residual,
    Selective,
    SelectiveConfig,
    VectorQuantizer,
)

DIM, SIZE = 4, 16


def layer(keep: float = 0.5, hiding: Hiding | None = None) -> Selective:
    """Of given entries, and a fill that is none of them."""
    torch.manual_seed(0)
    book = Codebook.from_entries(torch.randn(SIZE, DIM))
    made = Selective(VectorQuantizer(DIM, SIZE, codebook=book), keep=keep, hiding=hiding)
    with torch.no_grad():
        made.fill.normal_()
    return made


def test_a_position_that_is_left_out_becomes_the_fill_and_has_indices_zero():
    quantizer, z_e = layer().eval(), torch.randn(200, DIM)
    out = quantizer(z_e)
    kept = quantizer.score(z_e).squeeze(-1) > quantizer.threshold
    assert 0 < kept.sum() < 200
    assert torch.equal(out.indices[:, 0], kept.long())
    assert (out.indices[~kept] == 0).all()
    assert torch.equal(out.z_q[~kept], quantizer.fill.detach().expand((~kept).sum(), -1))
    assert torch.equal(out.z_q[kept], quantizer.quantizer(z_e[kept]).z_q)
    assert torch.equal(quantizer.decode(out.indices), out.z_q)


def test_its_loss_is_that_of_the_kept_positions_over_all_positions():
    quantizer, z_e = layer().eval(), torch.randn(200, DIM)
    out = quantizer(z_e)
    kept = out.indices[:, 0] > 0
    inside = quantizer.quantizer(z_e[kept])
    assert_close(out.loss, inside.loss * kept.sum() / 200)
    assert_close(out.terms["commitment"].value, inside.terms["commitment"].value)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_the_start_keeps_the_share_of_its_vectors_that_was_asked_for(keep: float):
    quantizer, z_e = layer(keep), torch.randn(1000, DIM)
    quantizer.initialize(z_e, seed=0)
    assert_close(quantizer.encode(z_e)[:, 0].float().mean().item(), keep, rtol=0, atol=2e-3)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_the_threshold_follows_scores_that_move(keep: float):
    quantizer = layer(keep)
    quantizer.initialize(torch.randn(1000, DIM), seed=0)
    for _ in range(300):
        with torch.no_grad():
            quantizer.score[0].bias.add_(0.01)  # pyright: ignore
            quantizer.score[2].weight.mul_(1.003)  # pyright: ignore
        quantizer(torch.randn(500, DIM))
    share = quantizer.encode(torch.randn(20_000, DIM))[:, 0].float().mean().item()
    assert_close(share, keep, rtol=0, atol=0.05)


def test_scores_are_pulled_to_what_the_loss_would_fall_by_without_moving_anything_else():
    quantizer, asked = layer(), torch.randn(50, DIM)
    quantizer.unit.fill_(4.0)
    z_e = torch.randn(50, DIM, requires_grad=True)
    out = quantizer(z_e)
    out.z_q.backward(asked)
    kept = out.indices[:, :1] > 0
    assert torch.equal(z_e.grad, asked * kept)  # the straight-through gradient alone
    saved = -(asked * (z_e - quantizer.fill)).sum(-1).detach()
    scores = quantizer.score(z_e.detach()).squeeze(-1)
    root = 2.0  # of the unit
    loss = (0.5 * root * (scores - saved / root).square() * ~kept.squeeze(-1)).sum()
    expected = torch.autograd.grad(loss, [*quantizer.score.parameters()])
    assert_close([p.grad for p in quantizer.score.parameters()], list(expected))


def test_it_learns_to_keep_the_positions_that_say_something():
    """Half of the vectors are all the same, the others one of eight."""
    torch.manual_seed(0)
    quantizer = Selective(EMAVectorQuantizer(DIM, 8), keep=0.5)
    centers = 2 * torch.randn(8, DIM)
    optimizer = torch.optim.Adam(quantizer.parameters(), 1e-2)

    def draw(num: int) -> tuple[Tensor, Tensor]:
        tells = torch.rand(num) < 0.5
        x = torch.where(tells.unsqueeze(1), centers[torch.randint(8, (num,))], torch.ones(DIM))
        return x + 0.1 * torch.randn(num, DIM), tells

    for _ in range(400):
        x, _ = draw(256)
        out = quantizer(x)
        optimizer.zero_grad()
        ((out.z_q - x).square().mean() + out.loss).backward()
        optimizer.step()
    x, tells = draw(2000)
    kept = quantizer.eval()(x).indices[:, 0] > 0
    assert (kept == tells).float().mean() > 0.95
    assert (quantizer(x).z_q - x).square().mean() < 0.03  # the noise is 0.01


def test_with_all_kept_the_score_is_not_trained_and_codes_are_those_inside():
    quantizer, z_e = layer(keep=1), torch.randn(100, DIM)
    out = quantizer(z_e)
    assert (out.indices[:, 0] == 1).all()
    assert torch.equal(out.indices[:, 1:], quantizer.quantizer.encode(z_e))
    assert not any(p.requires_grad for p in quantizer.score.parameters())


@pytest.mark.parametrize("block", [1, 3])
def test_the_share_that_was_asked_for_is_hidden_in_training_alone(block: int):
    quantizer = layer(keep=1, hiding=Hiding(share=0.3, block=block))
    z_e = torch.randn(400, 9, 9, DIM)
    hidden = quantizer(z_e).indices[..., 0] == 0
    assert_close(hidden.float().mean().item(), 0.3, rtol=0, atol=0.02)
    assert not torch.equal(quantizer(z_e).indices[..., 0] == 0, hidden)  # others in the next step
    assert (quantizer.eval()(z_e).indices[..., 0] == 1).all()
    assert (quantizer.encode(z_e)[..., 0] == 1).all()


def is_made_of_blocks(hidden: Tensor, begin: tuple[int, int], block: int) -> bool:
    """Whether a picture (H, W) is constant on blocks of which one begins at a place."""
    places = torch.cartesian_prod(*map(torch.arange, hidden.shape))
    names = (places + torch.tensor(begin)) // block
    flat = hidden.flatten()
    return all(flat[(names == name).all(1)].unique().numel() == 1 for name in names.unique(dim=0))


def test_blocks_are_hidden_whole_and_begin_elsewhere_in_each_item():
    quantizer = layer(keep=1, hiding=Hiding(share=0.5, block=3))
    hidden = quantizer(torch.randn(40, 7, 8, DIM)).indices[..., 0] == 0
    begins = [(y, x) for y in range(3) for x in range(3)]
    possible = [[b for b in begins if is_made_of_blocks(item, b, 3)] for item in hidden]
    assert all(possible)
    assert len({found[0] for found in possible if len(found) == 1}) > 4


def test_hidden_blocks_do_not_depend_on_the_split_into_micro_batches():
    whole = layer(hiding=Hiding(share=0.5, block=2))
    whole.commit_in_forward = False
    z_e = torch.randn(10, 5, 6, DIM)
    whole.initialize(z_e, seed=0, keep_started=True)
    parts = copy.deepcopy(whole)
    joined = torch.cat([parts(z_e[:3]).indices, parts(z_e[3:]).indices])
    assert torch.equal(whole(z_e).indices, joined)


def test_codes_of_positions_without_one_are_not_counted_and_cost_nothing():
    indices = torch.tensor([[[1, 5], [0, 0], [1, 5]], [[0, 0], [0, 0], [1, 2]]])
    mask = torch.tensor([[True, True, True], [True, False, True]])
    codes = Codes((Level(indices, (2, SIZE), "selective", mask),))
    counter = CodeCounter([(2, SIZE)])
    counter.add(codes)
    ((flags, entries),) = counter.stats()
    assert flags.counts.tolist() == [2, 3]
    assert entries.num_vectors == 3
    assert entries.counts[[2, 5]].tolist() == [1, 2]
    assert uniform_bits(codes).tolist() == [3 + 2 * 4, 2 + 4]


def test_a_stage_of_a_residual_must_not_be_selective():
    with pytest.raises(ValueError, match=r"Selective\(Residual"):
        Residual([layer(), layer()])


@pytest.mark.parametrize("keep", [0, -1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(keep: float):
    with pytest.raises(ValueError, match="keep"):
        Selective(VectorQuantizer(DIM, SIZE), keep=keep)
    with pytest.raises(ValueError, match="keep"):
        SelectiveConfig(keep=keep)


def test_a_start_from_numbers_that_are_none_is_refused_without_a_codebook_inside_too():
    layer, z_e = Selective(FiniteScalarQuantizer((5, 5, 5, 5))), torch.randn(50, 4)
    before, z_e[3, 1] = copy.deepcopy(layer.state_dict()), torch.nan
    with pytest.raises(ValueError, match="not finite"):
        layer.initialize(z_e, seed=0)
    assert_close(layer.state_dict(), before, rtol=0, atol=0)


def test_what_is_selective_already_or_no_hiding_is_refused():
    inner = EMAVectorQuantizer(4, 8)
    with pytest.raises(ValueError, match="quantizer is selective already"):
        Selective(Selective(inner))
    with pytest.raises(TypeError, match=r"hiding is 0\.25; give Hiding"):
        Selective(inner, hiding=0.25)  # pyright: ignore


def test_a_first_batch_that_overflows_starts_nothing():
    selective = Selective(EMAVectorQuantizer(DIM, SIZE))
    before = {name: tensor.clone() for name, tensor in selective.state_dict().items()}
    with pytest.raises(ValueError, match="too large to start a threshold"):
        selective(1e30 * torch.randn(64, DIM))
    assert_close(selective.state_dict(), before, rtol=0, atol=0)
    selective(torch.randn(64, DIM))
    assert selective.threshold.isfinite()
