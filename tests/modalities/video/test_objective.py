"""What must hold for what decoders of clips are trained for."""

import pytest
import torch
from tests.modalities.video.clips import clips, model, ragged
from torch.testing import assert_close

from vqkit.modalities.image.gaussian import GaussianObjective
from vqkit.modalities.video import VideoModality, VideoObjective


def objective() -> VideoObjective:
    return VideoObjective(VideoModality(8, 3))


def test_it_is_that_of_images_in_every_frame():
    x = clips(3, 4).float() / 127.5 - 1
    y = x + 0.1 * torch.randn_like(x)
    frames = [each.movedim(2, 1).flatten(0, 1) for each in (y, x)]
    found, expected = objective().loss(y, x), GaussianObjective().loss(*frames)
    assert_close(found["reconstruction"].value, expected["reconstruction"].value)
    assert objective().modality.name == "video"


def test_frames_behind_the_end_have_no_effect_and_get_no_gradient():
    x, mask = ragged([4, 2])
    x = x.float() / 127.5 - 1
    y = (x + 0.1 * torch.randn_like(x)).requires_grad_()
    loss = objective().loss(y, x, mask)["reconstruction"].value
    loss.backward()
    assert y.grad is not None
    assert not y.grad[1, :, 2:].any()
    alone = [
        objective().loss(y[i : i + 1, :, :n], x[i : i + 1, :, :n]) for i, n in ((0, 4), (1, 2))
    ]
    total = sum(float(each["reconstruction"].total.detach()) for each in alone)
    assert float(loss.detach()) == pytest.approx(total / (6 * 3 * 64), rel=1e-5)


def test_a_fitted_gaussian_gives_grey_levels_a_probability():
    tokenizer, x = model(), clips(4, 5)
    tokenizer.calibrate([x])
    said = tokenizer.distribution(tokenizer.encode(x))
    assert tokenizer.objective.claims_likelihood
    one = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1, 1)
    mean = torch.full((256, 1, 1, 1, 1), 0.3)
    log_probs = type(said)(mean, said.sigma, said.calibrated).log_prob(one)  # pyright: ignore
    assert float(log_probs.exp().sum()) == pytest.approx(1)
    assert said.log_prob(x).shape == (4,)
    assert said.sample(0).shape == x.shape
