"""What must hold for the gated PixelCNN and its sampler."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit.nn.dropout import noise
from vqkit.nn.pixelcnn import GatedLayer, GatedPixelCNN

INPUTS, WIDTH, CHANNELS, VECTOR = 3, 8, 4, 5
VARIANTS = {
    "plain": {},
    "attention": {"attention_every": 1, "heads": 2},
    "attention now and then": {"attention_every": 2, "heads": 4},
    "condition": {"condition_channels": CHANNELS},
    "vector": {"vector_dim": VECTOR},
    "large kernels": {"kernel": 5, "first_kernel": 7},
    "everything": {"attention_every": 2, "condition_channels": CHANNELS, "vector_dim": VECTOR},
}
SIZES = [(4, 5), (3, 3), (1, 6), (6, 1), (1, 1), (2, 7)]
every_variant = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


def model(num_layers: int = 3, **options) -> GatedPixelCNN:
    """A network without zeros in its weights."""
    torch.manual_seed(0)
    made = GatedPixelCNN(INPUTS, WIDTH, num_layers=num_layers, **options)
    for name, parameter in made.named_parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=1.0 if "norm.weight" in name else 0.0, std=0.2)
    return made


def given(network: GatedPixelCNN, batch: int, height: int, width: int) -> list[Tensor | None]:
    """A condition and a vector, where the network takes them."""
    torch.manual_seed(1)
    dtype = network.output.weight.dtype
    channels, length = network.condition_channels, network.vector_dim
    condition = torch.randn(batch, channels or 0, height, width, dtype=dtype)
    vector = torch.randn(batch, length or 0, dtype=dtype)
    return [condition if channels else None, vector if length else None]


def stepwise(network: GatedPixelCNN, x: Tensor, condition=None, vector=None) -> Tensor:
    """What the sampler gives at every position when the inputs are those of ``x``."""
    sampler = network.sampler(len(x), *x.shape[2:], condition, vector)
    steps, previous = [], None
    for position in range(x.shape[2] * x.shape[3]):
        steps.append(sampler.step(previous))
        previous = x.flatten(2)[:, :, position]
    return torch.stack(steps, dim=-1).view(len(x), network.width, *x.shape[2:])


@every_variant
@pytest.mark.parametrize("size", SIZES, ids=str)
@torch.no_grad()
def test_the_output_at_a_position_does_not_change_in_one_bit_when_it_or_later_ones_do(
    options: dict, size: tuple[int, int]
):
    network, x = model(**options), torch.randn(2, INPUTS, *size)
    others = given(network, 2, *size)
    before = network(x, *others).flatten(2)
    for t in range(size[0] * size[1]):
        changed = x.clone().flatten(2)
        changed[:, :, t:] = 100 * torch.randn_like(changed[:, :, t:])
        after = network(changed.view_as(x), *others).flatten(2)
        assert torch.equal(after[:, :, : t + 1], before[:, :, : t + 1])


@pytest.mark.parametrize("options", [{}, {"attention_every": 3, "heads": 2}], ids=["", "attention"])
def test_a_position_depends_on_every_earlier_one_and_on_no_other(options: dict):
    height, width = 5, 7
    network = model(num_layers=7, **options).double()
    x = torch.randn(1, INPUTS, height, width, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(WIDTH, dtype=torch.float64)
    outputs = torch.einsum("bdhw,d->hw", network(x), weights).flatten()
    for t, output in enumerate(outputs):
        (gradient,) = torch.autograd.grad(output, x, retain_graph=True)
        reached = (gradient != 0).any(1).flatten()
        assert reached[:t].all()
        assert not reached[t:].any()


def test_attention_reaches_what_few_layers_do_not():
    x = torch.randn(1, INPUTS, 12, 3, requires_grad=True)
    for options, far in [({}, False), ({"attention_every": 1}, True)]:
        output = model(num_layers=1, **options)(x)[0, :, -1, -1].sum()
        (gradient,) = torch.autograd.grad(output, x)
        assert bool((gradient[0, :, 0] != 0).any()) is far


def masked(convolution: nn.Conv2d, x: Tensor, rows: int, columns: int) -> Tensor:
    """The convolution as the paper writes it: a whole kernel, 0 where it may not read."""
    kernel = convolution.weight.new_zeros(*convolution.weight.shape[:2], rows, columns)
    height, width = convolution.weight.shape[2:]
    kernel[:, :, :height, :width] = convolution.weight
    return F.conv2d(x, kernel, convolution.bias, padding=(rows // 2, columns // 2))


def layer_by_masks(layer: GatedLayer, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """A gated layer with mask B, its kernels 3 x 3 and 1 x 3."""

    def gate(x: Tensor) -> Tensor:
        return x[:, :WIDTH].tanh() / (1 + (-x[:, WIDTH:]).exp())

    v = v + gate(masked(layer.vertical, v, 3, 3))
    return v, h + layer.output(gate(masked(layer.horizontal, h, 1, 3) + layer.across(v)))


def test_the_cropped_kernels_equal_masks_a_and_b():
    network, x = model().double(), torch.randn(2, INPUTS, 4, 6, dtype=torch.float64)
    v, h = masked(network.rows_above, x, 5, 5), masked(network.row_so_far, x, 1, 5)
    for layer in network.layers:
        v, h = layer_by_masks(layer, v, h)
    assert_close(network(x), network.output(h.relu()).relu())


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@every_variant
@pytest.mark.parametrize("size", SIZES, ids=str)
@torch.no_grad()
def test_the_sampler_gives_what_the_full_forward_gives_at_every_position(
    dtype: torch.dtype, atol: float, options: dict, size: tuple[int, int]
):
    network = model(**options).to(dtype)
    for batch in (1, 3):
        x, others = torch.randn(batch, INPUTS, *size, dtype=dtype), given(network, batch, *size)
        full = network(x, *others)
        steps = stepwise(network, x, *others)
        assert_close(steps, full, rtol=0, atol=atol * full.abs().max().item())


@torch.no_grad()
def test_under_autocast_the_sampler_computes_in_the_type_of_the_weights():
    network, x = model(**VARIANTS["everything"]), torch.randn(2, INPUTS, 3, 4)
    others = given(network, 2, 3, 4)
    full = network(x, *others)
    with torch.autocast("cpu", torch.bfloat16):
        halves = [None if part is None else part.bfloat16() for part in others]
        assert torch.equal(stepwise(network, x, *others), stepwise(network, x, *others))
        assert_close(stepwise(network, x, *others), full)
        assert_close(stepwise(network, x, *halves), full, rtol=0.1, atol=0.1)


@every_variant
def test_a_batch_of_nothing_gives_nothing(options: dict):
    network = model(**options)
    x, others = torch.zeros(0, INPUTS, 3, 4), given(network, 0, 3, 4)
    assert network(x, *others).shape == (0, WIDTH, 3, 4)
    assert stepwise(network, x, *others).shape == (0, WIDTH, 3, 4)


@torch.no_grad()
def test_two_samplers_of_one_network_do_not_disturb_each_other():
    network, (a, b) = model(attention_every=1), torch.randn(2, 1, INPUTS, 3, 3)
    samplers = [network.sampler(1, 3, 3) for _ in range(2)]
    for t in range(9):
        for x, sampler in zip((a, b), samplers, strict=True):
            step = sampler.step(x.flatten(2)[:, :, t - 1])
            assert_close(step, network(x).flatten(2)[:, :, t])


def test_what_a_step_gave_stays_when_the_next_are_taken():
    sampler = model().sampler(2, 2, 3)
    first = sampler.step()
    kept = first.clone()
    for _ in range(5):
        sampler.step(torch.randn(2, INPUTS))
    assert torch.equal(first, kept)


def test_everything_given_reaches_every_position():
    network = model(condition_channels=CHANNELS, vector_dim=VECTOR)
    condition, vector = (
        part.requires_grad_() for part in given(network, 1, 3, 4) if part is not None
    )
    outputs = network(torch.randn(1, INPUTS, 3, 4), condition, vector).sum(1).flatten()
    for t, output in enumerate(outputs):
        by_place, by_item = torch.autograd.grad(output, [condition, vector], retain_graph=True)
        assert (by_place.flatten(2)[:, :, t] != 0).any()
        assert (by_item != 0).any()


def test_each_item_is_conditioned_on_its_own_vector_and_map_alone():
    network = model(**VARIANTS["everything"])
    x, others = torch.randn(3, INPUTS, 3, 4), given(network, 3, 3, 4)
    whole = network(x, *others)
    for item in range(3):
        alone = [part[item : item + 1] for part in others if part is not None]
        assert_close(network(x[item : item + 1], *alone), whole[item : item + 1])


@pytest.mark.parametrize("attention_every", [None, 1])
def test_dropout_drops_the_same_in_half_batches_and_nothing_in_evaluation_or_sampling(
    attention_every: int | None,
):
    network, x = model(dropout=0.5, attention_every=attention_every), torch.randn(4, INPUTS, 3, 4)

    def trained(items: slice) -> Tensor:
        with noise(0, 0, torch.arange(4)[items]):
            return network.train()(x[items])

    halves = torch.cat([trained(slice(0, 2)), trained(slice(2, 4))])
    assert_close(trained(slice(0, 4)), halves)
    full = network.eval()(x)
    assert not torch.allclose(full, halves)
    assert_close(stepwise(network.train(), x), full)


def test_gradients_of_deep_networks_are_finite_and_reach_every_weight():
    network = GatedPixelCNN(
        INPUTS, 16, num_layers=12, attention_every=4, condition_channels=2, vector_dim=2
    )
    x, condition = torch.randn(4, INPUTS, 8, 8), torch.randn(4, 2, 8, 8)
    network(x, condition, torch.randn(4, 2)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


def test_features_start_at_a_like_scale_however_deep_the_network_is():
    for num_layers in (1, 6, 24):
        torch.manual_seed(0)
        network = GatedPixelCNN(INPUTS, 64, num_layers=num_layers)
        assert 0.1 < network(torch.randn(4, INPUTS, 8, 8)).std() < 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0; give at least 1"),
        ({"kernel": 4}, "kernel is 4; give an odd number"),
        ({"first_kernel": 1}, "first_kernel is 1; give an odd number"),
        ({"attention_every": 0}, "attention_every is 0; give at least 1"),
        ({"attention_every": 1, "heads": 3}, "make width a multiple of heads"),
        ({"dropout": 1.0}, "p is 1.0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        GatedPixelCNN(INPUTS, WIDTH, **({"num_layers": 1} | options))


def test_inputs_that_do_not_fit_are_refused():
    network, x = model(vector_dim=VECTOR), torch.randn(2, INPUTS, 3, 4)
    with pytest.raises(ValueError, match=r"x has shape \(2, 4, 3, 4\); give \(B, 3, H, W\)"):
        network(torch.randn(2, 4, 3, 4))
    with pytest.raises(ValueError, match=r"vector has shape None; the network was made for \(2, 5"):
        network(x)
    with pytest.raises(ValueError, match=r"condition has shape \(2, 1, 3, 4\); .* for None"):
        network(x, torch.randn(2, 1, 3, 4), torch.randn(2, VECTOR))
    with pytest.raises(ValueError, match="vector has shape"):
        network.sampler(2, 3, 4, None, torch.randn(1, VECTOR))


def test_a_step_too_many_or_of_another_shape_is_refused():
    sampler = model().sampler(2, 1, 2)
    sampler.step()
    with pytest.raises(ValueError, match=r"previous has shape None; give \(2, 3\)"):
        sampler.step()
    with pytest.raises(ValueError, match=r"previous has shape \(3, 3\); give \(2, 3\)"):
        sampler.step(torch.zeros(3, INPUTS))
    sampler.step(torch.zeros(2, INPUTS))
    with pytest.raises(ValueError, match="the grid has 2 positions, and all were computed"):
        sampler.step(torch.zeros(2, INPUTS))
