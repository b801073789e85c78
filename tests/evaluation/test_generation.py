"""What must hold for the figures of new images."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.evaluation.test_evaluation import histogram_prior
from tests.pair import run_pair
from tests.tokens.models import images, tokenizer
from torch import Tensor

from vqkit.data import TensorExamples, in_order
from vqkit.evaluation import (
    ClassifierConfig,
    ClassifierFeatures,
    EncoderFeatures,
    Generation,
    ImageClassifier,
    Judges,
    Moments,
    frechet_distance,
    measure_generation,
    precision_recall,
)
from vqkit.evaluation.draws import labels_like
from vqkit.evaluation.features import Featured
from vqkit.evaluation.study import SEED, Study, chosen
from vqkit.modalities.image import IMAGE
from vqkit.modalities.image.pictures import to_uint8
from vqkit.priors import Conditioning, ConditioningSpec, Prior, TransformerConfig

NUM = 24


SMALL = TransformerConfig(layers=1, width=16, heads=2)


def judge() -> ImageClassifier:
    torch.manual_seed(0)
    config = ClassifierConfig(channels=1, labels=("a", "<b>", "ç"), stride=1, width=4)
    return config.build().eval()


def conditional() -> Prior:
    specs = tokenizer().encode(torch.zeros(1, 1, 8, 12)).specs
    torch.manual_seed(0)
    return (
        TransformerConfig(layers=1, width=16, heads=2)
        .build(specs, ConditioningSpec(num_classes=3))
        .eval()
    )


def measured(prior: Prior | None = None, **options: Any) -> Generation:
    model, classifier = tokenizer(), judge()
    histogram = options.pop("histogram", None) or histogram_prior(model)
    priors = {"histogram": histogram, "learned": prior or conditional()}
    usual: dict[str, Any] = {"held_out": images(20), "training": images(40, seed=1), "num": NUM}
    judges = Judges(ClassifierFeatures(classifier), classifier)
    return measure_generation(priors, model, options.pop("judges", judges), **(usual | options))


def whole(examples: TensorExamples) -> tuple[Tensor, Tensor | None]:
    (batch,) = in_order(examples, len(examples))
    return batch.x, batch.labels


def test_figures_equal_those_of_all_images_at_once():
    found, classifier, prior = measured().metrics, judge(), conditional()
    labels = labels_like(whole(images(20))[1], NUM)
    codes = prior.sample(NUM, Conditioning(labels), seed=SEED)
    drawn = to_uint8(tokenizer().decode(codes))
    real, classes = whole(images(20))
    features = {name: classifier.features(x) for name, x in (("real", real), ("new", drawn))}
    both = (Moments.of(each) for each in features.values())
    assert found["learned"]["frechet_distance"] == pytest.approx(frechet_distance(*both), rel=1e-4)
    some = features["real"][chosen(20, 20)], features["new"][:20]
    assert (found["learned"]["precision"], found["learned"]["recall"]) == precision_recall(*some)
    hits = classifier(drawn).argmax(1) == labels
    assert found["learned"]["class_accuracy"] == pytest.approx(float(hits.double().mean()))
    own = classifier(real).argmax(1) == classes
    assert found["classifier_accuracy"] == pytest.approx(float(own.double().mean()))
    for number, row in enumerate(found["classes"]):
        assert row["num_samples"] == int((labels == number).sum())
        assert row["accuracy_samples"] == pytest.approx(
            float(hits[labels == number].double().mean())
        )
        assert row["num_held_out"] == int((classes == number).sum())
        mine = own[classes == number].double().mean()
        assert row["accuracy_held_out"] == pytest.approx(float(mine))
    assert found["features"] == {"name": "classifier", "dim": 128}
    assert (found["num_samples"], found["num_held_out"], found["num_for_recall"]) == (NUM, 20, 20)


def test_the_reference_is_as_many_training_images_as_there_are_samples():
    found, classifier = measured().metrics["training_images"], judge()
    training, labels = whole(images(40, seed=1))
    some = chosen(40, NUM)
    assert len(set(some)) == NUM
    features, real = classifier.features(training[some]), classifier.features(whole(images(20))[0])
    distance = frechet_distance(Moments.of(features), Moments.of(real))
    assert found["frechet_distance"] == pytest.approx(distance, rel=1e-4)
    hits = classifier(training[some]).argmax(1) == labels[some]
    assert found["class_accuracy"] == pytest.approx(float(hits.double().mean()))


@pytest.mark.parametrize("num", [1, 2, 7, 20, 57, 400])
@pytest.mark.parametrize("counts", [(5, 5, 5), (18, 2), (1, 0, 7, 3), (4,)])
def test_classes_are_drawn_as_often_as_they_are_held_out_and_in_turn(
    counts: tuple[int, ...], num: int
):
    order = torch.randperm(sum(counts), generator=torch.Generator().manual_seed(0))
    others = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))[order]
    found = labels_like(others, num)
    assert len(found) == num
    for number, count in enumerate(counts):
        assert abs(int((found == number).sum()) - num * count / sum(counts)) < 1
        for some in range(num):  # the first ones too, within one of each class
            share = some * count / sum(counts)
            assert abs(int((found[:some] == number).sum()) - share) <= len(counts)
    if counts == (5, 5, 5) and num % 3 == 0:
        assert torch.equal(found, torch.arange(num) % 3)


@pytest.mark.parametrize("most", [0, 1, 7, 20, 99])
def test_images_are_chosen_by_chance_and_fewer_are_the_first_of_more(most: int):
    found = chosen(20, most)
    assert len(found) == len(set(found)) == min(20, most)
    assert set(found) <= set(range(20))
    assert found == chosen(20, 20)[:most]
    assert chosen(20, 20) != list(range(20))


def test_the_figures_do_not_depend_on_the_batch_size():
    first, second = measured(batch_size=5).metrics, measured(batch_size=64).metrics
    for name in ("learned", "histogram", "training_images"):
        assert first[name] == pytest.approx(second[name], rel=1e-4)
    assert first["neighbors"] == pytest.approx(second["neighbors"], rel=1e-4)


def test_neighbours_are_the_nearest_training_images_in_the_feature_space():
    found, classifier = measured(num_shown=6), judge()
    assert found.samples.shape == (6, 1, 8, 12)
    assert len(found.neighbors) == 3
    training, _ = whole(images(40, seed=1))
    own, others = classifier.features(found.samples), classifier.features(training)
    order = torch.cdist(own.double(), others.double()).argsort(dim=1)
    for rank, pictures in enumerate(found.neighbors):
        assert torch.equal(pictures, training[order[:, rank]])


def study() -> Study:
    return Study(Judges(EncoderFeatures(tokenizer())), IMAGE, torch.device("cpu"), 7, 0, False)


def near(samples: TensorExamples, held_out: TensorExamples) -> dict[str, Any]:
    """How near samples are to training images."""
    space = EncoderFeatures(tokenizer())
    both = (Featured(space(whole(each)[0]), None, None) for each in (samples, held_out))
    return study().nearest(images(40, seed=1), *both).metrics


def test_copies_of_training_images_are_told():
    training, _ = whole(images(40, seed=1))
    found = near(TensorExamples(training[:10]), images(20))
    assert found["copies"] == 10
    assert found["share_nearer_than_held_out"] == 1
    assert found["distance_ratio"] == pytest.approx(0)


def test_images_as_new_as_held_out_ones_are_as_far_from_training_images():
    found = near(images(300, seed=5), images(300, seed=6))
    assert found["copies"] == 0
    assert 0.35 < found["share_nearer_than_held_out"] < 0.65
    assert 0.8 < found["distance_ratio"] < 1.25


def test_what_was_not_measured_is_left_out():
    encoder = Judges(EncoderFeatures(tokenizer()))
    model = tokenizer()
    found = measured(histogram_prior(model), judges=encoder, training=None, num=3)
    assert not {"training_images", "classifier_accuracy", "classes", "neighbors"} & set(
        found.metrics
    )
    assert set(found.metrics["learned"]) == {"frechet_distance"}  # 3 are too few for k = 3
    assert found.neighbors == ()
    assert len(found.samples) == 3


def test_unlabelled_images_have_figures_too():
    bare = TensorExamples(whole(images(20))[0])
    found = measured(histogram_prior(tokenizer()), held_out=bare, training=bare).metrics
    assert "class_accuracy" not in found["learned"]
    assert "classes" not in found
    assert found["training_images"]["recall"] == 1


def shared(num: int, folder: Path) -> tuple[dict[str, Any], Tensor]:
    histogram = Prior.from_pretrained(folder)  # counted anew it would have seen all twice
    found = measured(histogram=histogram, num=num, batch_size=5)
    return found.metrics, found.samples


@pytest.mark.slow
@pytest.mark.parametrize("num", [1, NUM])  # a rank without samples must not keep the other waiting
def test_two_processes_find_what_one_finds(tmp_path: Path, num: int):
    histogram_prior(tokenizer()).save_pretrained(tmp_path / "histogram")
    alone, samples = shared(num, tmp_path / "histogram")
    for found, pictures in run_pair(shared, tmp_path, num, tmp_path / "histogram"):
        for name in ("learned", "histogram", "training_images", "neighbors"):
            assert found[name] == pytest.approx(alone[name], rel=1e-4)
        assert found["classes"] == alone["classes"]
        assert torch.equal(pictures, samples)
