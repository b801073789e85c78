"""What commands say is grammar, and can be typed back."""

import shlex
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Made
from tests.cli.folders import TINY, TINY_PRIOR, make_images

from vqkit.cli.wording import command, counted


def suggestions(text: str) -> list[list[str]]:
    """The words of the commands that a result ends with, as a shell reads them."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("  vqkit")]
    return [shlex.split(line.rpartition("    ")[0]) for line in lines]


def test_a_command_is_read_back_by_a_shell():
    words = ["encode", Path("my runs/a"), "it's", "$HOME", "-n", "64"]
    assert shlex.split(command(*words)) == ["vqkit", *map(str, words)]
    assert command("train", "runs/a-1_b.c") == "vqkit train runs/a-1_b.c"


@pytest.mark.parametrize(("num", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images")])
def test_one_thing_is_no_plural(num: int, text: str):
    assert counted(num, "image") == text


def test_the_next_steps_can_be_typed_whatever_the_folders_are_called(
    cli: Cli, made: Made, tmp_path: Path
):
    run, tokens, prior = (str(tmp_path / f"my {name}") for name in ("run", "tokens", "prior"))
    data = [f"data.path={made.images}", "train.num_workers=0"]
    found = cli("train", "photos-64", *data, *TINY, "-o", run)
    assert suggestions(found.out)[-1] == ["vqkit", "encode", run, "DATA", "TOKENS"]
    found = cli("encode", run, made.images, tokens)
    assert suggestions(found.out) == [
        ["vqkit", "train-prior", tokens, "prior-small", "--tokenizer", run]
    ]
    found = cli("train-prior", tokens, *TINY_PRIOR, "-t", run, "-o", prior)
    assert suggestions(found.out) == [["vqkit", "sample", prior, "-n", "64", "-o", "samples"]]


def test_one_image_is_spoken_of_as_one(cli: Cli, made: Made, tmp_path: Path):
    images = make_images(tmp_path / "images", 1)
    (images / "cat" / "cut.png").write_bytes(b"no image")
    found = cli("evaluate", made.run, images)
    assert found.err.startswith("1 image cannot be read and is left out:\n")
    assert found.out.startswith("over 1 image, ")
    assert cli("inspect", made.run, images).out.startswith(f"{made.run}, over 1 image:\n")
    assert cli("encode", made.run, images, tmp_path / "t").out.startswith("1 item of 4 tokens each")
    assert cli("decode", made.run, tmp_path / "t", tmp_path / "d").out.startswith("1 image: ")
    assert cli("sample", made.prior, "-n", 1, "-o", tmp_path / "s").out.startswith("1 image: ")
