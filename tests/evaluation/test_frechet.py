"""What must hold for the Frechet distance."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.evaluation import Moments, frechet_distance


def gaussian(num: int, dim: int, *, seed: int = 0, mean: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return mean + torch.randn(num, dim, generator=generator, dtype=torch.float64) @ mix


def moments(mean: Tensor, covariance: Tensor, count: int = 101) -> Moments:
    return Moments(count, mean, covariance * (count - 1))


def test_moments_are_the_mean_and_the_unbiased_covariance():
    x = gaussian(57, 6, mean=3.0)
    found = Moments.of(x)
    assert_close(found.mean, x.mean(0))
    assert_close(found.covariance, torch.cov(x.T))


@pytest.mark.parametrize("cut", [1, 20, 56])
def test_moments_of_parts_add_up_to_those_of_the_whole(cut: int):
    x = gaussian(57, 6, mean=-2.0)
    found = Moments.of(x[:cut]) + Moments.of(x[cut:])
    assert found.count == 57
    assert_close(found.mean, x.mean(0))
    assert_close(found.covariance, torch.cov(x.T))


def test_moments_far_from_the_origin_lose_no_digits():
    """A sum of squares of numbers near 1e6 would keep four digits of the covariance."""
    x = gaussian(20_000, 3)
    far = Moments.of(x + 1e6).covariance
    assert_close(far, Moments.of(x).covariance, rtol=1e-8, atol=1e-8)


def test_the_distance_of_commuting_gaussians_is_the_closed_form():
    """For diagonal covariances it is |m - n|^2 + sum (s - t)^2 over standard deviations."""
    m, n = torch.tensor([1.0, 2, 3]).double(), torch.tensor([0.0, 2, 5]).double()
    s, t = torch.tensor([1.0, 2, 0.5]).double(), torch.tensor([3.0, 2, 0]).double()
    found = frechet_distance(moments(m, s.square().diag()), moments(n, t.square().diag()))
    assert found == pytest.approx(float((m - n).square().sum() + (s - t).square().sum()))


def test_the_distance_does_not_change_under_a_rotation_and_grows_with_the_square_of_a_scale():
    x, y = gaussian(90, 5), gaussian(70, 5, seed=1, mean=1.0)
    turn = torch.linalg.qr(gaussian(5, 5, seed=2)).Q
    plain = frechet_distance(Moments.of(x), Moments.of(y))
    turned = frechet_distance(Moments.of(3 * x @ turn), Moments.of(3 * y @ turn))
    assert turned == pytest.approx(9 * plain, rel=1e-9)


def test_the_distance_is_symmetric_and_zero_of_a_set_to_itself():
    x, y = Moments.of(gaussian(40, 8)), Moments.of(gaussian(60, 8, seed=1))
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-10)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10 * float(x.covariance.trace()))


@pytest.mark.parametrize("num", [1, 2, 10, 30])
def test_fewer_images_than_features_are_as_good_as_any(num: int):
    """Padding the features with zeros changes no distance, but makes every covariance singular."""
    x, y = gaussian(num, 12), gaussian(num, 12, seed=1, mean=0.5)
    wide = [torch.cat([each, torch.zeros(num, 200)], 1) for each in (x, y)]
    turn = torch.linalg.qr(gaussian(212, 212, seed=2)).Q
    plain = frechet_distance(Moments.of(x), Moments.of(y))
    assert frechet_distance(*(Moments.of(each @ turn) for each in wide)) == pytest.approx(
        plain, rel=1e-9
    )


def test_the_distance_of_few_images_is_that_of_the_product_of_their_data_matrices():
    """tr (A B)^(1/2) is the nuclear norm of X Y' of the centred data, without any covariance."""
    x, y = gaussian(7, 50), gaussian(9, 50, seed=1)
    a, b = ((each - each.mean(0)) / (len(each) - 1) ** 0.5 for each in (x, y))
    common = torch.linalg.matrix_norm(a @ b.T, "nuc")
    expected = (x.mean(0) - y.mean(0)).square().sum() + a.square().sum() + b.square().sum()
    found = frechet_distance(Moments.of(x), Moments.of(y))
    assert found == pytest.approx(float(expected - 2 * common), rel=1e-9)


def test_the_distance_is_that_of_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Flat(torch.nn.Module):
        num_features = 12

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).double()

    torch.manual_seed(0)
    real, fake = torch.rand(80, 3, 2, 2), torch.rand(60, 3, 2, 2) ** 2
    peer = FrechetInceptionDistance(feature=Flat(), input_img_size=(3, 2, 2), normalize=False)
    peer.set_dtype(torch.float64)
    peer.update(real, real=True)
    peer.update(fake, real=False)
    both = (Moments.of(each.flatten(1)) for each in (real, fake))
    assert frechet_distance(*both) == pytest.approx(float(peer.compute()), rel=1e-6)


def test_other_features_or_none_are_refused():
    x = Moments.of(gaussian(9, 3))
    with pytest.raises(ValueError, match="3 and 4 dimensions; compare within one feature space"):
        frechet_distance(x, Moments.of(gaussian(9, 4)))
    with pytest.raises(ValueError, match="the features are none"):
        Moments.of(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="the features are not finite"):
        Moments.of(torch.tensor([[1.0, torch.nan]]))
