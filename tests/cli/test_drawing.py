"""Drawing in batches: every image is a function of the seed, its number and its class."""

from typing import cast

import pytest
import torch
from PIL import Image
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.cli.drawing import Sampling, captioned_sheet, columns, draw
from vqkit.codes import Codes, LevelSpec
from vqkit.priors import TransformerConfig, TransformerPrior


class Plain:
    """A tokenizer whose images are the codes themselves, four grey pixels."""

    def decode(self, codes: Codes) -> Tensor:
        return codes.flat().view(-1, 1, 2, 2) / 127.5 - 1


TOKENIZER = cast(VQVAE, Plain())


@pytest.fixture(scope="module")
def prior() -> TransformerPrior:
    torch.manual_seed(0)
    config = TransformerConfig(layers=1, width=16, heads=2)
    prior = config.build([LevelSpec((2, 2), (200,))], num_classes=3).eval()
    assert prior.classes is not None
    assert prior.head is not None
    with torch.no_grad():
        prior.classes.weight.mul_(100)  # so that classes tell in a model that learned nothing
        prior.head.weight.mul_(100)
    return prior


def test_batches_and_later_images_change_nothing(prior: TransformerPrior):
    whole = draw(prior, TOKENIZER, Sampling(num=7, batch_size=7))
    parts = draw(prior, TOKENIZER, Sampling(num=5, batch_size=2))
    assert torch.equal(parts, whole[:5])
    assert len({tuple(image.flatten().tolist()) for image in whole}) == 7


def test_the_classes_take_turns_or_one_is_drawn(prior: TransformerPrior):
    turns = draw(prior, TOKENIZER, Sampling(num=6, batch_size=4))
    for label in range(3):
        alone = draw(prior, TOKENIZER, Sampling(num=6, label=label, batch_size=4))
        same = [torch.equal(a, b) for a, b in zip(alone, turns, strict=True)]
        assert same == [i % 3 == label for i in range(6)]


def test_another_seed_gives_other_images(prior: TransformerPrior):
    a, b = (draw(prior, TOKENIZER, Sampling(num=4, seed=seed)) for seed in (0, 1))
    assert not any(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("num", "label", "num_classes", "expected"),
    [(100, None, 10, 10), (4, None, 10, 4), (64, None, 0, 8), (10, 3, 10, 4), (100, None, 99, 10)],
)
def test_a_class_is_a_column_where_they_take_turns(
    num: int, label: int | None, num_classes: int, expected: int
):
    assert columns(Sampling(num=num, label=label), num_classes) == expected


def test_several_sheets_stand_side_by_side_under_their_names():
    images = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
    one = captioned_sheet({"learned": images}, 3)
    both = captioned_sheet({"uniform": images, "learned": images}, 3)
    assert isinstance(both, Image.Image)
    assert both.width > 2 * one.width
    assert both.height > one.height
