"""The whole path by commands, from a folder of images to new images."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli.conftest import Cli, Made
from tests.cli.folders import TINY, TINY_PRIOR, make_images

from vqkit.autoencoder import VQVAE
from vqkit.config import load_config, load_prior_config
from vqkit.modalities.image.pictures import to_uint8
from vqkit.priors import Prior
from vqkit.storage import fingerprint
from vqkit.tokens import TokenSet


def pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.png") if path.name != "contact-sheet.png")


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_run_folder_opens_from_python_and_says_how_it_was_made(made: Made):
    assert isinstance(VQVAE.from_pretrained(made.run), VQVAE)
    config = load_config(made.run / "config.yaml")
    assert config.data.path == str(made.images)
    assert config.train.steps == 4
    assert (made.run / "metrics.jsonl").is_file()


def test_a_trained_run_says_what_to_do_next(cli: Cli, made: Made, tmp_path: Path):
    words = ["train", "photos-64", f"data.path={made.images}", "train.num_workers=0", *TINY]
    result = cli(*words, "-o", tmp_path / "run")
    assert result.code == 0
    assert result.out.startswith(f"trained: {tmp_path / 'run'}\n")
    assert f"vqkit evaluate {tmp_path / 'run'}" in result.out


def test_the_same_command_again_goes_on_and_more_steps_are_taken(
    cli: Cli, made: Made, tmp_path: Path
):
    words = ["train", "photos-64", f"data.path={made.images}", "train.num_workers=0", *TINY]
    assert cli(*words, "-o", tmp_path / "run").code == 0
    before = VQVAE.from_pretrained(tmp_path / "run").fingerprint()
    assert cli(*words, "-o", tmp_path / "run").code == 0
    assert VQVAE.from_pretrained(tmp_path / "run").fingerprint() == before
    result = cli(*words, "train.steps=6", "-o", tmp_path / "run")
    assert result.code == 0
    assert "going on from step 4" in result.err
    assert load_config(tmp_path / "run" / "config.yaml").train.steps == 6


def test_fewer_steps_change_nothing_of_a_finished_run(cli: Cli, made: Made, tmp_path: Path):
    words = ["train", "photos-64", f"data.path={made.images}", "train.num_workers=0", *TINY]
    assert cli(*words, "-o", tmp_path / "run").code == 0
    for command, folder in (
        (words, tmp_path / "run"),
        (["train-prior", made.tokens, *TINY_PRIOR], made.prior),
    ):
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.suffix in (".yaml", ".json")}
        result = cli(*command, "train.steps=1", "train.log_every=7", "-o", folder)
        assert result.code == 0, result.err
        assert "is finished at step" in result.err
        after = {p: p.read_bytes() for p in folder.rglob("*") if p.suffix in (".yaml", ".json")}
        assert after == before


def test_the_run_folder_is_named_after_the_config_when_none_is_given(
    cli: Cli, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(f"preset: photos-64\ndata: {{path: {made.images}}}\n")
    assert cli("train", "mine.yaml", "train.num_workers=0", *TINY).code == 0
    assert (tmp_path / "runs" / "mine" / "model.safetensors").is_file()


def test_evaluating_writes_figures_pictures_and_a_page(cli: Cli, made: Made):
    result = cli("evaluate", made.run)
    assert result.code == 0
    assert "over 2 images, held-out:" in result.out
    assert f"report: {made.run / 'report.html'}" in result.out
    assert json.loads((made.run / "metrics.json").read_text())["num_items"] == 2
    assert (made.run / "report.html").is_file()
    assert (made.run / "pictures" / "reconstructions.png").is_file()


def test_evaluating_other_data_reads_all_of_it(cli: Cli, made: Made, tmp_path: Path):
    make_images(tmp_path / "others", 5)
    result = cli("evaluate", made.run, tmp_path / "others")
    assert f"over 5 images, {tmp_path / 'others'}:" in result.out


def test_evaluating_a_prior_shows_its_samples_and_what_codes_cost_under_it(cli: Cli, made: Made):
    result = cli("evaluate", made.prior)
    assert result.code == 0
    assert "nats per token, this prior" in result.out
    page = (made.prior / "report.html").read_text()
    assert "cat" in page
    assert "Samples" in page
    # The images behind the tokens that were held out, and no others.
    figures = json.loads((made.prior / "metrics.json").read_text())
    kept = json.loads((made.prior / "priors.json").read_text())
    assert figures["num_items"] == kept["num_items"]
    assert figures["nats_per_token_prior"] == pytest.approx(kept["nats_per_token"]["transformer"])


def test_inspecting_tells_the_use_of_the_codebook(cli: Cli, made: Made):
    result = cli("inspect", made.run, made.images)
    assert result.code == 0
    assert "over 20 images" in result.out
    assert "of 8 entries" in result.out
    assert "health: " in result.out
    found = json.loads(cli("inspect", made.run, made.images, "--json").out)
    assert found["codebooks"][0]["num_vectors"] == 20 * 4


def test_too_few_vectors_are_no_ground_for_a_judgement(cli: Cli, made: Made):
    assert "8 vectors are too few to judge 8 entries" in cli("inspect", made.run).out


def test_tokens_are_the_models_own_codes(made: Made):
    tokens = TokenSet.open(made.tokens)
    assert tokens.labels == ("cat", "dog")
    assert len(tokens) == 20
    assert tokens.tokenizer == VQVAE.from_pretrained(made.run).fingerprint()


def test_encoding_and_decoding_give_the_models_own_reconstruction_bit_for_bit(
    cli: Cli, made: Made, tmp_path: Path
):
    from vqkit.data import in_order
    from vqkit.modalities.image.data import open_all_images

    assert cli("decode", made.run, made.tokens, tmp_path / "out", "--batch-size", 8).code == 0
    model = VQVAE.from_pretrained(made.run)
    examples, _ = open_all_images(load_config(made.run / "config.yaml").data)
    written = pictures(tmp_path / "out")
    assert [p.relative_to(tmp_path / "out").as_posix() for p in written] == [
        examples.id(i) for i in range(20)
    ]
    batch = next(in_order(examples, 8))
    expected = to_uint8(model.decode(model.encode(batch.x))).permute(0, 2, 3, 1).numpy()
    found = np.stack([read(path) for path in written[:8]])
    np.testing.assert_array_equal(found, expected)


def test_encoding_again_keeps_what_is_there(cli: Cli, made: Made):
    before = {p.name: p.stat().st_mtime_ns for p in made.tokens.iterdir()}
    result = cli("encode", made.run, made.images, made.tokens, "--batch-size", 8)
    assert result.code == 0
    assert f"20 items of 4 tokens each: {made.tokens}" in result.out
    assert {p.name: p.stat().st_mtime_ns for p in made.tokens.iterdir()} == before


def test_a_priors_run_carries_its_tokenizer(made: Made):
    kept = VQVAE.from_pretrained(made.prior / "tokenizer")
    assert kept.fingerprint() == VQVAE.from_pretrained(made.run).fingerprint()
    assert Prior.from_pretrained(made.prior).num_classes == 2
    assert load_prior_config(made.prior / "config.yaml").tokens.path == str(made.tokens)


def test_another_tokenizer_in_the_run_of_a_prior_is_refused(cli: Cli, made: Made, tmp_path: Path):
    run = shutil.copytree(made.prior, tmp_path / "prior")
    model = VQVAE.from_pretrained(run / "tokenizer")
    with torch.no_grad():
        next(model.parameters()).add_(1)
    model.save_pretrained(run / "tokenizer")
    for words in (
        ["sample", run, "-o", tmp_path / "out"],
        ["complete", run, made.images, "-o", tmp_path / "out"],
        ["evaluate", run],
    ):
        assert "was trained on tokens of" in cli(*words).failure
    assert not (tmp_path / "out").exists()


def test_names_of_other_classes_are_refused(cli: Cli, made: Made, tmp_path: Path):
    run = shutil.copytree(made.prior, tmp_path / "prior")
    (run / "classes.json").write_text('["one"]')
    failure = cli("sample", run, "-o", tmp_path / "out").failure
    assert "classes.json does not name the 2 classes" in failure


def test_tokens_to_judge_by_are_not_those_that_are_learned_from(
    cli: Cli, made: Made, tmp_path: Path
):
    words = [*TINY_PRIOR, f"tokens.eval_path={made.tokens}", "-t", made.run]
    failure = cli("train-prior", made.tokens, *words, "-o", tmp_path / "prior").failure
    assert "are tokens of the same data" in failure
    assert not (tmp_path / "prior").exists()


def test_training_a_prior_shows_the_baselines_beside_it_and_resumes_without_the_tokenizer(
    cli: Cli, made: Made
):
    result = cli("train-prior", made.tokens, *TINY_PRIOR, "-o", made.prior)
    assert result.code == 0
    names = [line.split()[0] for line in result.out.splitlines()[1:4]]
    assert names == ["uniform", "histogram", "transformer"]
    assert float(result.out.splitlines()[1].split()[1]) == pytest.approx(np.log(8), abs=1e-4)


def test_a_preset_for_priors_comes_before_the_words(cli: Cli, made: Made, tmp_path: Path):
    words = ["prior-digits", *TINY_PRIOR, "-t", made.run, "-o", tmp_path / "prior"]
    assert cli("train-prior", made.tokens, *words).code == 0
    assert load_prior_config(tmp_path / "prior" / "config.yaml").prior.dropout == 0.2


@pytest.mark.parametrize(
    ("preset", "words"),
    [("prior-ngram", []), ("prior-mixture", ["prior.components=3", "prior.draws=50"])],
)
def test_priors_made_in_one_pass_are_trained_found_finished_and_drawn_from(
    cli: Cli, made: Made, tmp_path: Path, preset: str, words: list[str]
):
    folder = tmp_path / "prior"
    command = ["train-prior", made.tokens, preset, *words, "train.device=cpu"]
    result = cli(*command, "-t", made.run, "-o", folder)
    assert result.code == 0, result.err
    names = [line.split()[0] for line in result.out.splitlines()[1:4]]
    assert names == ["uniform", "histogram", preset.removeprefix("prior-")]
    before = fingerprint(Prior.from_pretrained(folder))
    again = cli(*command, "-o", folder)  # its tokenizer is kept beside it
    assert again.code == 0, again.err
    assert "is finished" in again.err
    assert again.out == result.out
    assert fingerprint(Prior.from_pretrained(folder)) == before
    assert cli("sample", folder, "-n", 3, "-o", tmp_path / "out").code == 0
    assert len(pictures(tmp_path / "out")) == 3


def test_a_mixture_without_scikit_learn_names_the_extra_in_one_line(
    cli: Cli, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    words = ["prior-mixture", "train.device=cpu", "-t", made.run, "-o", tmp_path / "prior"]
    result = cli("train-prior", made.tokens, *words)
    assert result.failure == 'the mixture prior needs scikit-learn; pip install "vqkit[mixture]"'


def test_sampling_writes_numbered_images_and_a_contact_sheet(cli: Cli, made: Made, tmp_path: Path):
    result = cli("sample", made.prior, "-n", 5, "-o", tmp_path / "out")
    assert result.code == 0
    assert f"5 images: {tmp_path / 'out'}" in result.out
    assert [p.name for p in pictures(tmp_path / "out")] == [f"{i:04d}.png" for i in range(5)]
    assert (tmp_path / "out" / "contact-sheet.png").is_file()
    record = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert record["labels"] == [0, 1, 0, 1, 0]
    assert record["classes"] == ["cat", "dog"]


def test_one_class_may_be_asked_for_by_name_or_number(cli: Cli, made: Made, tmp_path: Path):
    for name, words in {"a": ["--class", "dog"], "b": ["--class", "1"]}.items():
        assert cli("sample", made.prior, "-n", 3, *words, "-o", tmp_path / name).code == 0
    a, b = ([read(p) for p in pictures(tmp_path / name)] for name in "ab")
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    assert json.loads((tmp_path / "a" / "samples.json").read_text())["labels"] == [1, 1, 1]


def test_comparing_draws_from_the_baselines_too(cli: Cli, made: Made, tmp_path: Path):
    words = ["-n", 3, "--compare", "--temperature", 0.5, "--top-k", 2, "--top-p", 0.9]
    assert cli("sample", made.prior, *words, "-o", tmp_path / "out").code == 0
    for name in ("uniform", "histogram", "learned"):
        assert len(pictures(tmp_path / "out" / name)) == 3
    with Image.open(tmp_path / "out" / "contact-sheet.png") as sheet:
        assert sheet.width > sheet.height


def test_samples_are_replaced_only_when_told(cli: Cli, made: Made, tmp_path: Path):
    assert cli("sample", made.prior, "-n", 3, "-o", tmp_path / "out").code == 0
    again = cli("sample", made.prior, "-n", 2, "-o", tmp_path / "out")
    assert again.failure.endswith("holds samples; choose another folder with -o, or add --force")
    assert len(pictures(tmp_path / "out")) == 3
    assert cli("sample", made.prior, "-n", 2, "-o", tmp_path / "out", "--force").code == 0
    assert len(pictures(tmp_path / "out")) == 2


def test_unlabelled_images_make_a_prior_without_classes(cli: Cli, tmp_path: Path):
    images = make_images(tmp_path / "images", 20, classes=())
    run, tokens, prior = (tmp_path / name for name in ("run", "tokens", "prior"))
    data = [f"data.path={images}", "train.num_workers=0"]
    assert cli("train", "photos-64", *data, *TINY, "-o", run).code == 0
    assert cli("encode", run, images, tokens).code == 0
    assert cli("train-prior", tokens, *TINY_PRIOR, "-t", run, "-o", prior).code == 0
    assert cli("sample", prior, "-n", 3, "-o", tmp_path / "out", "--compare").code == 0
    assert cli("evaluate", prior).code == 0
    found = cli("sample", prior, "-n", 3, "-o", tmp_path / "other", "--class", "cat")
    assert found.failure == "--class cat: the prior was trained without classes; leave it out"
