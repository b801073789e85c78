"""What must hold for the causal Transformer and its cache."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit.nn.attention import SelfAttention
from vqkit.nn.dropout import noise
from vqkit.nn.step_attention import Compiled, Plain
from vqkit.nn.transformer import Transformer

WIDTH, LENGTH = 16, 9


def model(**options) -> Transformer:
    """A Transformer whose weights are so large that every part makes a difference."""
    torch.manual_seed(0)
    made = Transformer(WIDTH, num_layers=3, heads=4, **options)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def attention_by_hand(attention: SelfAttention, x: Tensor) -> Tensor:
    """Position by position and head by head, as the paper writes it; x (L, D)."""
    dim = WIDTH // attention.heads
    q, k, v = attention.queries_keys_values(x).split(WIDTH, dim=-1)
    rows = []
    for t in range(len(x)):
        heads = []
        for h in range(attention.heads):
            part = slice(h * dim, (h + 1) * dim)
            scores = k[: t + 1, part] @ q[t, part] / math.sqrt(dim)
            heads.append(scores.softmax(0) @ v[: t + 1, part])
        rows.append(torch.cat(heads))
    return attention.output(torch.stack(rows))


def test_attention_equals_the_formula_written_out():
    torch.manual_seed(0)
    attention, x = SelfAttention(WIDTH, 4).double(), torch.randn(2, LENGTH, WIDTH).double()
    expected = torch.stack([attention_by_hand(attention, item) for item in x])
    assert_close(attention(x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_a_position_does_not_change_in_one_bit_when_later_ones_change(dtype: torch.dtype):
    transformer, x = model().to(dtype), torch.randn(3, LENGTH, WIDTH, dtype=dtype)
    before = transformer(x)
    for t in range(LENGTH):
        changed = x.clone()
        changed[:, t + 1 :] = 100 * torch.randn_like(changed[:, t + 1 :])
        assert torch.equal(transformer(changed)[:, : t + 1], before[:, : t + 1])


@torch.no_grad()
def test_every_position_depends_on_every_earlier_one():
    transformer, x = model(), torch.randn(1, LENGTH, WIDTH)
    before = transformer(x)
    for t in range(LENGTH):
        changed = x.clone()
        changed[:, t] += 1
        assert (transformer(changed)[:, t:] != before[:, t:]).any(-1).all()


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("batch", [1, 5])
@torch.no_grad()
def test_the_cache_gives_what_the_full_forward_gives_at_every_step(
    dtype: torch.dtype, atol: float, batch: int
):
    transformer, x = model().to(dtype), torch.randn(batch, LENGTH, WIDTH, dtype=dtype)
    full, cache = transformer(x), transformer.cache(batch, LENGTH)
    for t in range(LENGTH):
        step = transformer.step(x[:, t], cache)
        assert_close(step, full[:, t], rtol=0, atol=atol * full.abs().max().item())


def test_the_cache_takes_its_memory_once():
    transformer = model()
    cache = transformer.cache(2, LENGTH)

    def places() -> list[int]:
        kept = [block.attention for block in cache.blocks]
        assert all(isinstance(each, Compiled | Plain) for each in kept)
        return [part.data_ptr() for each in kept for part in (each.keys, each.values)]

    before = places()
    for t in range(LENGTH):
        assert cache.length == t
        transformer.step(torch.randn(2, WIDTH), cache)
    assert places() == before


def test_a_full_cache_is_refused():
    transformer = model()
    cache = transformer.cache(1, 1)
    transformer.step(torch.randn(1, WIDTH), cache)
    with pytest.raises(ValueError, match="holds 1 positions"):
        transformer.step(torch.randn(1, WIDTH), cache)


def test_the_cached_step_is_without_dropout_in_training_mode_too():
    transformer, x = model(dropout=0.5), torch.randn(2, WIDTH)
    step = transformer.train().step(x, transformer.cache(2, 1))
    assert_close(step, transformer.eval()(x.unsqueeze(1))[:, 0].detach())


def test_dropout_changes_training_and_not_evaluation():
    transformer, x = model(dropout=0.5), torch.randn(2, LENGTH, WIDTH)
    with noise(0, 0, torch.arange(2)):
        trained = transformer.train()(x)
    assert (trained != transformer.eval()(x)).all()


def test_the_weights_start_as_in_gpt2():
    torch.manual_seed(0)
    transformer = Transformer(128, num_layers=2, heads=2)
    for name, parameter in transformer.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all()
        elif "norm" in name:
            assert (parameter == 1).all()
        else:
            added = name.endswith(("output.weight", "network.2.weight"))
            expected = 0.02 / math.sqrt(2 * 2) if added else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.05), name


@pytest.mark.parametrize("heads", [0, 4])
def test_a_width_that_the_heads_do_not_divide_is_refused(heads: int):
    with pytest.raises(ValueError, match="make width a multiple of heads"):
        Transformer(10, num_layers=1, heads=heads)


def test_a_transformer_without_layers_is_refused():
    with pytest.raises(ValueError, match="num_layers is 0"):
        Transformer(8, num_layers=0, heads=2)
