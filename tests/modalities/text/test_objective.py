"""What must hold for the likelihood of texts."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from vqkit.modalities.text import END, Categorical, CategoricalObjective, Symbols

FEW = Symbols([b"", b"a", b"b"])


def said(batch: int = 2, length: int = 3) -> Categorical:
    torch.manual_seed(0)
    return CategoricalObjective(FEW).distribution(2 * torch.randn(batch, 3, length))


def test_the_probabilities_of_all_texts_of_a_length_sum_to_1():
    distribution = said(1)
    every = torch.tensor(list(itertools.product(range(3), repeat=3))).unsqueeze(1)
    log_probs = torch.cat([distribution.log_prob(x.unsqueeze(0)) for x in every])
    assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_the_log_probability_is_the_sum_of_those_of_the_symbols():
    distribution = said()
    x = torch.tensor([[[0, 1, 2]], [[2, 2, 1]]])
    p = distribution.logits.double().softmax(1)
    for i in range(2):
        expected = sum(math.log(p[i, x[i, 0, t], t]) for t in range(3))
        assert distribution.log_prob(x)[i].item() == pytest.approx(expected, rel=1e-12)
    assert distribution.log_prob(x.to(torch.int16)).equal(distribution.log_prob(x))


def test_the_mode_is_the_most_probable_symbol_of_each_place():
    distribution = said()
    assert distribution.mode().equal(distribution.logits.argmax(1, keepdim=True))
    best = distribution.log_prob(distribution.mode())
    for x in itertools.product(range(3), repeat=3):
        assert (distribution.log_prob(torch.tensor(x).expand(2, 1, 3)) <= best + 1e-12).all()


def test_samples_are_as_frequent_as_they_are_probable_and_depend_on_seed_and_number():
    one = said(1)
    many = Categorical(one.logits.expand(4000, -1, -1))
    found = many.sample(seed=5)
    shares = torch.nn.functional.one_hot(found.squeeze(1), 3).double().mean(0)
    assert_close(shares.T, one.logits[0].double().softmax(0), rtol=0, atol=0.03)
    part = Categorical(one.logits.expand(10, -1, -1)).sample(seed=5, first=100)
    assert part.equal(found[100:110])
    assert not Categorical(one.logits.expand(10, -1, -1)).sample(seed=6, first=100).equal(part)


def test_what_has_no_probability_is_never_drawn():
    logits = torch.tensor([0.0, -torch.inf, 0.0]).view(1, 3, 1).expand(1000, 3, 5)
    assert (Categorical(logits).sample(seed=0) != 1).all()


def test_the_loss_is_a_mean_over_real_symbols_ends_included():
    objective = CategoricalObjective(FEW)
    outputs, x = torch.randn(2, 3, 4), torch.tensor([[[1, 2, 0, 0]], [[2, 1, 1, 0]]])
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    loss = objective.loss(outputs, x, mask)["reconstruction"]
    nats = -outputs.log_softmax(1)
    expected = sum(nats[i, x[i, 0, t], t] for i in range(2) for t in range(4) if mask[i, t])
    assert_close(loss.total, expected)
    assert int(loss.count) == 7
    both = objective.loss(outputs.repeat(2, 1, 1), x.repeat(2, 1, 1), mask.repeat(2, 1))
    assert_close(both["reconstruction"].value, loss.value)


def test_training_is_told_the_share_of_symbols_that_are_right():
    objective = CategoricalObjective(FEW)
    x, found = torch.tensor([[[1, 2, 0, 0]]]), torch.tensor([[[1, 1, 0, 2]]])
    mask = torch.tensor([[True, True, True, False]])
    assert objective.measures(found, x, mask)["accuracy"].value.item() == pytest.approx(2 / 3)


def test_other_items_are_refused():
    objective = CategoricalObjective()
    x = torch.tensor([[[END, 256]]], dtype=torch.int16)
    assert objective.normalize(x).dtype == torch.int64
    assert objective.normalize(objective.normalize(x)).equal(x.long())
    with pytest.raises(TypeError, match=r"texts are torch.float32; give symbols as integers"):
        objective.normalize(x.float())
    with pytest.raises(ValueError, match=r"symbols from 0 to 257; the model knows 0 .* to 256"):
        objective.normalize(x + torch.tensor([0, 1], dtype=torch.int16))
    with pytest.raises(ValueError, match=r"shape \(1, 2\); give symbols \(B, 1, L\)"):
        objective.normalize(x[0])
