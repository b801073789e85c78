"""What must hold for the training of the classifier that judges samples."""

from pathlib import Path

import pytest
import torch
from tests.training import tiny
from torch.testing import assert_close

from vqkit import distributed
from vqkit.data import TensorExamples, in_order
from vqkit.evaluation import ImageClassifier
from vqkit.training import classifier as module
from vqkit.training.classifier import ClassifierTask, plan, trained_classifier
from vqkit.training.task import Task

LABELS = ("dark", "bright")


def images(num: int = 64, *, seed: int = 0, labels: bool = True) -> TensorExamples:
    """Noise that is brighter in one of two classes."""
    generator = torch.Generator().manual_seed(seed)
    items = []
    for i in range(num):
        noise = torch.randint(0, 160, (1, 8, 8), generator=generator)
        items.append((noise + 90 * (i % 2)).to(torch.uint8))
    if not labels:
        return TensorExamples(items)
    return TensorExamples([(x, i % 2) for i, x in enumerate(items)], labels=LABELS)


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_STEPS", 20)
    monkeypatch.setattr(module, "PASSES", 1)


def right(model: ImageClassifier, examples: TensorExamples) -> float:
    (batch,) = in_order(examples, len(examples))
    with torch.no_grad():
        return float((model(batch.x).argmax(1) == batch.labels).double().mean())


def test_it_learns_classes_and_knows_them_on_images_that_it_has_not_seen(tmp_path: Path):
    model = trained_classifier(tmp_path / "classifier", images(), LABELS)
    assert not model.training
    assert right(model, images(100, seed=1)) > 0.95


def test_it_is_kept_and_opened_again_without_images(tmp_path: Path):
    folder = tmp_path / "classifier"
    first = trained_classifier(folder, images(), LABELS)
    assert not [path for path in folder.rglob("*") if path.suffix in (".pt", ".pkl", ".bin")]
    before = (folder / "model.safetensors").stat().st_mtime_ns
    again = trained_classifier(folder, None, LABELS)
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert_close(tiny.state(again), tiny.state(first), rtol=0, atol=0)


def test_it_depends_on_no_random_state_but_its_own_seed_and_leaves_it_alone(tmp_path: Path):
    torch.manual_seed(5)
    first = trained_classifier(tmp_path / "a", images(), LABELS)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    second = trained_classifier(tmp_path / "b", images(), LABELS)
    assert_close(tiny.state(first), tiny.state(second), rtol=0, atol=0)


def test_a_killed_training_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = trained_classifier(tmp_path / "whole", images(), LABELS)
    monkeypatch.setattr(module, "CHECKPOINT_EVERY", 7)
    forward, calls = ClassifierTask.forward, [0]

    def dying(task: Task, *args: object) -> object:
        calls[0] += 1
        if calls[0] == 12:
            raise KeyboardInterrupt
        return forward(task, *args)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierTask, "forward", dying)
        with pytest.raises(KeyboardInterrupt):
            trained_classifier(tmp_path / "killed", images(), LABELS)
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    resumed = trained_classifier(tmp_path / "killed", images(), LABELS)
    assert_close(tiny.state(resumed), tiny.state(whole), rtol=0, atol=0)


def test_one_of_other_classes_is_not_taken(tmp_path: Path):
    trained_classifier(tmp_path / "classifier", images(), LABELS)
    with pytest.raises(
        ValueError, match="knows the classes dark, bright, the images have cat, dog"
    ):
        trained_classifier(tmp_path / "classifier", images(), ("cat", "dog"))


def test_without_images_or_labels_there_is_none(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no classifier"):
        trained_classifier(tmp_path / "classifier", None, LABELS)
    with pytest.raises(ValueError, match="have no labels; a classifier needs one for each"):
        trained_classifier(tmp_path / "classifier", images(labels=False), LABELS)


def test_many_images_get_no_more_steps_than_a_few_minutes_take(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    assert plan(10**6, "cpu").steps == 3000
    assert plan(10, "cpu").steps == 100
    assert plan(10, "cpu").batch_size == 10


def half(folder: Path) -> None:
    module.LEAST_STEPS, module.PASSES = 20, 1
    model = trained_classifier(folder / "classifier", images(), LABELS)
    model.save_pretrained(folder / f"rank {distributed.rank()}")


@pytest.mark.slow
def test_two_processes_train_the_classifier_that_one_trains(tmp_path: Path):
    assert tiny.run_pair(half, tmp_path / "store", tmp_path) == [0, 0]
    alone = trained_classifier(tmp_path / "alone", images(), LABELS)
    first, second = (
        ImageClassifier.from_pretrained(tmp_path / f"rank {rank}") for rank in range(2)
    )
    assert_close(tiny.state(first), tiny.state(second), rtol=0, atol=0)
    # Adam turns the last bits of tiny gradients into steps: the same knowledge, not the same bits.
    (batch,) = in_order(images(100, seed=1), 100)
    with torch.no_grad():
        assert torch.equal(first(batch.x).argmax(1), alone(batch.x).argmax(1))
