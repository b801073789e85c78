"""A tiny tokenizer, its tokens and a prior, made once by the commands themselves."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.folders import TINY, TINY_PRIOR, make_images

from vqkit.cli import run
from vqkit.cli.failures import guarded


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def failure(self) -> str:
        """The one line of a failed command."""
        assert self.code == 1, self
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("vqkit: "), self.err
        assert "a bug in vqkit" not in self.err
        return self.err.removeprefix("vqkit: ").rstrip("\n")


Cli = Callable[..., Result]


@dataclass(frozen=True)
class Made:
    images: Path
    run: Path
    tokens: Path
    prior: Path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs the words after ``vqkit`` in this process."""

    def call(*words: object) -> Result:
        capsys.readouterr()
        code = guarded(run, [str(word) for word in words])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Images with two classes, a tokenizer of them, their tokens, and a prior of those."""
    home = tmp_path_factory.mktemp("made")
    found = Made(home / "images", home / "run", home / "tokens", home / "prior")
    make_images(found.images, 20)
    data = f"data.path={found.images}"
    for words in (
        ["train", "photos-64", data, "train.num_workers=0", *TINY, "-o", found.run],
        ["encode", found.run, found.images, found.tokens, "--batch-size", "8"],
        ["train-prior", found.tokens, *TINY_PRIOR, "-t", found.run, "-o", found.prior],
    ):
        assert guarded(run, [str(word) for word in words]) == 0
    return found
