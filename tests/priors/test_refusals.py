"""What every prior must refuse, in words that name the argument."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.priors.spaces import CLASSES, PRIORS, SPACES, labels_of, make, random_codes

from vqkit.codes import Codes, LevelSpec
from vqkit.priors import Conditioning, ConditioningSpec, Prior, PriorConfig


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", 0.0),
        ("temperature", -1.0),
        ("temperature", math.nan),
        ("top_k", 0),
        ("top_p", -0.1),
        ("top_p", 1.5),
    ],
)
def test_options_out_of_range_are_refused_by_name(prior: Prior, option: str, value: float):
    with pytest.raises(ValueError, match=f"{option} is {value}"):
        prior.sample(2, labels_of(2), seed=0, **{option: value})


def test_a_negative_number_of_samples_is_refused(prior: Prior):
    with pytest.raises(ValueError, match="num is -1"):
        prior.sample(-1, seed=0)


def test_codes_of_other_levels_are_refused(prior: Prior):
    other = random_codes((LevelSpec((5,), (3,)),), 2)
    with pytest.raises(ValueError, match="codes have levels 5 of 3"):
        prior.log_prob(other, labels_of(2))


def test_an_index_that_is_no_entry_is_refused_with_its_place(prior: Prior):
    flat = random_codes(prior.specs, 3).flat()
    flat[1, -1] = 99
    with pytest.raises(ValueError, match=f"index 99 at item 1, slot {flat.shape[1] - 1}"):
        prior.log_prob(Codes.from_flat(flat, prior.specs), labels_of(3))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, CLASSES]), "labels are 0 to 3; the classes are 0 to 2"),
        (torch.tensor([-1, 0]), "labels are -1 to 0"),
        (torch.tensor([0]), "one integer for each of 2 items"),
        (torch.tensor([0.0, 1.0]), "one integer for each of 2 items"),
    ],
)
def test_labels_that_do_not_fit_are_refused(prior: Prior, labels: torch.Tensor, message: str):
    codes, given = random_codes(prior.specs, 2), Conditioning(labels)
    for use in (
        lambda: prior.log_prob(codes, given),
        lambda: prior.loss(codes, given),
        lambda: prior.sample(2, given, seed=0),
    ):
        with pytest.raises(ValueError, match=message):
            use()


def test_labels_for_a_prior_without_classes_are_refused(
    config: PriorConfig, specs: tuple[LevelSpec, ...]
):
    with pytest.raises(ValueError, match="without classes"):
        make(config, specs, None).sample(2, labels_of(2), seed=0)


def test_a_prior_without_levels_or_classes_is_refused(
    config: PriorConfig, specs: tuple[LevelSpec, ...]
):
    with pytest.raises(ValueError, match="specs is empty"):
        config.build((), None)
    wrong: Any = 3
    with pytest.raises(TypeError, match="conditioning is 3; give a ConditioningSpec"):
        config.build(specs, wrong)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        config.build(specs, ConditioningSpec(num_classes=0))


def test_arguments_of_other_types_are_refused_in_one_line(prior: Prior):
    wrong: Any
    for wrong, message in ((2.5, "num is 2.5"), (-1, "num is -1")):
        with pytest.raises(ValueError, match=message):
            prior.sample(wrong, labels_of(2), seed=0)
    for wrong in (4.0, "4"):
        with pytest.raises(ValueError, match=f"num is {wrong!r}; give an integer"):
            prior.sample(wrong, labels_of(4), seed=0)
    for wrong in (1.5, -1):
        with pytest.raises(ValueError, match=f"first is {wrong}; give an integer"):
            prior.sample(2, labels_of(2), seed=0, first=wrong)
    for wrong in (1.5, None):
        with pytest.raises(TypeError, match=f"seed is {wrong}; give an integer"):
            prior.sample(2, labels_of(2), seed=wrong)
    wrong = Conditioning([0, 1])  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="labels are a list; give a tensor"):
        prior.sample(2, wrong, seed=0)
    with pytest.raises(TypeError, match="given is a Tensor; give a Conditioning"):
        prior.sample(2, torch.tensor([0, 1]), seed=0)  # pyright: ignore[reportArgumentType]
    floats = random_codes(prior.specs, 2).map(lambda indices: indices.double())
    with pytest.raises(ValueError, match=r"codes are torch\.float64; give integers"):
        prior.log_prob(floats, labels_of(2))


@pytest.mark.parametrize("kind", ["uniform", "histogram", "n-gram", "mixture"])
def test_guidance_is_refused_by_priors_that_learned_nothing_to_leave_out(kind: str):
    prior = make(PRIORS[kind], SPACES["one level"], CLASSES)
    with pytest.raises(ValueError, match=r"guidance is 2, but the prior never.*; leave it at 1$"):
        prior.sample(3, labels_of(3), seed=0, guidance=2)
