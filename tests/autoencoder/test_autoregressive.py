"""What must hold for decoders that predict one pixel after another."""

import math
from itertools import product

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from tests.autoencoder.models import images
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit import random
from vqkit.autoencoder import VQVAE, new_items
from vqkit.codes import Codes
from vqkit.modalities.image import (
    ConvConfig,
    ConvDecoderConfig,
    GaussianConfig,
    ImageModelConfig,
    LogisticMixtureConfig,
    PixelCNNDecoderConfig,
    TransformerDecoderConfig,
)
from vqkit.modalities.image.levels import HALF_RANGE
from vqkit.nn.dropout import noise
from vqkit.quantizers import EMAConfig

KINDS = {
    "pixelcnn": PixelCNNDecoderConfig(width=8, layers=2),
    "pixelcnn with attention": PixelCNNDecoderConfig(width=8, layers=2, attention_every=1, heads=2),
    "transformer": TransformerDecoderConfig(width=8, layers=2, heads=2),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def build(kind, channels: int = 3, downsampling: int = 2) -> VQVAE:
    """A model whose weights are so large that every part makes a difference."""
    torch.manual_seed(0)
    model = VQVAE.from_config(
        ImageModelConfig(
            channels=channels,
            network=ConvConfig(hidden=8, residual_hidden=4, downsampling=downsampling, dim=4),
            quantizer=EMAConfig(codebook_size=8),
            decoder=kind,
            objective=LogisticMixtureConfig(num_components=2),
        )
    )
    for name, parameter in model.decoder.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm.weight" in name else 0.0, std=0.3)
    model.initialize([images(8, channels)], seed=0)
    return model.eval()


def small_images(num: int, channels: int = 3, height: int = 4, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (num, channels, height, width)
    return torch.randint(0, 256, shape, generator=generator).to(torch.uint8)


def outputs(model: VQVAE, codes: Codes, x: Tensor) -> Tensor:
    """The numbers of every pixel when the image is known. (B, O, H, W)"""
    h = model.distribution(codes).h
    return model.decoder.outputs(h, model.objective.normalize(x))


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_what_is_said_of_a_pixel_does_not_change_in_one_bit_when_it_or_later_ones_do(kind, dtype):
    model, x = build(kind).to(dtype), small_images(2)
    codes = model.encode(x)
    before = outputs(model, codes, x).flatten(2)
    for t in range(24):
        changed = x.clone().flatten(2)
        changed[:, :, t:] = 255 - changed[:, :, t:]
        after = outputs(model, codes, changed.view_as(x)).flatten(2)
        assert torch.equal(after[:, :, : t + 1], before[:, :, : t + 1])
        if (t + 1) % 6:  # a shallow network need not see the end of the row above
            assert (after[:, :, t + 1] != before[:, :, t + 1]).any(1).all()


@every_kind
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("batch", [0, 1, 3])
@torch.no_grad()
def test_the_stepper_gives_what_all_pixels_at_once_give(kind, dtype, atol: float, batch: int):
    model, x = build(kind).to(dtype), small_images(batch)
    codes = model.encode(small_images(3)).map(lambda indices: indices[:batch])
    full, values = outputs(model, codes, x), model.objective.normalize(x).flatten(2)
    stepper = model.decoder.stepper(model.distribution(codes).h)
    steps = [stepper.step(values[:, :, t - 1] if t else None) for t in range(24)]
    found = torch.stack(steps, dim=-1).view_as(full)
    scale = full.abs().max().item() if batch else 1.0
    assert_close(found, full, rtol=0, atol=atol * scale)


@every_kind
@torch.no_grad()
def test_log_prob_is_the_product_of_what_is_said_of_each_pixel(kind):
    model, x = build(kind).double(), small_images(3)
    said = model.distribution(model.encode(x))
    values = model.objective.normalize(x).flatten(2)
    stepper, expected = model.decoder.stepper(said.h), torch.zeros(3, dtype=torch.float64)
    for t in range(24):
        numbers = stepper.step(values[:, :, t - 1] if t else None)[:, :, None, None]
        pixel = model.objective.distribution(numbers)
        expected += pixel.log_prob(values[:, :, t, None, None])
    assert_close(said.log_prob(x), expected)


@every_kind
@torch.no_grad()
def test_the_probabilities_of_a_pixel_sum_to_1_whatever_came_before(kind):
    model = build(kind, channels=1)
    x = small_images(1, channels=1, height=2, width=2)
    codes = model.encode(x)
    every_level = x.repeat(256, 1, 1, 1)
    every_level[:, 0, 1, 1] = torch.arange(256)  # the last: nothing else depends on it
    repeated = codes.map(lambda indices: indices.expand(256, *indices.shape[1:]))
    joint = model.distribution(repeated).log_prob(every_level).exp().sum().log()
    before = 0.0
    numbers = outputs(model, codes, x)
    for i, j in [(0, 0), (0, 1), (1, 0)]:
        pixel = model.objective.distribution(numbers[:, :, i : i + 1, j : j + 1])
        before += pixel.log_prob(x[:, :, i : i + 1, j : j + 1]).item()
    assert joint.item() == pytest.approx(before, abs=1e-4)


@torch.no_grad()
def test_samples_follow_what_is_said_of_the_first_pixel_and_of_the_next_given_it():
    model = build(KINDS["pixelcnn"], channels=1, downsampling=1).double()
    num = 2000
    codes = model.encode(small_images(1, 1, 1, 2)).map(lambda i: i.expand(num, *i.shape[1:]))
    said = model.distribution(codes)
    drawn = ((said.sample(0) + 1) * HALF_RANGE).round()[:, 0, 0].long()
    dark = drawn < 128
    cells = dict.fromkeys(product((True, False), repeat=2), 0.0)
    x = torch.zeros(256, 1, 1, 2, dtype=torch.uint8)
    one = model.distribution(codes.map(lambda i: i[:256]))
    for first in range(256):
        x[:, 0, 0, 0], x[:, 0, 0, 1] = first, torch.arange(256)
        p = one.log_prob(x).exp()
        cells[first < 128, True] += p[:128].sum().item()
        cells[first < 128, False] += p[128:].sum().item()
    assert sum(cells.values()) == pytest.approx(1, abs=1e-9)
    for (a, b), p in cells.items():
        share = ((dark[:, 0] == a) & (dark[:, 1] == b)).double().mean().item()
        assert share == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / num) + 1e-3)


@every_kind
@torch.no_grad()
def test_an_item_is_drawn_by_the_seed_and_its_number_alone(kind):
    model = build(kind).double()
    said = model.distribution(model.encode(small_images(3)))
    three = said.sample(7)
    one = model.distribution(model.encode(small_images(3)[:1])).sample(7)
    assert_close(three[:1], one)
    assert torch.equal(three, said.sample(7))
    assert not torch.equal(three, said.sample(8))
    assert not torch.equal(three[0], three[1])


@every_kind
@torch.no_grad()
def test_new_items_are_drawn_by_the_seed_and_their_number_in_parts_too(kind):
    model, x = build(kind).double(), small_images(5)
    codes = model.encode(x)
    whole = new_items(model, codes, seed=3, first=10)
    assert torch.equal(whole, model.distribution(codes).sample(3, first=10))
    parts = [
        new_items(model, codes[part], seed=3, first=10 + part.start)
        for part in (slice(0, 2), slice(2, 5))
    ]
    assert_close(torch.cat(parts), whole, rtol=0, atol=1e-9)
    plain = build(ConvDecoderConfig())
    codes = plain.encode(x)
    assert torch.equal(new_items(plain, codes, seed=3), plain.decode(codes))


@every_kind
@torch.no_grad()
def test_sample_and_mode_are_the_choices_of_full_passes(kind):
    model = build(kind).double()
    codes = model.encode(small_images(2))
    said, objective = model.distribution(codes), model.objective
    choices = {
        "mode": lambda pixel, t: pixel.mode(),
        "sample": lambda pixel, t: pixel.sample(random.hash_int(3, t)),
    }
    for name, choose in choices.items():
        x = torch.zeros(2, 3, 24, dtype=torch.float64)
        for t in range(24):
            numbers = outputs(model, codes, x.view(2, 3, 4, 6)).flatten(2)[:, :, t, None, None]
            x[:, :, t] = choose(objective.distribution(numbers), t).flatten(1)
        found = said.mode() if name == "mode" else said.sample(3)
        assert_close(found, x.view(2, 3, 4, 6))


@every_kind
def test_the_reconstruction_is_what_decode_makes_of_the_codes(kind):
    model, x = build(kind), small_images(2)
    with torch.no_grad():
        assert torch.equal(model(x).reconstruction, model.decode(model.encode(x)))


@every_kind
def test_half_precision_trains_and_draws(kind):
    model, x = build(kind).train(), small_images(2)
    with torch.no_grad():
        expected = model(x).objectives["reconstruction"].value
    model = build(kind).train()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
        out.loss.backward()
        assert out.reconstruction.shape == out.distribution.sample(0).shape == x.shape
    assert all(p.grad.isfinite().all() for p in model.decoder.parameters())
    assert_close(out.objectives["reconstruction"].value, expected, rtol=0.05, atol=0)


@every_kind
def test_nothing_is_drawn_before_it_is_asked_for(kind, monkeypatch: pytest.MonkeyPatch):
    model, x = build(kind), small_images(2)

    def refuse(h: Tensor) -> None:
        raise AssertionError("a stepper was asked for")

    monkeypatch.setattr(model.decoder, "stepper", refuse)
    out = model.train()(x)
    out.loss.backward()
    assert out.distribution.log_prob(x).shape == (2,)
    with pytest.raises(AssertionError, match="asked for"):
        _ = out.reconstruction


@every_kind
def test_the_loss_is_the_likelihood_that_the_distribution_gives(kind):
    model, x = build(kind).double(), small_images(3)
    with torch.no_grad():
        out = model(x)
        nats = -out.distribution.log_prob(x).sum()
    assert_close(out.objectives["reconstruction"].total, nats)
    assert out.objectives["reconstruction"].count == x.numel()


@every_kind
def test_what_padding_holds_changes_nothing(kind):
    x, mask = small_images(2, height=6, width=6), torch.zeros(2, 6, 6, dtype=torch.bool)
    mask[0, :4, :4], mask[1] = True, True
    losses = []
    for value in (0, 255):
        model = build(kind).train()
        padded = x.masked_fill(~mask.unsqueeze(1), value)
        out = model(padded, mask)
        out.loss.backward()
        gradients = [p.grad.clone() for p in model.decoder.parameters()]
        losses.append((out.objectives["reconstruction"], gradients))
        assert model.counts(padded, mask)["reconstruction"] == (16 + 36) * 3
    (first, gradients), (second, others) = losses
    assert torch.equal(first.total, second.total)
    assert first.count == second.count == (16 + 36) * 3
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))


@every_kind
@torch.no_grad()
def test_the_loss_of_masked_images_counts_their_real_pixels_alone(kind):
    model, x = build(kind), small_images(2, height=6, width=6)
    mask = torch.zeros(2, 6, 6, dtype=torch.bool)
    mask[0, :4, :4], mask[1, :2] = True, True
    real = x.masked_fill(~mask.unsqueeze(1), 0)
    out = model(real, mask)
    normalized = model.objective.normalize(x).masked_fill(~mask.unsqueeze(1), 0)
    numbers = model.decoder.outputs(out.distribution.h, normalized)
    pixels = model.objective.distribution(numbers).pixel_log_prob(normalized)
    assert_close(out.objectives["reconstruction"].total, -pixels[mask].sum())


@every_kind
def test_the_gradient_reaches_encoder_and_all_of_the_decoder(kind):
    model, x = build(kind).train(), small_images(4)
    model(x).objectives["reconstruction"].value.backward()
    for name, parameter in [*model.encoder.named_parameters(), *model.decoder.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


@every_kind
def test_a_saved_model_says_the_same(kind, tmp_path):
    model, x = build(kind), small_images(2)
    model.save_pretrained(tmp_path)
    opened = VQVAE.from_pretrained(tmp_path)
    codes = model.encode(x)
    assert opened.fingerprint() == model.fingerprint()
    assert torch.equal(
        opened.distribution(codes).log_prob(x), model.distribution(codes).log_prob(x)
    )
    assert torch.equal(opened.decode(codes), model.decode(codes))


@pytest.mark.parametrize(
    "kind",
    [
        PixelCNNDecoderConfig(width=8, layers=2, dropout=0.5),
        TransformerDecoderConfig(width=8, layers=2, heads=2, dropout=0.5),
    ],
)
def test_dropout_changes_training_and_no_distribution(kind):
    model, x = build(kind), small_images(2)
    codes = model.encode(x)
    expected = model.distribution(codes).log_prob(x)
    model.decoder.train()
    with noise(0, 0, torch.arange(2)):
        trained = model(x).objectives["reconstruction"].total
    assert not torch.allclose(trained.double(), -expected.sum())
    assert torch.equal(model.distribution(codes).log_prob(x), expected)
    assert model.decoder.training


def test_floats_between_grey_levels_count_as_the_nearest():
    model, x = build(KINDS["pixelcnn"]), small_images(2)
    codes = model.encode(x)
    near = model.objective.normalize(x) + 0.3 / HALF_RANGE
    said = model.distribution(codes)
    assert_close(said.log_prob(near.clamp(-1, 1)), said.log_prob(x))


def test_squared_error_is_refused_in_one_line():
    with pytest.raises(ValidationError, match=r"set objective\.type=logistic_mixture"):
        ImageModelConfig(decoder=PixelCNNDecoderConfig(), objective=GaussianConfig())


def test_heads_that_do_not_divide_the_width_are_refused():
    adapter = TypeAdapter(ImageModelConfig)
    objective = {"type": "logistic_mixture"}
    for decoder in (
        {"type": "transformer", "width": 10, "heads": 4},
        {"type": "pixelcnn", "width": 10, "heads": 4, "attention_every": 1},
    ):
        with pytest.raises(ValidationError, match="must divide the width, 10"):
            adapter.validate_python({"decoder": decoder, "objective": objective})


def test_the_convolutional_decoder_is_what_it_was_by_default():
    torch.manual_seed(0)
    model = VQVAE.from_config(ImageModelConfig())
    torch.manual_seed(0)
    network = ConvConfig()
    network.encoder(3)
    EMAConfig().build(64)
    expected = network.decoder(3).state_dict()
    found = model.decoder.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in found)
