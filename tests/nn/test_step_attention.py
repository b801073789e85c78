"""Attention position by position is the formula, however it is computed."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.compiled import load
from vqkit.nn import step_attention as module
from vqkit.nn import step_library
from vqkit.nn.step_attention import Compiled, Plain, step_attention

WAYS: dict[str, tuple[type[Compiled | Plain], int]] = {"torch": (Plain, 16)}
if step_library.library() is not None:
    WAYS |= {f"compiled, {most}": (Compiled, most) for most in (8, 4)}
Shape = tuple[int, int, int, int]
SHAPES = [(16, 8, 32, 70), (3, 5, 7, 40), (1, 1, 1, 3), (2, 3, 64, 33), (5, 2, 43, 32)]


@pytest.fixture(params=WAYS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Compiled | Plain]:
    """Each way that there is on this machine."""
    way, most = WAYS[request.param]
    monkeypatch.setattr(step_library, "WIDEST", most)
    return way


def drawn(shape: Shape) -> Tensor:
    """Queries, keys and values of all positions. (L, B, 3 D)"""
    batch, heads, dim, length = shape
    return torch.randn(length, batch, 3 * heads * dim, generator=torch.Generator().manual_seed(0))


def check(found: Tensor, rows: Tensor, shape: Shape) -> None:
    """That it is what the last of some positions sees: the formula in float64, but for rounding."""
    batch, heads, dim, _ = shape
    q, k, v = rows.double().view(len(rows), batch, 3, heads, dim).unbind(2)
    scores = torch.einsum("bhd,tbhd->bht", q[-1], k) / dim**0.5
    expected = torch.einsum("bht,tbhd->bhd", scores.softmax(-1), v).flatten(1)
    atol = 2.0**-24 * 8 * (1 + float(scores.abs().amax())) * float(v.abs().amax())
    assert_close(found.double(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1, 6])
def test_each_position_sees_itself_and_those_before(
    kind: type[Compiled | Plain], shape: Shape, scale: float
):
    batch, heads, dim, length = shape
    rows = scale * drawn(shape)
    attention = kind(batch, heads, dim, length, rows)
    for t in range(length):
        check(attention.step(rows[t], t), rows[: t + 1], shape)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_neither_the_batch_nor_the_threads_change_a_bit(
    kind: type[Compiled | Plain], monkeypatch: pytest.MonkeyPatch, threads: int
):
    shape = (5, 3, 16, 40)
    rows = drawn(shape)
    whole = kind(*shape, rows)
    expected = [whole.step(rows[t], t) for t in range(40)]
    alone = kind(1, 3, 16, 40, rows)
    monkeypatch.setattr(module, "PRODUCTS_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    shared = kind(*shape, rows)
    for t in range(40):
        assert torch.equal(alone.step(rows[t, 2:3], t), expected[t][2:3])
        assert torch.equal(shared.step(rows[t], t), expected[t])


def test_scores_far_apart_leave_one_value_and_nothing_overflows(kind: type[Compiled | Plain]):
    rows = torch.zeros(40, 1, 12)
    rows[:, :, 8:] = torch.arange(40).view(-1, 1, 1)  # values
    rows[:, :, :4] = 1e4
    rows[7, :, 4:8] = 1e4
    attention = kind(1, 1, 4, 40, rows)
    found = [attention.step(rows[t], t) for t in range(40)]
    assert all((row == 7).all() for row in found[7:])
    assert_close(found[6], torch.full((1, 4), 3.0))  # all alike: the mean


def test_what_is_no_number_stays_none(kind: type[Compiled | Plain]):
    rows = drawn((1, 1, 4, 3))
    rows[1, 0, 0] = torch.nan
    attention = kind(1, 1, 4, 3, rows)
    assert attention.step(rows[0], 0).isfinite().all()
    assert attention.step(rows[1], 1).isnan().any()


def test_rows_of_another_batch_or_beyond_the_last_position_are_refused(
    kind: type[Compiled | Plain],
):
    rows = drawn((4, 2, 8, 3))
    attention = kind(4, 2, 8, 3, rows)
    for wrong in (rows[0, :1], rows[0, :, :24], torch.cat([rows[0], rows[1]])):
        with pytest.raises((ValueError, RuntimeError)):
            attention.step(wrong, 0)
    with pytest.raises((ValueError, IndexError)):
        attention.step(rows[0], 3)
    check(attention.step(rows[0], 0), rows[:1], (4, 2, 8, 3))


def test_other_types_are_computed_by_torch():
    assert isinstance(step_attention(1, 1, 4, 3, torch.zeros(1).double()), Plain)
    assert isinstance(step_attention(1, 1, 4, 3, torch.zeros(1).bfloat16()), Plain)


def test_where_a_compiler_is_it_was_compiled(tmp_path: Path):
    folder = Path(step_library.__file__).parent
    sources = [folder / name for name in step_library.FILES if name.endswith(".c")]
    words = [shutil.which("cc") or "false", "-O1", "-shared", "-fPIC", *sources, "-lm", "-o"]
    can = subprocess.run([*words, tmp_path / "a.so"], capture_output=True, check=False)
    built = load(folder, step_library.NAME, step_library.FILES) is not None
    assert built >= (can.returncode == 0), "install vqkit again, which compiles it"
