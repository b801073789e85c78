"""What must hold for the autoencoder."""

import copy
import dataclasses
import itertools

import pytest
import torch
from tests.autoencoder.models import SIZE, images, small
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.codes import Codes, Level
from vqkit.modalities.image import (
    ConvConfig,
    GaussianConfig,
    GaussianObjective,
    LogisticMixtureConfig,
)
from vqkit.quantizers import (
    EMAConfig,
    EMAVectorQuantizer,
    Hiding,
    NormalizedConfig,
    ProjectedConfig,
    Quantized,
    SelectiveConfig,
    VQConfig,
)

QUANTIZERS = {
    "vq": VQConfig(codebook_size=16),
    "ema": EMAConfig(codebook_size=16),
    "normalized": NormalizedConfig(quantizer=EMAConfig(codebook_size=16)),
}
OBJECTIVES = {"gaussian": GaussianConfig(), "mixture": LogisticMixtureConfig(num_components=2)}


@pytest.fixture(params=itertools.product(QUANTIZERS, OBJECTIVES), ids="-".join)
def model(request: pytest.FixtureRequest) -> VQVAE:
    quantizer, objective = request.param
    return small(QUANTIZERS[quantizer], OBJECTIVES[objective])


def masked_images() -> tuple[Tensor, Tensor]:
    """Images of unequal sizes in one batch, (3, 3, SIZE, SIZE), and their mask."""
    mask = torch.zeros(3, SIZE, SIZE, dtype=torch.bool)
    for item, (height, width) in enumerate([(SIZE, SIZE), (10, 6), (4, 16)]):
        mask[item, :height, :width] = True
    return images(3), mask


def state(model: VQVAE) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("num", [1, 5])
def test_decoded_codes_are_the_reconstruction_bit_for_bit(
    model: VQVAE, layout: torch.memory_format, num: int
):
    model = model.to(memory_format=layout).eval()
    model.codebooks()[
        "quantizer"
    ].entries.data.normal_()  # far from z_e, where z_q - z_e is rounded
    for x in (images(num), images(num).contiguous(memory_format=layout)):
        out = model(x)
        codes = model.encode(x)
        assert torch.equal(codes.flat(), out.codes.flat())
        assert torch.equal(model.decode(codes), out.reconstruction)
        assert torch.equal(model.distribution(codes).mode(), out.reconstruction)


@pytest.mark.parametrize("downsampling", [1, 2, 8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_decoded_codes_are_the_reconstruction_at_every_stride(downsampling: int, channels: int):
    model = small(
        channels=channels, downsampling=downsampling, quantizer=EMAConfig(codebook_size=8)
    )
    x = images(3, channels)
    out = model.eval()(x)
    assert out.codes.levels[0].indices.shape == (3, *[SIZE // downsampling] * 2, 1)
    assert torch.equal(model.decode(model.encode(x)), out.reconstruction)


def test_decoded_codes_are_the_reconstruction_whatever_the_layout_of_z_q():
    class ChannelsFirst(EMAVectorQuantizer):
        def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
            out = super().forward(z_e, mask)
            z_q = out.z_q.movedim(-1, 1).contiguous().movedim(1, -1)
            return dataclasses.replace(out, z_q=z_q)

    torch.manual_seed(0)
    network = ConvConfig(hidden=64, residual_hidden=32, dim=16)
    encoder, decoder = network.encoder(3), network.decoder(3)
    model = VQVAE(encoder, ChannelsFirst(16, 64), decoder, GaussianObjective())
    out = model.eval()(images(4))
    assert torch.equal(model.decode(model.encode(images(4))), out.reconstruction)


def test_encode_is_the_same_in_training_and_changes_neither_mode_nor_state():
    model = small()
    model.encoder = nn.Sequential(model.encoder, nn.Dropout(0.5))
    evaluated = model.eval().encode(images(4)).flat()
    model.train()
    model.decoder.eval()
    before = state(model)
    codes = model.encode(images(4))
    model.decode(codes)
    assert torch.equal(codes.flat(), evaluated)
    assert model.training
    assert model.encoder[1].training
    assert not model.decoder.training
    assert_close(state(model), before, rtol=0, atol=0)


def test_encode_and_decode_keep_no_graph(model: VQVAE):
    codes = model.encode(images(2))
    assert not model.decode(codes).requires_grad
    assert model(images(2)).reconstruction.requires_grad


def test_the_loss_is_the_papers(model: VQVAE):
    """Equation 3 with means over coordinates; averages stand for its second term."""
    x = images(4)
    out = model.eval()(x)
    (z_e,), z_q = out.z_e, model.quantizers[0].decode(out.codes.levels[0].indices)
    if "Normalized" in type(model.quantizers[0]).__name__:
        z_e = nn.functional.layer_norm(z_e, z_e.shape[-1:])
    weight = 0.25 if "codebook" not in out.terms else 1.25
    error = out.objectives["reconstruction"].value
    assert_close(out.loss, error + weight * (z_e - z_q).square().mean(), rtol=1e-4, atol=1e-6)
    assert list(out.objectives) == ["reconstruction", "quantizer"]
    assert_close(out.loss, sum(mean.value for mean in out.objectives.values()))


def test_the_reconstruction_loss_is_the_error_over_the_variance_of_the_data():
    model = small()
    x = images(4)
    out = model(x)
    data = torch.cat([images(4), images(4, seed=1)]).double() / 127.5 - 1
    assert_close(model.objective.variance.double(), data.var(correction=0), rtol=1e-6, atol=0)
    outputs = model.decoder(model.quantizers[0].decode(out.codes.levels[0].indices).movedim(-1, 1))
    expected = (outputs - (x / 127.5 - 1)).square().mean() / data.var(correction=0)
    assert_close(out.objectives["reconstruction"].value, expected.float(), rtol=1e-4, atol=0)


def test_losses_do_not_change_when_the_batch_is_repeated(model: VQVAE):
    once, twice = model.eval()(images(3)), model(images(3).repeat(2, 1, 1, 1))
    for name, mean in once.objectives.items():
        assert_close(mean.value, twice.objectives[name].value)
        assert 2 * mean.count == twice.objectives[name].count


def test_grey_levels_and_their_numbers_in_minus_one_to_one_are_the_same_images(model: VQVAE):
    x = images(3)
    assert torch.equal(model.eval()(x).loss, model(x / 127.5 - 1).loss)
    assert torch.equal(model.encode(x).flat(), model.encode(x / 127.5 - 1).flat())


@pytest.mark.parametrize("masked", [False, True])
def test_counts_are_those_of_the_forward(model: VQVAE, masked: bool):
    x, mask = masked_images()
    given = mask if masked else None
    out = model(x, given)
    before = state(model)
    counts = model.counts(x, given)
    assert counts == {name: mean.count for name, mean in out.objectives.items()}
    assert_close(state(model), before, rtol=0, atol=0)
    assert model.training


def test_what_padding_holds_changes_nothing(model: VQVAE):
    x, mask = masked_images()
    other = torch.where(mask.unsqueeze(1), x, images(3, seed=9))
    nan = (x / 127.5 - 1).masked_fill(~mask.unsqueeze(1), torch.nan)
    results = []
    for batch in (x, other, nan):
        twin = copy.deepcopy(model)
        out = twin(batch, mask)
        out.loss.backward()
        gradients = [p.grad for p in twin.parameters() if p.grad is not None]
        results.append((out.loss, out.codes.flat(), gradients, state(twin)))
    for result in results[1:]:
        assert_close(result, results[0], rtol=0, atol=0)
    assert torch.equal(model.encode(x, mask).flat(), model.encode(nan, mask).flat())


def test_a_code_is_real_where_any_of_its_pixels_is():
    x, mask = masked_images()
    real = small().encode(x, mask).levels[0].mask
    expected = torch.zeros(3, SIZE // 4, SIZE // 4, dtype=torch.bool)
    for item, row, column in mask.nonzero().tolist():
        expected[item, row // 4, column // 4] = True
    assert torch.equal(real, expected)


def test_decoded_codes_are_the_reconstruction_under_a_mask(model: VQVAE):
    x, mask = masked_images()
    out = model.eval()(x, mask)
    assert torch.equal(model.decode(model.encode(x, mask)), out.reconstruction)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_of_another_precision_reconstructs_and_its_codebook_keeps_its_own(dtype):
    model = small().to(dtype).eval()
    out = model(images(3))
    assert model.codebooks()["quantizer"].entries.dtype == torch.promote_types(dtype, torch.float32)
    assert out.z_e[0].dtype == dtype
    assert torch.equal(model.decode(model.encode(images(3))), out.reconstruction)
    model.train()(images(3)).loss.backward()


def test_codes_under_autocast_are_the_nearest_entries_in_float64():
    model = small().eval()
    model.encoder.project.bias.data += 100  # where bf16 distances are far off
    model.codebooks()["quantizer"].entries.data += 100
    with torch.autocast("cpu", torch.bfloat16):
        out = model(images(8))
        assert torch.equal(model.decode(model.encode(images(8))), out.reconstruction)
    z_e, entries = out.z_e[0].double(), model.codebooks()["quantizer"].entries.double()
    distances = (z_e.unsqueeze(-2) - entries).square().sum(-1)
    chosen = distances.gather(-1, out.codes.levels[0].indices).squeeze(-1)
    assert out.z_e[0].dtype == torch.bfloat16
    assert_close(chosen, distances.amin(-1), rtol=0, atol=1e-4)


def test_channels_last_reaches_the_quantizer_and_the_decoder_without_a_copy():
    model = small().to(memory_format=torch.channels_last)
    seen: list[Tensor] = []
    model.quantizers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model.decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    out = model(images(4).contiguous(memory_format=torch.channels_last))
    z_e, z_q = seen
    assert z_e.is_contiguous()
    assert z_q.is_contiguous(memory_format=torch.channels_last)
    assert out.reconstruction.is_contiguous(memory_format=torch.channels_last)


def test_two_forwards_and_one_commit_move_the_codebook_as_the_joined_batch():
    whole = small()
    whole.quantizers[0].commit_in_forward = False
    split = copy.deepcopy(whole)
    x = images(6, seed=3)
    whole(x)
    split(x[:2])
    split(x[2:])
    before = split.codebooks()["quantizer"].entries.clone()
    assert torch.equal(before, whole.codebooks()["quantizer"].entries)
    whole.commit()
    split.commit()
    assert_close(split.state_dict(), whole.state_dict())
    assert not torch.equal(before, whole.codebooks()["quantizer"].entries)


def test_any_modules_and_any_data_make_a_model():
    torch.manual_seed(0)
    model = VQVAE(
        nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4)),
        EMAVectorQuantizer(4, 8),
        nn.Linear(4, 6),
        GaussianObjective(),
    )
    x = torch.rand(32, 6) * 2 - 1
    model.initialize([x], seed=0)
    out = model(x)
    out.loss.backward()
    assert out.codes.levels[0].indices.shape == (32, 1)
    assert model.counts(x) == {"reconstruction": 32 * 6, "quantizer": 32}
    assert torch.equal(model.decode(model.encode(x)), model.eval()(x).reconstruction)


def test_a_calibrated_model_gives_the_likelihood_of_images():
    model = small().eval()
    x, mask = masked_images()
    with pytest.raises(ValueError, match="calibrate"):
        model.distribution(model.encode(x)).log_prob(model.objective.normalize(x))
    model.calibrate([images(4), (x, mask)])
    nats = model.distribution(model.encode(x)).log_prob(model.objective.normalize(x))
    assert nats.isfinite().all()
    assert (nats < 0).all()
    assert model.distribution(model.encode(x)).sample(seed=1).shape == x.shape


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 1, 16, 16), r"\(B, 3, H, W\)"),
        (torch.zeros(3, 16, 16), r"\(B, 3, H, W\)"),
        (torch.zeros(2, 3, 16, 18), "16 x 18 pixels"),
        (torch.zeros(2, 3, 2, 2), "2 x 2 pixels"),
        (torch.full((2, 3, 16, 16), 200.0), "uint8"),
        (torch.full((2, 3, 16, 16), torch.nan), "uint8"),
    ],
)
def test_wrong_images_are_refused(x: Tensor, message: str):
    for method in ("forward", "encode"):
        with pytest.raises(ValueError, match=message):
            getattr(small(), method)(x)


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(3, 16, dtype=torch.bool),
        torch.ones(3, 3, 16, 16, dtype=torch.bool),
        torch.ones(3, 16, 16),
    ],
)
def test_a_wrong_mask_is_refused(mask: Tensor):
    with pytest.raises(ValueError, match="mask is"):
        small()(images(3), mask)


def test_codes_of_another_tokenizer_are_refused():
    codes = small(EMAConfig(codebook_size=15)).encode(images(2))
    with pytest.raises(ValueError, match="another tokenizer"):
        small().decode(codes)
    with pytest.raises(ValueError, match="another tokenizer"):
        small(EMAConfig(codebook_size=15)).decode(Codes(codes.levels * 2))


@pytest.mark.parametrize("index", [-1, 16])
def test_indices_out_of_range_are_refused(index: int):
    indices = torch.zeros(1, 4, 4, 1, dtype=torch.int64)
    indices[0, 1, 2] = index
    with pytest.raises(ValueError, match=r"indices of level 0 go from .*\(16,\)"):
        small().decode(Codes((Level(indices, (16,)),)))


def test_a_decoder_of_other_outputs_is_refused():
    """One channel for three would be broadcast, and train."""
    model = small()
    model.decoder = nn.ConvTranspose2d(4, 1, 4, 4)
    with pytest.raises(ValueError, match=r"decoder gave \(2, 1, 16, 16\) .* \(2, 3, 16, 16\)"):
        model(images(2))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_log_prob_takes_items_as_the_data_give_them(objective: str):
    model, x = small(objective=OBJECTIVES[objective]), images(4)
    model.calibrate([x])
    found = model.distribution(model.encode(x))
    assert torch.equal(found.log_prob(x), found.log_prob(model.objective.normalize(x)))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("wrap", [False, True])
def test_what_is_hidden_from_the_decoder_teaches_nothing(objective: str, wrap: bool):
    """Or the codes around would learn to tell what is there, and not only what is theirs."""
    config = SelectiveConfig(quantizer=VQConfig(codebook_size=16), keep=1, hiding=Hiding(share=0.5))
    model = small(
        ProjectedConfig(quantizer=config, dim=3) if wrap else config, OBJECTIVES[objective]
    )
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    model.decoder.register_forward_hook(keep)
    out = model(images(4))
    out.loss.backward()
    model.eval()(images(4)).loss.backward()
    gradient, in_evaluation = (output.grad for output in seen)
    assert gradient is not None
    assert in_evaluation is not None
    kept = out.codes.levels[0].indices[..., 0] > 0
    cells = kept.repeat_interleave(4, 1).repeat_interleave(4, 2)
    taught = (gradient != 0).any(1)
    assert not (taught & ~cells).any()
    assert taught[cells].float().mean() > 0.9
    assert (in_evaluation != 0).any(1).float().mean() > 0.9
