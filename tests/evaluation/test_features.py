"""What must hold for feature spaces."""

from pathlib import Path

import pytest
import torch
from tests.pair import run_pair
from tests.tokens.models import images, tokenizer
from torch import Tensor

from vqkit import distributed
from vqkit.data import in_order
from vqkit.evaluation import (
    ClassifierConfig,
    ClassifierFeatures,
    EncoderFeatures,
    ImageClassifier,
)
from vqkit.evaluation.classifier import stride_for
from vqkit.evaluation.features import Featured, featurize

CPU = torch.device("cpu")


def classifier(channels: int = 1, **options: int) -> ImageClassifier:
    torch.manual_seed(0)
    return ClassifierConfig(channels=channels, labels=("a", "b", "c"), **options).build().eval()


def pictures(num: int = 9) -> Tensor:
    (batch,) = in_order(images(num), num)
    return batch.x


def test_the_logits_are_a_linear_map_of_the_features():
    model, x = classifier(), pictures()
    features = ClassifierFeatures(model)(x)
    assert features.shape == (9, 128)
    assert torch.equal(model(x), model.classify(features))


def test_features_are_those_of_each_image_alone_whatever_its_type():
    for space in (ClassifierFeatures(classifier()), EncoderFeatures(tokenizer(sizes=(16, 300)))):
        x = pictures()
        whole = space(x)
        assert whole.shape == (9, space.dim)
        assert whole.dtype == torch.float32
        torch.testing.assert_close(whole[3:4], space(x[3:4]))
        torch.testing.assert_close(whole, space(x.float() / 127.5 - 1))


@pytest.mark.parametrize("sizes", [(16,), (16, 300)])
def test_the_features_of_the_encoder_are_the_means_of_what_each_level_quantizes(
    sizes: tuple[int, ...],
):
    model, x = tokenizer(sizes=sizes), pictures()
    outputs = model(x).z_e
    expected = torch.cat([z_e.flatten(1, -2).mean(1) for z_e in outputs], dim=1)
    torch.testing.assert_close(EncoderFeatures(model)(x), expected)


@pytest.mark.parametrize(
    ("side", "channels"), [(8, 1), (16, 3), (28, 1), (32, 3), (64, 3), (100, 1), (128, 3)]
)
def test_images_of_any_size_have_features_and_the_cost_hardly_grows(side: int, channels: int):
    stride = stride_for(side, side)
    model = classifier(channels, stride=stride, width=4)
    assert model.features(torch.zeros(2, channels, side, side)).shape == (2, 128)
    grid = model.first(torch.zeros(1, channels, side, side)).shape[2:]
    assert max(grid) <= 17


def test_a_classifier_is_opened_as_it_was_saved(tmp_path: Path):
    model = classifier(width=4)
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    found = ImageClassifier.from_pretrained(tmp_path)
    assert found.config == model.config
    assert torch.equal(found(pictures()), model(pictures()))


def test_another_model_is_no_classifier(tmp_path: Path):
    from vqkit.priors import UniformPrior

    UniformPrior(tokenizer().encode(pictures()).specs).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a model of kind prior, not a classifier; remove"):
        ImageClassifier.from_pretrained(tmp_path)


def test_a_damaged_classifier_is_named(tmp_path: Path):
    classifier(width=4).save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text().replace('"width": 4', '"width": 5')
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match="the config is damaged"):
        ImageClassifier.from_pretrained(tmp_path)


def found_by(rank: int, world: int) -> Featured:
    """The features of a share of seven images, the last of two ranks having the rest."""
    begin, end = (7 * r // world for r in (rank, rank + 1))
    numbers = torch.arange(begin, end).split(2)
    batches = [(pictures(7)[each], each % 3) for each in numbers]
    model = classifier(width=4)
    return featurize(
        batches, ClassifierFeatures(model), device=CPU, labelled=True, classifier=model
    )


def test_the_classifier_judges_every_image():
    found = found_by(0, 1)
    assert torch.equal(found.predicted, classifier(width=4)(pictures(7)).argmax(1))
    assert torch.equal(found.hits, found.predicted == torch.arange(7) % 3)


def parts() -> tuple[Tensor, ...]:
    found = found_by(distributed.rank(), 2)
    return found.features, found.labels, found.predicted


@pytest.mark.slow
def test_two_processes_find_the_features_that_one_finds_in_order(tmp_path: Path):
    alone = found_by(0, 1)
    for features, labels, predicted in run_pair(parts, tmp_path):
        torch.testing.assert_close(features, alone.features)
        assert torch.equal(labels, alone.labels)
        assert torch.equal(predicted, alone.predicted)
