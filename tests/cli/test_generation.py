"""What ``vqkit evaluate`` finds of new images, by words."""

import itertools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.conftest import Cli, Made
from tests.cli.folders import TINY, TINY_PRIOR, make_images

from vqkit.cli.evaluate import sample_groups
from vqkit.cli.runs import open_tokenizer
from vqkit.cli.token_parts import open_tokens, prior_items
from vqkit.config import load_prior_config
from vqkit.drawing import PLAIN
from vqkit.evaluation import ImageClassifier
from vqkit.priors import Prior


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More images than the run held out, which are too few for precision and recall."""
    return make_images(tmp_path_factory.mktemp("others") / "images", 12)


@pytest.fixture
def prior(made: Made, tmp_path: Path) -> Path:
    """A copy of the prior's run as its training left it, to be evaluated."""
    evaluated = shutil.ignore_patterns("classifier")
    return Path(shutil.copytree(made.prior, tmp_path / "prior", ignore=evaluated))


def figures(prior: Path) -> dict[str, Any]:
    return json.loads((prior / "metrics.json").read_text())["generation"]


def test_samples_are_judged_by_a_classifier_that_is_kept(cli: Cli, prior: Path, others: Path):
    result = cli("evaluate", prior, others, "--samples", 20)
    assert result.code == 0, result.err
    assert f"training a classifier of 2 classes on 18 images: {prior / 'classifier'}" in result.err
    found = figures(prior)
    assert found["features"]["name"] == "classifier"
    assert (found["num_samples"], found["num_held_out"]) == (20, 12)
    assert found["neighbors"]["num_training"] == 18
    assert [row["name"] for row in found["classes"]] == ["cat", "dog"]
    for name in ("learned", "histogram", "training_images"):
        assert set(found[name]) >= {"frechet_distance", "precision", "recall"}
    for line in ("over 20 samples, features of classifier:", "class accuracy, held-out images"):
        assert line in result.out
    assert ImageClassifier.from_pretrained(prior / "classifier").config.labels == ("cat", "dog")
    again = cli("evaluate", prior, others, "--samples", 20)
    assert "training a classifier" not in again.err
    assert figures(prior) == found


def test_the_page_shows_the_figures_and_the_neighbours(cli: Cli, prior: Path, others: Path):
    assert cli("evaluate", prior, others, "--samples", 20, "--features", "encoder").code == 0
    page = (prior / "report.html").read_text()
    for heading in ("New images beside real ones", "Nearest training images"):
        assert f"<h2>{heading}</h2>" in page
    assert "the tokenizer&#x27;s own encoder" in page
    assert (prior / "pictures" / "neighbors.png").is_file()
    assert "class_accuracy" not in figures(prior)["learned"]
    assert not (prior / "classifier").exists()
    failure = cli("evaluate", prior, "--samples", 0, "--features", "encoder").failure
    assert failure.startswith("--features is for new images, and --samples is 0")


def test_samples_are_drawn_as_asked_for_and_the_page_says_so(
    cli: Cli, made: Made, others: Path, tmp_path: Path
):
    run = tmp_path / "prior"
    words = *TINY_PRIOR, "prior.drop_conditioning=0.2", "-t", made.run, "-o", run
    assert cli("train-prior", made.tokens, *words).code == 0
    evaluate = "evaluate", run, others, "--samples", 20, "--features", "encoder"
    assert cli(*evaluate).code == 0
    plain = figures(run)
    pictures = run / "pictures"
    before = {path.name: path.read_bytes() for path in pictures.glob("samples-*.png")}
    drawings = (
        {"guidance": 4},
        {"temperature": 0.5, "guidance": 2},
        {"top_k": 3},
        {"top_p": 0.5},
    )
    for drawing in drawings:
        words = [(f"--{name.replace('_', '-')}", value) for name, value in drawing.items()]
        result = cli(*evaluate, *itertools.chain(*words))
        said = ", ".join(f"{name} {value}" for name, value in drawing.items())
        assert f"over 20 samples, {said}, features of encoder:" in result.out
        page = (run / "report.html").read_text()
        assert f"drawn with {said}." in page
        assert f"held out, {said}" in page
        found = figures(run)
        assert found["drawings"]["learned"] == plain["drawings"]["learned"] | drawing
        assert found["drawings"]["histogram"] == plain["drawings"]["histogram"]
        assert plain["learned"] != found["learned"]
        assert plain["histogram"] == found["histogram"]
        after = {name: (pictures / name).read_bytes() for name in before}
        assert [name for name in before if before[name] != after[name]] == [
            "samples-transformer.png"
        ]


def test_ways_to_draw_that_are_not_possible_are_refused_at_once(cli: Cli, made: Made, prior: Path):
    failure = cli("evaluate", prior, "--guidance", 2).failure
    assert failure.startswith("guidance is 2.0, but the prior never learned the codes without")
    assert cli("evaluate", prior, "--guidance", "nan").failure.startswith("guidance is nan; give 1")
    failure = cli("evaluate", made.run, "--guidance", 2).failure
    assert failure.startswith("--guidance is for the run of a prior")
    assert cli("evaluate", made.run, "--top-k", 2).failure.startswith("--top-k is for the run of")
    failure = cli("evaluate", prior, "--steps", 2).failure
    assert failure.startswith("steps is 2, but this prior draws one integer after another")
    assert cli("evaluate", prior, "--temperature", 0).failure.startswith("temperature is 0")
    assert not (prior / "metrics.json").exists()


def test_pictures_of_an_earlier_evaluation_do_not_stay(cli: Cli, prior: Path):
    assert cli("evaluate", prior, "--samples", 9).code == 0
    (prior / "pictures" / "mine.png").touch()
    assert (prior / "pictures" / "neighbors.png").exists()
    assert cli("evaluate", prior, "--samples", 0).code == 0
    assert not (prior / "pictures" / "neighbors.png").exists()
    assert (prior / "pictures" / "samples-transformer.png").exists()
    assert (prior / "pictures" / "mine.png").exists()


def test_no_samples_are_judged_when_none_are_asked_for(cli: Cli, prior: Path):
    assert cli("evaluate", prior, "--samples", 0).code == 0
    assert "generation" not in json.loads((prior / "metrics.json").read_text())
    assert "New images" not in (prior / "report.html").read_text()
    assert not (prior / "classifier").exists()


def test_a_file_of_onnx_is_a_feature_space(cli: Cli, prior: Path, others: Path, tmp_path: Path):
    from tests.evaluation.test_onnx_features import write

    path = write(tmp_path / "m.onnx", ["n", 3, 4, 4])
    assert cli("evaluate", prior, others, "--samples", 8, "--features", path).code == 0
    found = figures(prior)
    assert found["features"]["name"].startswith("m.onnx (SHA-256 ")
    assert found["features"]["dim"] == 5
    assert "m.onnx (SHA-256" in (prior / "report.html").read_text()


def test_images_without_classes_are_compared_by_the_encoder(cli: Cli, tmp_path: Path):
    images = make_images(tmp_path / "images", 60, classes=())
    run, tokens, prior = (tmp_path / name for name in ("run", "tokens", "prior"))
    data = [f"data.path={images}", "train.num_workers=0"]
    assert cli("train", "photos-64", *data, *TINY, "-o", run).code == 0
    assert cli("encode", run, images, tokens).code == 0
    assert cli("train-prior", tokens, *TINY_PRIOR, "-t", run, "-o", prior).code == 0
    assert cli("evaluate", prior, "--samples", 9).code == 0
    found = figures(prior)
    assert found["features"]["name"] == "encoder"
    assert "classes" not in found
    assert found["num_for_recall"] == 6
    failure = cli("evaluate", prior, "--samples", 9, "--features", "classifier").failure
    assert failure == (
        "--features classifier: there are not two classes to tell apart; take encoder, or a "
        "file .onnx"
    )


def test_where_the_training_images_are_gone_the_rest_is_measured(
    cli: Cli, prior: Path, others: Path
):
    config = prior / "tokenizer" / "config.yaml"
    text = config.read_text()
    (path,) = [line for line in text.splitlines() if line.strip().startswith("path:")]
    config.write_text(text.replace(path, "  path: /nowhere"))
    result = cli("evaluate", prior, others, "--samples", 9)
    assert result.code == 0, result.err
    assert result.err.startswith("without training images: /nowhere is not there")
    found = figures(prior)
    assert found["features"]["name"] == "encoder"
    assert "neighbors" not in found
    failure = cli("evaluate", prior, others, "--samples", 9, "--features", "classifier")
    assert "there are no training images of these classes" in failure.err.splitlines()[-1]


def test_images_of_other_classes_than_the_training_images_are_not_judged_by_them(
    cli: Cli, tmp_path: Path
):
    """Of a prior without classes the images may have some, which its training images lack."""
    images = make_images(tmp_path / "images", 20, classes=())
    run, tokens, prior = (tmp_path / name for name in ("run", "tokens", "prior"))
    data = [f"data.path={images}", "train.num_workers=0"]
    assert cli("train", "photos-64", *data, *TINY, "-o", run).code == 0
    assert cli("encode", run, images, tokens).code == 0
    assert cli("train-prior", tokens, *TINY_PRIOR, "-t", run, "-o", prior).code == 0
    labelled = make_images(tmp_path / "labelled", 12)
    assert cli("evaluate", prior, labelled, "--samples", 9).code == 0
    assert figures(prior)["features"]["name"] == "encoder"
    failure = cli("evaluate", prior, labelled, "--features", "classifier").failure
    assert "there are no training images of these classes" in failure


def test_a_classifier_of_other_classes_that_was_kept_is_left_alone(
    cli: Cli, made: Made, tmp_path: Path
):
    """A prior that is told no classes is judged on images of some, and then of others."""
    prior = tmp_path / "prior"
    words = *TINY_PRIOR, "tokens.labels=false", "-t", made.run, "-o", prior
    assert cli("train-prior", made.tokens, *words).code == 0
    assert cli("evaluate", prior, "--samples", 9).code == 0
    assert figures(prior)["features"]["name"] == "classifier"
    kept = (prior / "classifier" / "model.safetensors").read_bytes()
    others = make_images(tmp_path / "others", 12, classes=("red", "blue"))
    for features in ([], ["--features", "encoder"]):
        result = cli("evaluate", prior, others, "--samples", 9, *features)
        assert result.code == 0, result.err
        assert figures(prior)["features"]["name"] == "encoder"
        assert "classes" not in figures(prior)
    assert (prior / "classifier" / "model.safetensors").read_bytes() == kept


def test_a_prior_without_its_baselines_is_refused_at_once(cli: Cli, prior: Path):
    (prior / "priors.json").unlink()
    failure = cli("evaluate", prior).failure
    assert failure == (
        f"{prior} has no baselines beside the prior; run its vqkit train-prior again"
    )


@pytest.mark.parametrize(
    ("words", "failure"),
    [
        (["--features", "inception"], "--features inception: there is no such feature space; give"),
        (["--features", "none.onnx"], "--features none.onnx: there is no such file"),
    ],
)
def test_a_feature_space_that_is_not_there_is_refused_at_once(
    cli: Cli, made: Made, words: list[str], failure: str
):
    assert cli("evaluate", made.prior, *words).failure.startswith(failure)


@pytest.mark.parametrize("words", [["--samples", 5], ["--features", "encoder"]])
def test_a_tokenizer_has_no_samples(cli: Cli, made: Made, words: list[object]):
    failure = cli("evaluate", made.run, *words).failure
    assert failure == (
        f"{words[0]} is for the run of a prior, this is one of a tokenizer; leave it out"
    )


def test_what_each_held_out_image_costs_is_kept_by_name(cli: Cli, prior: Path):
    assert cli("evaluate", prior, "--samples", 0).code == 0
    lines = (prior / "likelihood.csv").read_text().splitlines()
    assert lines[0] == "id,label,dims,decoder_bits,code_bits,bits_per_dim"
    tokens, _, held_out = open_tokens(load_prior_config(prior / "config.yaml").tokens)
    names = [tokens.id(i) for i in held_out.indices]
    assert [line.split(",")[0] for line in lines[1:]] == names


def test_training_and_held_out_images_are_those_behind_the_tokens(made: Made):
    training, held_out = prior_items(made.prior, made.prior / "tokenizer", ())
    tokens, train, kept = open_tokens(load_prior_config(made.prior / "config.yaml").tokens)
    for images, part in ((training, train), (held_out, kept)):
        assert [images.id(i) for i in range(len(images))] == [tokens.id(i) for i in part.indices]
        for i in (0, len(images) - 1):
            assert images.example(i).label == part.example(i).label
            again = images.example(i, 3).x
            assert torch.equal(again, images.example(i).x)  # never augmented


def test_of_many_classes_the_page_shows_samples_of_the_first_under_their_own_names(
    made: Made, monkeypatch: pytest.MonkeyPatch
):
    names = [f"class {number}" for number in range(25)]
    drawn_as: list[list[int]] = []

    def draw(*_: object, labels: list[int]) -> torch.Tensor:
        drawn_as.append(labels)
        return torch.tensor(labels, dtype=torch.uint8).view(-1, 1, 1, 1)

    module = sys.modules["vqkit.cli.evaluate"]  # the package has the function under this name
    monkeypatch.setattr(module, "class_names", lambda *_: names)
    monkeypatch.setattr(module, "draw", draw)
    prior = Prior.from_pretrained(made.prior)
    groups = sample_groups(prior, open_tokenizer(made.run, "cpu"), made.prior, PLAIN, 16)
    assert len(groups) == len(drawn_as) == 3
    for group in groups:
        assert group.labels is not None
        assert list(group.labels) == [names[int(image)] for image in group.images.flatten()]
        assert list(dict.fromkeys(group.labels)) == names[:20]
