"""Drawing in batches: every image is a function of the seed, its number and its class."""

from typing import cast

import numpy as np
import pytest
import torch

from vqkit.autoencoder import VQVAE
from vqkit.cli.drawing import Sampling, captioned_sheet, draw
from vqkit.codes import Codes, LevelSpec
from vqkit.evaluation.captions import GAP
from vqkit.modalities.image.gaussian import Gaussian, GaussianObjective
from vqkit.priors import (
    ConditioningSpec,
    Lengths,
    TransformerConfig,
    TransformerPrior,
    UniformConfig,
)


class Plain:
    """A tokenizer whose images are the codes themselves, four grey pixels."""

    objective = GaussianObjective()

    encoder = None

    def distribution(self, codes: Codes) -> Gaussian:
        zero = torch.zeros(())
        return Gaussian(codes.flat().view(-1, 1, 2, 2) / 127.5 - 1, zero, zero)


TOKENIZER = cast(VQVAE, Plain())


@pytest.fixture(scope="module")
def prior() -> TransformerPrior:
    torch.manual_seed(0)
    config = TransformerConfig(layers=1, width=16, heads=2)
    prior = config.build([LevelSpec((2, 2), (200,))], ConditioningSpec(num_classes=3)).eval()
    assert prior.conditioner.labels is not None
    assert prior.embedding.head is not None
    with torch.no_grad():
        # So that classes tell in a model that learned nothing.
        prior.conditioner.labels.weight.mul_(100)
        prior.embedding.head.weight.mul_(20)
    return prior


def test_batches_and_later_images_change_nothing(prior: TransformerPrior):
    whole = draw(prior, TOKENIZER, Sampling(num=7, batch_size=7))
    parts = draw(prior, TOKENIZER, Sampling(num=5, batch_size=2))
    assert all(torch.equal(a, b) for a, b in zip(parts, whole, strict=False))
    assert (len(parts), len(whole)) == (5, 7)
    assert len({tuple(image.flatten().tolist()) for image in whole}) == 7


def test_what_a_drawn_length_leaves_out_is_no_part_of_an_image():
    lengths = Lengths(((2, 2), (1, 2)), (1, 1))
    prior = UniformConfig().build([LevelSpec((2, 2), (200,))], None, lengths)
    found = draw(prior, TOKENIZER, Sampling(num=40, batch_size=16))
    assert {tuple(image.shape) for image in found} >= {(1, 2, 2), (1, 1, 2)}


def test_the_classes_take_turns_or_one_is_drawn(prior: TransformerPrior):
    turns = draw(prior, TOKENIZER, Sampling(num=6, batch_size=4))
    for label in range(3):
        alone = draw(prior, TOKENIZER, Sampling(num=6, label=label, batch_size=4))
        same = [torch.equal(a, b) for a, b in zip(alone, turns, strict=True)]
        assert same == [i % 3 == label for i in range(6)]


def test_another_seed_gives_other_images(prior: TransformerPrior):
    a, b = (draw(prior, TOKENIZER, Sampling(num=4, seed=seed)) for seed in (0, 1))
    assert not any(torch.equal(x, y) for x, y in zip(a, b, strict=True))


CLASSES = [f"class {i}" for i in range(10)]
SIDE = 64 + GAP  # of an image on the sheet


def shape(num: int, priors: int, classes: list[str], label: int | None = None) -> tuple[int, int]:
    """Width and height of a sheet."""
    images = {f"prior {i}": torch.zeros(num, 1, 8, 8, dtype=torch.uint8) for i in range(priors)}
    return captioned_sheet(images, Sampling(num=num, label=label), classes).size


def test_each_class_has_a_row_under_its_name():
    """Image i is grey of level i % 10: whole rows have one level, right of black words on white."""
    grey = torch.arange(64).view(-1, 1, 1, 1) % 10 + 100
    images = {"learned": grey.expand(-1, 1, 8, 8).to(torch.uint8)}
    sheet = np.array(captioned_sheet(images, Sampling(num=64), CLASSES))
    left = sheet.shape[1] - (7 * SIDE - GAP)
    assert left > 20
    for row in range(10):
        line = sheet[row * SIDE : row * SIDE + 64, left:]
        assert {*line[:, : 6 * SIDE - GAP].flatten().tolist()} == {100 + row, 255}
        assert line.min() == 100 + row
        assert sheet[row * SIDE : row * SIDE + 64, :left].min() < 80
    assert sheet.shape[0] == 10 * SIDE - GAP


def test_a_sheet_of_one_class_or_without_classes_is_about_square():
    assert shape(64, 1, []) == (8 * SIDE - GAP, 8 * SIDE - GAP)
    width, height = shape(64, 1, CLASSES, label=3)
    assert width < height < width + 40  # a heading


@pytest.mark.parametrize("classes", [[], CLASSES, [str(i) for i in range(99)]])
@pytest.mark.parametrize("priors", [1, 3])
@pytest.mark.parametrize("num", [10, 20, 64, 100, 500])
def test_no_sheet_is_a_ribbon(num: int, priors: int, classes: list[str]):
    width, height = shape(num, priors, classes)
    assert 1 / 8 < width / height < 4


def test_several_sheets_stand_together_under_their_names():
    one, three = shape(6, 1, CLASSES), shape(6, 3, CLASSES)
    assert three[0] > 3 * one[0]
    assert three[1] > one[1]
