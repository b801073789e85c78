"""What must hold for multi-scale residual quantization in particular."""

import itertools
import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import (
    Codebook,
    EMAConfig,
    EMAVectorQuantizer,
    FSQConfig,
    MultiScaleConfig,
    MultiScaleResidual,
    VectorQuantizer,
    VQConfig,
)
from vqkit.quantizers.scales import Grid, Scale

DIM, SIZE, BETA = 3, 16, 0.25
POOLS = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
SQUARE = ((1, 1), (2, 2), (4, 4), (8, 8))
ODD = ((1, 1), (2, 2), (4, 4), (7, 7))
LINE = ((1,), (2,), (5,), (9,))
SPACE = ((1, 1, 1), (2, 1, 3), (3, 2, 3), (5, 4, 3))
ALL = [SQUARE, ODD, LINE, SPACE, ((2, 3), (4, 6)), ((5, 4),)]


def layer(scales: tuple[Grid, ...], *, shared: bool = False) -> MultiScaleResidual:
    """Scales of given entries in float64; nothing is committed yet."""
    parts = []
    for number in range(1 if shared else len(scales)):
        book = Codebook.from_entries(torch.randn(SIZE, DIM).double() / (1 + number))
        parts.append(EMAVectorQuantizer(DIM, SIZE, commitment=BETA, revive=False, codebook=book))
    made = MultiScaleResidual(parts * (len(scales) // len(parts)), scales)
    made.commit_in_forward = False
    return made


def by_hand(
    quantizer: MultiScaleResidual, z_e: Tensor
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Indices (B, L), what each scale saw (B, *scale, D), and the sums so far (B, *grid, D)."""
    num_axes, full = z_e.dim() - 2, z_e.shape[1:-1]
    left, total = z_e.movedim(-1, 1), torch.zeros_like(z_e.movedim(-1, 1))
    indices, seen, sums = [], [], []
    for grid, part in zip(quantizer.scales, quantizer.parts, strict=True):
        assert isinstance(part, EMAVectorQuantizer)
        seen.append(POOLS[num_axes](left, grid).movedim(1, -1))
        distances = (seen[-1].unsqueeze(-2) - part.codebook.entries).square().sum(-1)
        indices.append(distances.argmin(-1))
        chosen = part.codebook.entries[indices[-1]].movedim(-1, 1)
        added = F.interpolate(chosen, full, mode=MODES[num_axes], align_corners=False)
        left, total = left - added, total + added
        sums.append(total.movedim(1, -1))
    return torch.cat([some.flatten(1) for some in indices], 1), seen, sums


def smooth(num: int, grid: Grid, seed: int = 0) -> Tensor:
    """Vectors that change slowly over a grid of two axes, as images do. (num, *grid, DIM)"""
    coarse = torch.randn(num, DIM, 2, 2, generator=torch.Generator().manual_seed(seed))
    rough = torch.randn(num, DIM, *grid, generator=torch.Generator().manual_seed(seed + 1))
    large = F.interpolate(2 * coarse, grid, mode="bilinear")
    return (large + 0.3 * rough).movedim(1, -1)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("scales", ALL)
def test_it_is_the_papers_loop_over_the_scales(scales: tuple[Grid, ...], shared: bool):
    quantizer = layer(scales, shared=shared)
    z_e = torch.randn(6, *scales[-1], DIM, dtype=torch.float64)
    indices, _, sums = by_hand(quantizer, z_e)
    out = quantizer(z_e)
    assert torch.equal(out.indices.squeeze(-1), indices)
    assert torch.equal(quantizer.encode(z_e), out.indices)
    assert_close(out.z_q, sums[-1], rtol=0, atol=1e-12)
    ends = itertools.accumulate(math.prod(grid) for grid in scales)
    for end, total in zip(ends, sums, strict=True):  # any number of leading scales decodes
        assert_close(quantizer.decode(out.indices[:, :end]), total, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("fine", "coarse"), [(8, 4), (7, 4), (16, 13), (5, 5), (3, 1)])
def test_averages_and_lines_are_those_of_torch_in_any_precision(fine: int, coarse: int):
    scale = Scale((coarse, 2), (fine, 6))
    for module in (scale, scale.float().double()):  # no weight was rounded on the way
        z = torch.randn(2, fine, 6, DIM, dtype=torch.float64)
        pooled = F.adaptive_avg_pool2d(z.movedim(-1, 1), (coarse, 2))
        assert_close(module.average(z, None), pooled.movedim(1, -1), rtol=0, atol=1e-14)
        back = F.interpolate(pooled, (fine, 6), mode="bilinear").movedim(1, -1)
        assert_close(module.interpolate(pooled.movedim(1, -1)), back, rtol=0, atol=1e-14)


@pytest.mark.parametrize("scales", ALL)
def test_a_coarse_code_stands_for_the_mean_of_what_is_real_in_its_cell(scales: tuple[Grid, ...]):
    quantizer = layer(scales)
    mask = torch.rand(9, *scales[-1]) > 0.8
    mask[0], mask[1] = True, False
    z = torch.randn(9, *scales[-1], DIM, dtype=torch.float64)
    found, flags = [], []
    for grid, scale in zip(scales, quantizer.grids, strict=True):
        average = scale.average(z, mask)
        for cell in itertools.product(*map(range, grid)):
            box = tuple(
                slice(i * m // n, -(-(i + 1) * m // n))
                for i, n, m in zip(cell, grid, scales[-1], strict=True)
            )
            for b in range(9):
                real = z[b][box][mask[b][box]]
                expected = real.mean(0) if len(real) else torch.zeros(DIM).double()
                assert_close(average[(b, *cell)], expected)
                found.append(len(real) > 0)
        flags.append(torch.tensor(found).view(-1, 9).T)
        found.clear()
    assert torch.equal(quantizer.code_mask(mask), torch.cat(flags, 1))


def test_the_error_falls_with_every_scale():
    for shared in (True, False):
        config = MultiScaleConfig(quantizer=EMAConfig(codebook_size=32), shared=shared)
        quantizer = config.build(DIM)
        for seed in range(0, 60, 2):
            quantizer(smooth(32, (8, 8), seed))
        z_e = smooth(64, (8, 8), 1000)
        indices = quantizer.encode(z_e)
        ends = [1, 5, 21, 85]
        errors = [(quantizer.decode(indices[:, :end]) - z_e).square().mean() for end in ends]
        errors = [float(error / z_e.var()) for error in errors]
        assert all(later < 0.9 * earlier for earlier, later in pairwise([1.0, *errors])), errors


def test_every_scales_commitment_pulls_the_encoder():
    """Equation by hand: the mean over scales of the mean over their codes."""
    quantizer = layer(ODD)
    z_e = torch.randn(5, 7, 7, DIM, dtype=torch.float64, requires_grad=True)
    out = quantizer(z_e)
    indices, _, _ = by_hand(quantizer, z_e.detach())
    left, loss, squares = z_e.movedim(-1, 1), 0, []
    cut = indices.split([1, 4, 16, 49], 1)
    for grid, part, some in zip(ODD, quantizer.parts, cut, strict=True):
        assert isinstance(part, EMAVectorQuantizer)
        entries = part.codebook.entries[some.unflatten(1, grid)].movedim(-1, 1)
        gaps = F.adaptive_avg_pool2d(left, grid) - entries
        loss = loss + BETA * gaps.square().mean() / len(ODD)
        squares.append(gaps.detach().square().mean(1).flatten())
        left = left - F.interpolate(entries, (7, 7), mode="bilinear")
    assert_close(out.loss, loss)
    assert_close(out.terms["commitment"].value, torch.cat(squares).mean())
    expected = torch.autograd.grad(loss, z_e)
    assert_close(torch.autograd.grad(out.loss, z_e), expected)


@pytest.mark.parametrize("scales", [((4, 4),), ((1, 1), (4, 4)), ((1, 1), (2, 2), (3, 3), (4, 4))])
def test_the_weight_of_the_commitment_does_not_depend_on_the_scales(scales: tuple[Grid, ...]):
    """Where no scale takes anything away, all see the same gap: that of a quantizer alone."""
    book = Codebook.from_entries(torch.zeros(2, DIM))
    alone = EMAVectorQuantizer(DIM, 2, codebook=book, revive=False).eval()
    quantizer = MultiScaleResidual([alone] * len(scales), scales)
    z_e = torch.randn(6, 1, 1, DIM).expand(6, 4, 4, DIM)
    assert_close(quantizer(z_e).loss, alone(z_e).loss)


def test_one_scale_is_the_quantizer_itself():
    """Value, losses, gradients and codebooks, step by step."""
    for kind in (VectorQuantizer, EMAVectorQuantizer):
        book = Codebook.from_entries(torch.randn(SIZE, DIM))
        alone = kind(DIM, SIZE, codebook=book)
        inner = kind(DIM, SIZE, codebook=Codebook.from_entries(book.entries.detach()))
        inner.codebook.load_state_dict(book.state_dict())
        quantizer = MultiScaleResidual([inner], [(3, 5)])
        for batch in torch.randn(4, 6, 3, 5, DIM):
            mask = torch.rand(6, 3, 5) > 0.3
            found = []
            for one in (quantizer, alone):
                z_e = batch.clone().requires_grad_()
                out = one(z_e, mask)
                (out.loss + (out.z_q * torch.arange(DIM)).sum()).backward()
                found.append((out.z_q, out.indices.flatten(), out.loss, z_e.grad))
            assert_close(*found, rtol=0, atol=0)
            assert_close(dict(inner.state_dict()), dict(alone.state_dict()), rtol=0, atol=0)


def test_the_decoders_gradient_reaches_the_encoder_once():
    for quantizer in (layer(SQUARE), MultiScaleConfig(quantizer=VQConfig()).build(DIM).double()):
        z_e = torch.randn(4, 8, 8, DIM, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(4, 8, 8, DIM, dtype=torch.float64)
        (gradient,) = torch.autograd.grad((quantizer(z_e).z_q * weight).sum(), z_e)
        assert torch.equal(gradient, weight)


def test_codes_lie_coarse_to_fine_and_in_raster_order():
    scale = EMAVectorQuantizer(
        1, 64, codebook=Codebook.from_entries(torch.arange(64.0).view(-1, 1))
    )
    quantizer = MultiScaleResidual([scale] * 2, [(2, 2), (4, 4)]).eval()
    corners = torch.tensor([[10.0, 20.0], [30.0, 40.0]]).repeat_interleave(2, 0)
    z_e = corners.repeat_interleave(2, 1).view(1, 4, 4, 1)
    indices = quantizer.encode(z_e)
    assert indices.shape == (1, 20, 1)
    assert indices[0, :4, 0].tolist() == [10, 20, 30, 40]
    left = z_e - quantizer.decode(indices[:, :4])
    assert torch.equal(indices[:, 4:], scale.encode(left).flatten(1, 2))


def test_a_shared_codebook_is_one_that_all_scales_move_once_per_commit():
    quantizer, z_e = layer(SQUARE, shared=True), torch.randn(5, 8, 8, DIM, dtype=torch.float64)
    (book,) = quantizer.codebooks()
    indices, seen, _ = by_hand(quantizer, z_e)
    before = book.entries.detach().clone()
    quantizer(z_e)
    quantizer.commit()
    assert book.step == 1
    assert sum(name.endswith("entries") for name in quantizer.state_dict()) == 1
    rows = torch.cat([some.flatten(1, -2) for some in seen], 1)
    for k in range(SIZE):
        mine = rows[indices == k]
        assert_close(book.entries[k].data, mine.mean(0) if len(mine) else before[k])


def test_a_shared_codebook_starts_from_what_all_scales_see():
    """Items of large means with small differences inside: both need entries."""
    z_e = 100 * torch.randn(50, 1, 1, DIM).sign() + torch.randn(50, 4, 4, DIM)
    config = MultiScaleConfig(quantizer=EMAConfig(codebook_size=SIZE), scales=(1, 4))
    quantizer = config.build(DIM)
    quantizer.initialize(z_e, seed=0)
    sizes = quantizer.codebooks()[0].entries.norm(dim=-1)
    assert sizes.amin() < 10 < 100 < sizes.amax()
    indices = quantizer.encode(z_e)
    errors = [(quantizer.decode(indices[:, :end]) - z_e).square().mean() for end in (1, 17)]
    assert errors[1] < 0.5 * errors[0]


def test_each_of_several_codebooks_starts_from_what_its_scale_sees():
    z_e = 100 * torch.randn(50, 1, 1, DIM).sign() + torch.randn(50, 4, 4, DIM)
    config = MultiScaleConfig(quantizer=EMAConfig(codebook_size=8), scales=(1, 4), shared=False)
    quantizer = config.build(DIM)
    quantizer(z_e)
    first, second = (book.entries.norm(dim=-1) for book in quantizer.codebooks())
    assert (first > 100).all()
    assert (second < 10).all()


def test_finite_scalars_end_within_half_a_step():
    quantizer = MultiScaleConfig(quantizer=FSQConfig(levels=(9, 9, 9)), scales=(1, 2, 4)).build(3)
    z_e = 0.2 * torch.randn(20, 4, 4, 3)
    squashed = quantizer.squashed(z_e)
    assert (quantizer(z_e).z_q - squashed).abs().max() <= 0.125 + 1e-6


def test_numbers_in_a_config_are_squares():
    config = MultiScaleConfig(scales=(1, (2, 3), 4))
    quantizer = config.build(DIM)
    assert quantizer.scales == ((1, 1), (2, 3), (4, 4))
    assert quantizer.is_shared


@pytest.mark.parametrize("shape", [(2, 84, 1), (2, 0, 1), (2, 4, 4, 1), (85, 1), (2, 86, 1)])
def test_a_part_of_a_scale_does_not_decode(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"L one of \[1, 5, 21, 85\]"):
        layer(SQUARE).decode(torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize(
    "shape", [(2, 7, 7, DIM), (8, 8, DIM), (2, 64, DIM), (2, 8, 8, 1, DIM), ()]
)
def test_another_grid_than_the_last_is_refused_and_starts_nothing(shape: tuple[int, ...]):
    quantizer = MultiScaleConfig(quantizer=EMAConfig(codebook_size=SIZE)).build(DIM)
    for call in (quantizer, quantizer.encode, lambda z: quantizer.initialize(z, seed=0)):
        with pytest.raises(ValueError, match=r"the last of scales is \(8, 8\)"):
            call(torch.randn(shape))
    assert not quantizer.codebooks()[0].is_initialized


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        (((2, 2), (1, 1)), "finer than the one before"),
        (((2, 2), (2, 2)), "finer than the one before"),
        (((1, 4), (4, 2)), "finer than the one before"),
        (((1,), (2, 2)), "the same 1, 2 or 3 axes"),
        (((0, 1), (2, 2)), "the same 1, 2 or 3 axes"),
        (((1, 1, 1, 1), (2, 2, 2, 2)), "the same 1, 2 or 3 axes"),
        (((), ()), "the same 1, 2 or 3 axes"),
        (((1, 1),), "2 quantizers for 1 scales"),
    ],
)
def test_scales_that_do_not_grow_are_refused(scales: tuple, message: str):
    part = EMAVectorQuantizer(DIM, SIZE)
    with pytest.raises(ValueError, match=message):
        MultiScaleResidual([part] * 2, scales)


def test_scales_that_do_not_fit_on_one_axis_are_refused():
    part, other = EMAVectorQuantizer(DIM, 16), EMAVectorQuantizer(DIM, 8)
    with pytest.raises(ValueError, match="give all scales the same"):
        MultiScaleResidual([part, other], [(1, 1), (2, 2)])
    with pytest.raises(ValueError, match="share all or none"):
        MultiScaleResidual([part, part, EMAVectorQuantizer(DIM, 16)], [(1,), (2,), (3,)])


def test_scales_of_unequal_sizes_decode_what_they_code():
    quantizer = MultiScaleResidual([EMAVectorQuantizer(4, 8) for _ in range(2)], [(1, 1), (4, 4)])
    quantizer(torch.randn(20, 4, 4, 4))
    quantizer.codebooks()[0].prune(torch.arange(8) < 4)
    assert quantizer.codebook_sizes == (8,)
    out = quantizer.eval()(torch.randn(9, 4, 4, 4))
    assert torch.equal(quantizer.decode(out.indices), out.z_q)
