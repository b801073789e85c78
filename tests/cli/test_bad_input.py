"""Every fault of a user's making is one line that names the file or key and the fix."""

import json
import shutil
import struct
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.cli.conftest import Cli, Made
from tests.cli.folders import TINY, TINY_PRIOR, make_images

from vqkit.cli.sample import class_number

TRAIN = ["train", "photos-64", "train.num_workers=0", *TINY]


@pytest.fixture
def run(made: Made, tmp_path: Path) -> Path:
    """A copy of the tokenizer's run, to be spoilt."""
    return Path(shutil.copytree(made.run, tmp_path / "run"))


def huge_png() -> bytes:
    """The beginning of an image of 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def spoil(images: Path) -> list[str]:
    """Puts files that are no images among images, and returns their names."""
    whole = next((images / "cat").glob("*.png")).read_bytes()
    bad = {
        "corrupt.png": whole[:40] + b"\xff" * 40 + whole[80:],
        "cut.png": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "huge.png": huge_png(),
        "text.jpg": b"not an image\n",
    }
    for name, data in bad.items():
        (images / "cat" / name).write_bytes(data)
    return list(bad)


def test_unreadable_files_are_counted_listed_and_left_out(cli: Cli, tmp_path: Path):
    images = make_images(tmp_path / "images", 20)
    names = spoil(images)
    result = cli(*TRAIN, f"data.path={images}", "-o", tmp_path / "run")
    assert result.code == 0
    assert result.err.startswith("5 images cannot be read and are left out:\n")
    assert all(f"{images / 'cat' / name} " in result.err for name in names)
    index = json.loads((tmp_path / "run" / "index.json").read_text())
    assert len(index["unreadable"]) == 5


def test_unreadable_files_are_an_error_when_told_so(cli: Cli, tmp_path: Path):
    images = make_images(tmp_path / "images", 20)
    spoil(images)
    words = [f"data.path={images}", "data.strict=true", "-o", tmp_path / "run"]
    failure = cli(*TRAIN, *words).failure
    assert failure.startswith(f"5 of 25 items cannot be read; the first: {images / 'cat'}/corrupt")
    assert "data.strict=false" in failure
    assert not (tmp_path / "run").exists()


def test_data_that_is_not_there_or_empty_is_named(cli: Cli, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        failure = cli(*TRAIN, f"data.path={tmp_path / name}", "-o", tmp_path / "run").failure
        assert failure.startswith(f"{tmp_path / name} ")
        assert not (tmp_path / "run").exists()


def test_images_smaller_than_a_code_are_refused_before_training(cli: Cli, tmp_path: Path):
    (tmp_path / "images").mkdir()
    for i in range(12):
        Image.new("RGB", (2, 2), (i, i, i)).save(tmp_path / "images" / f"{i}.png")
    words = [f"data.path={tmp_path / 'images'}", "data.size=null", "-o", tmp_path / "run"]
    failure = cli(*TRAIN, *words).failure
    assert failure.startswith("the images are 2 x 2 pixels, but one code stands for 4 x 4; resize")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["column", "label_column"])
def test_a_wrong_column_names_those_there_are(cli: Cli, made: Made, tmp_path: Path, key: str):
    files = sorted(made.images.rglob("*.png"))
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
    pq.write_table(pa.table({"img": images, "label": [0] * len(files)}), tmp_path / "a.parquet")
    words = [f"data.path={tmp_path / 'a.parquet'}", f"data.{key}=picture"]
    failure = cli(*TRAIN, *words, "-o", tmp_path / "run").failure
    assert failure.startswith(f"{key} is 'picture', but {tmp_path / 'a.parquet'} has the columns")
    assert "img, label" in failure


def test_more_entries_than_vectors_are_refused(cli: Cli, made: Made, tmp_path: Path):
    words = [f"data.path={made.images}", "model.quantizer.codebook_size=4096"]
    failure = cli(*TRAIN, *words, "-o", tmp_path / "run").failure
    assert failure.startswith("codebook_size is 4096, but there are ")
    assert "lower codebook_size" in failure
    assert not (tmp_path / "run").exists()


def test_a_typo_in_the_config_names_file_line_and_key(cli: Cli, tmp_path: Path):
    (tmp_path / "run.yaml").write_text("preset: digits\nmodel:\n  quantizer:\n    dekay: 0.9\n")
    failure = cli("train", tmp_path / "run.yaml", "-o", tmp_path / "run").failure
    hint = "did you mean model.quantizer.decay?"
    assert failure == f"{tmp_path}/run.yaml:4: model.quantizer.dekay: there is no such key; {hint}"


def test_a_preset_that_needs_data_says_so(cli: Cli):
    assert cli("train", "cifar10").failure == "data.path is missing; write data.path=FOLDER"


def test_a_run_of_another_version_is_named(cli: Cli, run: Path):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    failure = cli("evaluate", run).failure
    assert failure.startswith(f"{run / 'config.json'}: format_version is 99, this vqkit reads 1;")


def test_a_run_folder_that_is_not_there_is_named(cli: Cli, tmp_path: Path):
    fault = f"{tmp_path / 'run'}: there is no such run folder; "
    assert cli("evaluate", tmp_path / "run").failure == fault + "vqkit train makes them"
    found = cli("sample", tmp_path / "run", "-o", tmp_path / "out").failure
    assert found == fault + "vqkit train-prior makes them"


def test_a_model_cut_in_half_is_named(cli: Cli, run: Path):
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    assert cli("evaluate", run).failure.startswith(f"{weights} is cut or damaged")


def test_a_checkpoint_cut_in_half_is_passed_over_for_the_one_before(
    cli: Cli, made: Made, run: Path
):
    last = sorted((run / "checkpoints").iterdir())[-1]
    for file in last.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    result = cli(*TRAIN, f"data.path={made.images}", "train.steps=6", "-o", run)
    assert result.code == 0
    assert "going on from step 2" in result.err


def test_a_run_without_model_and_whole_checkpoint_begins_anew_and_says_so(
    cli: Cli, made: Made, run: Path
):
    for name in ("model.safetensors", "finished.json"):
        (run / name).unlink()
    for file in (run / "checkpoints").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    result = cli(*TRAIN, f"data.path={made.images}", "-o", run)
    assert result.code == 0
    assert f"{run} has no whole checkpoint: training begins anew" in result.err
    steps = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert steps == ["step-00000002", "step-00000004"]


def test_a_run_without_any_whole_checkpoint_says_what_to_do(cli: Cli, made: Made, run: Path):
    for file in (run / "checkpoints").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    result = cli(*TRAIN, f"data.path={made.images}", "train.steps=6", "-o", run)
    assert result.code == 1
    assert "Traceback" not in result.err
    assert str(run) in result.err.splitlines()[-1]
    assert result.err.splitlines()[-1].endswith("train in a new folder")


@pytest.mark.parametrize("command", ["decode", "train-prior", "encode"])
def test_tokens_of_another_tokenizer_are_refused(
    cli: Cli, made: Made, tmp_path: Path, command: str
):
    other, out = tmp_path / "other", tmp_path / "out"
    words = [f"data.path={made.images}", "train.seed=1", "-o", other]
    assert cli(*TRAIN, *words).code == 0
    failure = {
        "decode": lambda: cli("decode", other, made.tokens, out),
        "train-prior": lambda: cli("train-prior", made.tokens, *TINY_PRIOR, "-t", other, "-o", out),
        "encode": lambda: cli("encode", other, made.images, made.tokens),
    }[command]().failure
    assert str(made.tokens) in failure
    assert "tokenizer" in failure
    assert not out.exists()


def test_another_tokenizer_for_a_prior_that_is_trained_is_refused(
    cli: Cli, made: Made, tmp_path: Path
):
    other, prior = tmp_path / "other", shutil.copytree(made.prior, tmp_path / "prior")
    assert cli(*TRAIN, f"data.path={made.images}", "train.seed=1", "-o", other).code == 0
    words = "train-prior", made.tokens, *TINY_PRIOR, "-o", prior
    assert "tokenizer" in cli(*words, "-t", other).failure
    assert cli(*words, "-t", made.run).code == 0


def test_a_prior_without_its_tokenizer_asks_for_it(cli: Cli, made: Made, tmp_path: Path):
    failure = cli("train-prior", made.tokens, *TINY_PRIOR, "-o", tmp_path / "prior").failure
    assert failure == "--tokenizer is missing; give the run folder that made the tokens"


def test_a_folder_without_tokens_is_named(cli: Cli, made: Made, tmp_path: Path):
    words = [*TINY_PRIOR, "-t", made.run, "-o", tmp_path / "prior"]
    failure = cli("train-prior", made.images, *words).failure
    assert failure.startswith(f"{made.images} holds no tokens-*.parquet; ")


def test_data_changed_since_the_run_began_are_refused(cli: Cli, tmp_path: Path):
    images = make_images(tmp_path / "images", 20)
    words = [*TRAIN, f"data.path={images}", "-o", tmp_path / "run"]
    assert cli(*words).code == 0
    shutil.copy(images / "cat" / "000.png", images / "cat" / "new.png")
    for again in ([*words, "train.steps=6"], ["evaluate", tmp_path / "run"]):
        failure = cli(*again).failure
        assert failure.startswith(f"data changed since the run began: {images} had 20 items")


def test_another_config_in_the_same_folder_names_the_key(cli: Cli, made: Made, run: Path):
    words = [f"data.path={made.images}", "train.learning_rate=0.5", "-o", run]
    failure = cli(*TRAIN, *words).failure
    fault = "train.learning_rate is 0.001, you asked for 0.5"
    assert failure.startswith(f"{run / 'config.yaml'}: {fault}; set it back, or choose another")


@pytest.mark.parametrize("num", ["0", "-3", "many"])
def test_a_number_of_images_below_one_is_wrong_usage(
    cli: Cli, made: Made, tmp_path: Path, num: str
):
    result = cli("sample", made.prior, "-n", num, "-o", tmp_path / "out")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "'--num' / '-n'" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--temperature", "0"],
            "temperature is 0.0; give a number greater than 0 (top_p 0 draws the most probable "
            "alone)",
        ),
        (
            ["--top-p", "2"],
            "top_p is 2.0; give 0 (the most probable alone) to 1 (all), or leave it out",
        ),
        (["--class", "bird"], "--class bird: there is no such class; there are cat, dog"),
        (["--class", "2"], "--class 2: there is no such class; there are cat, dog"),
        (["--device", "tpu"], "--device tpu is not on this machine; give auto or cpu"),
    ],
)
def test_a_wrong_option_of_sampling_is_named(
    cli: Cli, made: Made, tmp_path: Path, words: list[str], message: str
):
    assert cli("sample", made.prior, "-o", tmp_path / "out", *words).failure == message


def test_the_folder_of_the_other_model_is_named(cli: Cli, made: Made, tmp_path: Path):
    assert "give the folder of a prior" in cli("sample", made.run, "-o", tmp_path / "a").failure
    assert "give a tokenizer" in cli("encode", made.prior, made.images, tmp_path / "a").failure


def test_a_prior_with_classes_is_judged_by_images_with_the_same_classes(
    cli: Cli, made: Made, tmp_path: Path
):
    make_images(tmp_path / "bare", 4, classes=())
    make_images(tmp_path / "others", 4, classes=("dog", "fox"))
    failure = cli("evaluate", made.prior, tmp_path / "bare").failure
    assert failure.startswith(f"{tmp_path / 'bare'} has no classes, the prior cat, dog; put")
    failure = cli("evaluate", made.prior, tmp_path / "others").failure
    assert failure.startswith(f"{tmp_path / 'others'} has classes dog, fox, the prior cat, dog;")


def test_only_keys_of_the_data_may_change_after_training(cli: Cli, made: Made, tmp_path: Path):
    failure = cli("encode", made.run, made.images, tmp_path / "out", "train.steps=1").failure
    assert failure == "train.steps=1: the run is trained; only keys of data may be set here"


@pytest.mark.parametrize("key", ["data.path", "data.eval_path"])
def test_data_that_are_named_twice_are_refused(cli: Cli, made: Made, tmp_path: Path, key: str):
    for command in (
        ["encode", made.run, made.images, tmp_path / "out"],
        ["evaluate", made.run, "x"],
    ):
        failure = cli(*command, f"{key}=y").failure
        assert failure == f"{key}=y: DATA is {command[2]} already; leave one of them out"


def test_tokens_that_are_named_twice_are_refused(cli: Cli, made: Made, tmp_path: Path):
    words = [*TINY_PRIOR, "tokens.path=foo", "-t", made.run, "-o", tmp_path / "prior"]
    failure = cli("train-prior", made.tokens, *words).failure
    assert failure == f"tokens.path=foo: TOKENS is {made.tokens} already; leave one of them out"
    assert not (tmp_path / "prior").exists()


def test_a_number_is_no_class_where_the_classes_are_called_by_numbers():
    assert class_number("4", ["1", "2", "4"]) == 2
    assert class_number("0", ["cat", "dog"]) == 0
    with pytest.raises(ValueError, match="--class 0: there is no such class; there are 1, 2, 4"):
        class_number("0", ["1", "2", "4"])
