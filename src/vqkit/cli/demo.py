"""``vqkit demo``: the whole path on real handwritten digits."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from vqkit.cli.drawing import SHEET
from vqkit.cli.encode import encode_items, summary
from vqkit.cli.evaluate import evaluate
from vqkit.cli.runs import items_of, open_tokenizer
from vqkit.cli.sample import sample
from vqkit.cli.train import train_tokenizer
from vqkit.cli.train_prior import print_nats, train_prior_run

PER_CLASS, SAMPLES = 10, 500

Out = Annotated[Path, typer.Option("--out", "-o", help="The folder of all that the demo makes.")]


def demo(out: Out = Path("demo")) -> None:
    """Learn codes of handwritten digits, model them, and draw new digits: under 3 minutes.

    The digits come with scikit-learn; nothing is downloaded. The same command again goes on where
    it was stopped; to start anew, remove the folder.
    """
    from vqkit.config import load_config, load_prior_config

    began = time.monotonic()
    tokenizer, tokens, prior, samples = (
        out / name for name in ("tokenizer", "tokens", "prior", "samples")
    )
    title(1, "a tokenizer learns to write a digit as 16 codes")
    train_tokenizer(load_config("digits"), tokenizer)
    title(2, "how good it is on digits that it has not seen")
    evaluate(tokenizer)
    title(3, "all digits as tokens")
    digits = items_of(tokenizer, "digits")
    print(summary(encode_items(open_tokenizer(tokenizer, "auto"), digits, tokens)))
    title(4, "a prior learns which codes make which digit")
    config = load_prior_config("prior-digits", [f"tokens.path={json.dumps(str(tokens))}"])
    print_nats(train_prior_run(config, prior, tokenizer))
    title(5, "new digits, each row one class")
    sample(prior, samples, num=10 * PER_CLASS, temperature=0.8, compare=True, force=True)
    evaluate(prior, samples=SAMPLES)
    print(f"\ndone in {time.monotonic() - began:.0f} s. Look at")
    print(f"  {samples / SHEET}: codes drawn evenly, by frequency, and by the prior")
    print(f"  {tokenizer / 'report.html'}: originals beside reconstructions, and the codebook")
    print(f"  {prior / 'report.html'}: samples of every class, and what codes cost")


def title(number: int, text: str) -> None:
    """Says which of the five steps begins."""
    print(f"\n[{number}/5] {text}", flush=True)
