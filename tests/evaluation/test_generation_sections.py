"""What must hold for the sections of a report about new images."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.evaluation.test_report import HOSTILE, Page
from tests.tokens.models import images, tokenizer

from vqkit.drawing import Drawing
from vqkit.evaluation import Generation, evaluate, write_report
from vqkit.evaluation.generation_sections import beside_real, in_words, sections
from vqkit.evaluation.page import number

NEAR = {
    "num_training": 60_000,
    "median_distance": 8.66,
    "median_distance_held_out": 5.65,
    "share_nearer_than_held_out": 0.035,
    "copies": 0,
    "distance_ratio": 1.53,
}
FIGURES = {"frechet_distance": 72.63, "precision": 0.704, "recall": 0.645, "class_accuracy": 0.521}


def generation(**changes: Any) -> Generation:
    metrics: dict[str, Any] = {
        "num_samples": 1000,
        "num_held_out": 5000,
        "features": {"name": "classifier", "dim": 128},
        "k": 3,
        "drawings": {"learned": Drawing().settings()},
        "num_for_recall": 1000,
        "histogram": FIGURES | {"frechet_distance": 231.9},
        "learned": FIGURES,
        "training_images": FIGURES | {"frechet_distance": 3.889, "recall": 0.883},
        "recall_ratio": 0.7305,
        "classifier_accuracy": 0.9208,
        "classes": [
            {"name": HOSTILE, "accuracy_samples": 0.45, "accuracy_held_out": 0.87},
            {"name": "bag", "accuracy_samples": 1.0},
        ],
        "neighbors": NEAR,
    }
    torch.manual_seed(0)
    drawn = torch.randint(0, 256, (4, 2, 1, 8, 12), dtype=torch.uint8)
    return Generation(metrics | changes, drawn[0], tuple(drawn[1:]))


def text(found: Generation) -> str:
    return Page("".join(sections(found))).text


def test_every_figure_is_shown_with_what_it_is_over():
    found = text(generation())
    for words in (
        "1,000 new images of each prior beside 5,000 held-out ones, as 128 features: what a small",
        "histogram2320.7040.6450.521",
        "given prior72.60.7040.6450.521",
        "training images3.890.7040.8830.521",
        "held-out images" + 3 * "\N{EN DASH}" + "0.921",
        "the given prior has 73 % of their recall",
        HOSTILE,
        "45 % of 87 %",
        "100 %",
        "From a new image it is 8.66 to the nearest of 60,000 training images",
        "3.5 % of the new images are nearer than half",
    ):
        assert words in found.replace("\N{NO-BREAK SPACE}", " "), words


def test_the_bars_are_as_long_as_the_shares_and_the_marks_stand_at_those_of_real_images():
    page = "".join(sections(generation()))
    assert re.findall(r'<b style="width: ([\d.]+)%">', page) == ["45.0", "100.0"]
    assert re.findall(r'<i style="left: ([\d.]+)%">', page) == ["87.0"]


def test_of_many_classes_the_least_certain_are_shown_in_order():
    rows = [{"name": f"<{i}>", "accuracy_samples": (i * 7 % 30) / 30} for i in range(30)]
    found = text(generation(classes=rows))
    assert "The 20 least certain of 30 classes." in found
    shown = [int(i) for i in re.findall(r"<(\d+)>", found)]
    assert shown == [i for i in range(30) if i * 7 % 30 < 20]


def test_what_was_not_measured_is_not_shown():
    bare = {key: {"frechet_distance": 2.0} for key in ("learned", "histogram")}
    found = generation(**bare)
    for key in ("training_images", "recall_ratio", "classifier_accuracy", "classes", "neighbors"):
        del found.metrics[key]
    page = text(replace(found, neighbors=()))
    assert "Class by class" not in page
    assert "Nearest training images" not in page
    assert "class accuracy" not in page
    assert "what can be reached" not in page


def test_another_feature_space_goes_by_its_name():
    name = "<m>.onnx (SHA-256 0123)"
    found = beside_real(generation(features={"name": name, "dim": 5}).metrics)
    assert f"as 5 features: those of {name}." in Page(found).text


@pytest.mark.parametrize(
    ("copies", "words"), [(1, "1 new image is not to"), (3, "3 new images are not to")]
)
def test_copies_are_told_in_words(copies: int, words: str):
    assert words in " ".join(in_words(NEAR | {"copies": copies}))
    assert "not to be told" not in " ".join(in_words(NEAR))


def test_the_page_and_the_file_show_samples_above_their_neighbours(tmp_path: Path):
    found = generation()
    evaluation = evaluate(tokenizer(), images())
    path = write_report(tmp_path, evaluation, title="t", generation=found)
    page = path.read_text(encoding="utf-8")
    own = page[page.index("<h2>Nearest training images") :]
    first = re.findall(r'base64,([^"]+)"', own)[:8]
    pictures = [np.array(Image.open(io.BytesIO(base64.b64decode(each)))) for each in first]
    expected = torch.cat([found.samples, *found.neighbors])[:, 0].numpy()
    np.testing.assert_array_equal(np.stack(pictures), expected)
    sheet = np.array(Image.open(tmp_path / "pictures" / "neighbors.png").convert("L"))
    assert sheet.shape[0] > 4 * 64  # each eight times as high and wide
    np.testing.assert_array_equal(sheet[:64:8, -96::8], expected[1])
    kept = json.loads((tmp_path / "metrics.json").read_text())
    assert kept["generation"] == found.metrics
    assert {**kept, "generation": 0} == {**evaluation.metrics, "generation": 0}
    assert number(kept["generation"]["learned"]["recall"]) in page
