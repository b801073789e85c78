"""What must hold for the figure that tells whether codes are needed."""

import math
from pathlib import Path

import pytest
import torch
from tests.evaluation.test_evaluation import fitted
from tests.tokens.models import images
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.cli.evaluate import summary
from vqkit.data import TensorExamples
from vqkit.evaluation import code_reliance, evaluate, write_report
from vqkit.evaluation.reliance import finding, partners
from vqkit.modalities.image import IMAGE

KEY = "code_reliance_bits_per_dim"


def by_hand(model: VQVAE, items: list[Tensor]) -> float:
    """Item by item, in bits per dimension."""
    nats, num = 0.0, len(items)
    with torch.no_grad():
        for i, x in enumerate(items):
            y = model.objective.normalize(x.unsqueeze(0))
            for j, sign in ((i, 1), ((i + num // 2) % num, -1)):
                codes = model.encode(items[j].unsqueeze(0))
                nats += sign * model.distribution(codes).log_prob(y).item()
    return nats / math.log(2) / sum(x.numel() for x in items)


@pytest.mark.parametrize("num", [2, 5, 23])
def test_it_is_what_a_loop_over_pairs_finds_whatever_the_batch_size(num: int):
    model, examples = fitted(), images(num)
    expected = by_hand(model, [examples.example(i).x for i in range(num)])
    for batch_size in (1, 4, 64):
        found = code_reliance(model, examples, batch_size=batch_size)
        assert found == pytest.approx(expected, rel=1e-9)
        metrics = evaluate(model, examples, batch_size=batch_size, num_shown=0).metrics
        assert metrics[KEY] == pytest.approx(expected, rel=1e-9)


def test_no_item_has_its_own_codes_and_each_is_used_once():
    for num in range(2, 30):
        shifted = partners(range(num), num)
        assert sorted(shifted) == list(range(num))
        assert all(i != j for i, j in enumerate(shifted))


def test_it_is_0_for_a_decoder_that_ignores_its_codes():
    model = fitted()
    for parameter in model.decoder.parameters():
        torch.nn.init.zeros_(parameter)
    assert code_reliance(model, images(7)) == 0


def test_it_is_positive_where_the_decoder_draws_what_the_codes_say():
    """Images of one grey each, which the codes tell."""
    torch.manual_seed(0)
    greys = torch.arange(0, 256, 16, dtype=torch.uint8).view(-1, 1, 1, 1)
    examples = TensorExamples(list(greys.expand(16, 1, 8, 12)))
    model = fitted()
    with torch.no_grad():
        model.decoder = Painter(model, greys.expand(16, 1, 8, 12))
        model.objective.sigma.fill_(0.05)
    assert code_reliance(model, examples) > 1


class Painter(torch.nn.Module):
    """Gives back the image of those that it knows whose vectors are nearest."""

    def __init__(self, model: VQVAE, known: Tensor) -> None:
        super().__init__()
        self.known = model.objective.normalize(known).double()
        indices = model.encode(known).levels[0].indices
        self.vectors = model.quantizers[0].decode(indices).movedim(-1, 1)
        self.weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, z_q: Tensor) -> Tensor:
        return self.known[torch.cdist(z_q.flatten(1), self.vectors.flatten(1)).argmin(1)]


def test_there_is_none_for_one_item_unequal_sizes_or_without_a_likelihood():
    assert code_reliance(fitted(), images(1)) is None
    assert KEY not in evaluate(fitted(), images(1), num_shown=0).metrics
    assert code_reliance(fitted(), images(6, ragged=True)) is None
    model = fitted()
    model.objective.calibrated.fill_(False)
    assert KEY not in evaluate(model, images(6), num_shown=0).metrics
    with pytest.raises(ValueError, match="sigma was not fitted"):
        code_reliance(model, images(6))


def test_a_decoder_that_ignores_its_codes_is_told_of(tmp_path: Path):
    model = fitted()
    metrics = evaluate(model, images(7)).metrics
    assert metrics[KEY] > 0.01
    assert finding(metrics) is None
    assert not [line for line in summary(metrics, IMAGE) if "ignores" in line]
    for parameter in model.decoder.parameters():
        torch.nn.init.zeros_(parameter)
    found = evaluate(model, images(7))
    (line,) = [line for line in summary(found.metrics, IMAGE) if "ignores its codes" in line]
    assert line.startswith("health: the decoder ignores its codes: ")
    page = write_report(tmp_path, found, title="t").read_text(encoding="utf-8")
    assert "The decoder ignores its codes" in page
    assert finding({}) is None


def test_a_decoder_is_not_to_blame_where_items_have_the_same_codes():
    model = fitted()
    (book,) = model.codebooks().values()
    with torch.no_grad():
        book.entries[1:] = 1e3  # all vectors choose the first
    metrics = evaluate(model, images(6)).metrics
    assert metrics["unlike_codes"] == 0
    found = finding(metrics)
    assert found is not None
    assert found.startswith("items have the same codes: only 0.0% of them differ")
