"""``vqkit train``: trains a tokenizer, or goes on with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqkit.cli.beginning import keep_config, training_in
from vqkit.cli.options import Words
from vqkit.cli.runs import say_unreadable
from vqkit.cli.wording import command

if TYPE_CHECKING:
    from vqkit.config import RunConfig

Source = Annotated[
    str, typer.Argument(metavar="PRESET|CONFIG.yaml", help="What to train; see vqkit presets.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The run folder; runs/NAME when left out.")
]


def train(source: Source, words: Words = None, out: Out = None) -> None:
    """Train a tokenizer. The same command again goes on where it was stopped.

    Example: vqkit train photos-64 data.path=photos -o runs/photos
    """
    from vqkit.config import load_config
    from vqkit.distributed import is_main

    config = load_config(source, words or ())
    folder = out or Path("runs") / Path(source).stem
    train_tokenizer(config, folder)
    if is_main():
        print(f"trained: {folder}")
        print(f"  {command('evaluate', folder)}              figures, pictures and a report")
        print(f"  {command('inspect', folder)}               the health of its codebook")
        print(f"  {command('encode', folder, 'DATA', 'TOKENS')}    a token data set, for a prior")


def train_tokenizer(config: "RunConfig", folder: Path) -> None:
    """Trains the tokenizer of a config in a run folder, or goes on with it."""
    import torch

    from vqkit.autoencoder import VQVAE
    from vqkit.data import collate
    from vqkit.training import fit, join_processes
    from vqkit.training.runtime import on_main

    join_processes(cpu=config.train.device == "cpu")
    with training_in(folder, config):
        items = config.data.open(folder=folder)
        say_unreadable(items.unreadable, config.data.kind)
        torch.manual_seed(config.train.seed)
        first = collate([items.train.example(0, config.train.seed)], [0])
        model = VQVAE.from_config(config.model.fitted(first.x.shape[1:]))
        model.encode(first.x, first.mask)  # a wrong size shows at once
        on_main(lambda: keep_config(folder, config))
        fit(model, items.train, config.train, folder=folder, eval_examples=items.evaluation)
