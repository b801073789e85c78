"""The command line, one file per command; nothing heavy is imported before a command runs."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from vqkit.cli.complete import complete
from vqkit.cli.config import config
from vqkit.cli.decode import decode
from vqkit.cli.demo import demo
from vqkit.cli.encode import encode
from vqkit.cli.evaluate import evaluate
from vqkit.cli.export import export
from vqkit.cli.failures import guarded
from vqkit.cli.ids import ids
from vqkit.cli.inspect import inspect
from vqkit.cli.presets import presets
from vqkit.cli.probe import probe
from vqkit.cli.sample import sample
from vqkit.cli.train import train
from vqkit.cli.train_prior import train_prior

__all__ = ["app", "main"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _command in {
    "demo": demo,
    "train": train,
    "evaluate": evaluate,
    "inspect": inspect,
    "probe": probe,
    "encode": encode,
    "decode": decode,
    "export": export,
    "ids": ids,
    "train-prior": train_prior,
    "sample": sample,
    "complete": complete,
    "config": config,
    "presets": presets,
}.items():
    app.command(_name)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"vqkit {version('vqkit')}")
        raise typer.Exit


@app.callback()
def _vqkit(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Discrete codes of images, sound, text, video and vectors, priors over them, new items."""


def run(words: Sequence[str]) -> int | None:
    """Runs the words after ``vqkit``; raises whatever goes wrong."""
    return app(list(words), prog_name="vqkit", standalone_mode=False)


def main() -> None:
    """The entry point ``vqkit``."""
    sys.exit(guarded(run, sys.argv[1:]))
