"""What must hold for the networks of texts."""

import pytest
import torch
from tests.modalities.text import texts
from tests.modalities.text.texts import collated, items
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.modalities.text import END
from vqkit.nn.dropout import no_dropout

BOTH = pytest.mark.parametrize("decoder", ["parallel", "autoregressive"])


def double(decoder: str, **options) -> VQVAE:
    return texts.model(decoder, **options).double()


@BOTH
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_masked_equals_packed(decoder: str, patch: int):
    model = double(decoder, patch=patch).eval()
    batch = collated(items(patch))
    whole = model(batch.x, batch.mask)
    alone = [model(x.unsqueeze(0)) for x in items(patch)]
    for i, one in enumerate(alone):
        level, own = whole.codes.levels[0], one.codes.levels[0]
        length = own.indices.shape[1]
        assert level.indices[i, :length].equal(own.indices[0])
        assert level.mask is not None
        assert level.mask[i].sum() == length
        assert not level.indices[i, length:].any()
        assert_close(whole.z_e[0][i, :length], one.z_e[0][0], rtol=0, atol=1e-12)
    total = torch.stack([one.objectives["reconstruction"].total for one in alone]).sum()
    mean = whole.objectives["reconstruction"]
    assert_close(mean.total, total, rtol=1e-12, atol=0)
    assert int(mean.count) == sum(x.shape[1] for x in items(patch))


@BOTH
def test_gradients_of_a_masked_batch_are_those_of_its_items(decoder: str):
    model = double(decoder)
    for quantizer in model.quantizers:
        quantizer.eval()
    batch = collated(items())
    model(batch.x, batch.mask).objectives["reconstruction"].total.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for x in items():
        model(x.unsqueeze(0)).objectives["reconstruction"].total.backward()
    for name, parameter in model.named_parameters():
        if name in found:
            assert_close(found[name], parameter.grad, rtol=1e-9, atol=1e-12)


@BOTH
def test_what_is_decoded_of_a_padded_item_ends_where_its_codes_do(decoder: str):
    model = texts.model(decoder).eval()
    batch = collated(items())
    codes = model.encode(batch.x, batch.mask)
    said = model.distribution(codes)
    for found in (said.mode(), said.sample(seed=3)):
        assert found.shape == batch.x.shape
        assert (found.squeeze(1)[~batch.mask] == END).all()
    nats = torch.cat(
        [model.distribution(model.encode(x.unsqueeze(0))).log_prob(x.unsqueeze(0)) for x in items()]
    )
    assert_close(said.log_prob(batch.x), nats, rtol=1e-5, atol=1e-5)


@BOTH
def test_an_item_without_anything_changes_no_other_and_is_finite(decoder: str):
    model = double(decoder).eval()
    batch = collated(items())
    mask = batch.mask.clone()
    mask[2] = False
    expected, found = model(batch.x, batch.mask), model(batch.x, mask)
    rest = [0, 1, 3, 4, 5, 6]
    assert_close(found.z_e[0][rest], expected.z_e[0][rest])
    assert all(mean.total.isfinite() for mean in found.objectives.values())
    assert (found.reconstruction[2] == END).all()


@BOTH
def test_items_of_any_length_are_coded_and_come_back_with_as_many_symbols(decoder: str):
    model = texts.model(decoder, patch=4).eval()
    for length in (1, 3, 4, 5, 11):
        x = torch.randint(1, 257, (2, 1, length))
        out = model(x)
        assert out.codes.levels[0].indices.shape[:2] == (2, -(-length // 4))
        assert int(out.objectives["reconstruction"].count) == 2 * length


def test_without_blocks_a_code_knows_its_own_patch_alone():
    model = double("parallel", encoder_layers=0).eval()
    x = torch.randint(1, 257, (1, 1, 12))
    other = x.clone()
    other[..., 4:] = torch.randint(1, 257, (1, 1, 8))
    a, b = (model(each).z_e[0] for each in (x, other))
    assert a[:, :2].equal(b[:, :2])
    assert not a[:, 2:].equal(b[:, 2:])


def test_blocks_begin_without_a_share():
    torch.manual_seed(0)
    encoder = texts.network(encoder_layers=2).encoder(257)
    alone = texts.network(encoder_layers=0).encoder(257)
    alone.load_state_dict(encoder.state_dict(), strict=False)
    x = torch.randint(1, 257, (3, 1, 8))
    assert encoder(x).equal(alone(x))


def test_what_is_said_of_a_symbol_knows_none_from_it_on():
    model = double("autoregressive").eval()
    x = torch.randint(1, 257, (2, 1, 10))
    h = model.decoder(model(x).z_e[0].mT)
    for position in range(10):
        other = x.clone()
        other[..., position:] = torch.randint(1, 257, (2, 1, 10 - position))
        before, after = (model.decoder.outputs(h, each) for each in (x, other))
        assert before[..., : position + 1].equal(after[..., : position + 1])


def test_symbol_after_symbol_gives_what_one_pass_gives():
    model = double("autoregressive").eval()
    batch = collated(items())
    codes = model.encode(batch.x, batch.mask)
    h = model.distribution(codes).h
    whole, stepper = model.decoder.outputs(h, batch.x.long()), model.decoder.stepper(h)
    for position in range(batch.x.shape[2]):
        previous = batch.x[:, :, position - 1].long() if position else None
        step = stepper.step(previous)
        assert_close(step, whole[..., position].detach(), rtol=0, atol=1e-9)


@BOTH
def test_dropout_of_an_item_is_the_same_in_any_frame(decoder: str):
    from vqkit.nn.dropout import noise

    model = double(decoder, dropout=0.3)
    for quantizer in model.quantizers:
        quantizer.eval()
    batch = collated(items())
    with noise(0, 1, torch.arange(7)):
        whole = model(batch.x, batch.mask).objectives["reconstruction"].total
    total = torch.zeros(())
    for i, x in enumerate(items()):
        with noise(0, 1, torch.tensor([i])):
            total = total + model(x.unsqueeze(0)).objectives["reconstruction"].total
    assert_close(whole, total)
    with no_dropout():
        assert not model(batch.x, batch.mask).objectives["reconstruction"].total.equal(whole)
