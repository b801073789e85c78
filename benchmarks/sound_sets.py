"""Sound of other kinds and rates, end to end: what a few minutes of training give at each bit rate.

Run: python benchmarks/sound_sets.py FOLDER [KEY=VALUE ...] [--rows NAME ...] [--work FOLDER]

FOLDER holds the folders esc10 (44.1 kHz, sounds of ten kinds) and ljspeech (22.05 kHz, one voice),
with train-*.parquet and test-*.parquet. The preset audio-speech is trained at the rate of each, and
measured over all test recordings, from one stage to all. Minutes are of process CPU time on one
thread. Rows that are done are kept in a file and not run again.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from cifar10_runs import kept
from measuring import commit, heading, in_own_process

from vqkit.cli.runs import open_tokenizer
from vqkit.cli.train import train_tokenizer
from vqkit.config import load_config
from vqkit.evaluation import evaluate, write_report

ESC10 = (
    "data.sample_rate=44100",
    "model.sample_rate=44100",
    "model.network.patch=4",
    "model.network.strides=[4,4,8]",
    "data.crop_s=0.6",
)
LJSPEECH = ("data.sample_rate=22050", "model.sample_rate=22050")
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "esc10": ("esc10", ESC10),
    "ljspeech": ("ljspeech", LJSPEECH),
}
"""The folder of each row, and what is changed in the preset."""
SHORT = ("train.steps=1000", "train.batch_size=8", "train.warmup_steps=50")
SHORT += ("train.learning_rate=1e-3", "train.device=cpu", "train.progress=lines")
SHORT += ("train.log_every=100", "train.eval_every=500")
FIGURES = ("si_sdr_db", "mel_distance_db", "stft_distance_db", "log_spectral_distance_db")
CACHE = Path(__file__).parent / "results" / "sound-sets.jsonl"


def measured(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Trains a tokenizer and measures it."""
    torch.set_num_threads(1)
    folder, own = ROWS[name]
    home, start = options.work / name.replace(", ", "-"), time.process_time()
    path = f"data.path={options.folder / folder}", f"train.seed={options.seed}"
    config = load_config("audio-speech", [*SHORT, *own, *path, *options.words])
    train_tokenizer(config, home)
    minutes = (time.process_time() - start) / 60
    model, items = open_tokenizer(home, "cpu"), config.data.open(folder=home)
    found = evaluate(model, items.evaluation, batch_size=8)
    write_report(home, found, title=name)
    keys = ("stages", "kbps", *FIGURES)
    return {
        "stages": [{key: row[key] for key in keys} for row in found.metrics["stages"]],
        "perplexity": [book.perplexity for book in found.stats[0]],
        "num_items": found.metrics["num_items"],
        "steps": config.train.steps,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "minutes": minutes,
        "commit": commit(),
    }


def row_of(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """What was measured of a row; run now if it is not kept."""
    key = {"row": name, "seed": options.seed, "words": options.words}
    row = kept(options.cache, key)
    if row is None:
        words = "--one", name, "--seed", options.seed, "--work", options.work
        said = in_own_process(options.folder, *options.words, *words)
        row = key | json.loads(said.splitlines()[-1])
        options.cache.parent.mkdir(parents=True, exist_ok=True)
        with options.cache.open("a") as file:
            file.write(json.dumps(row) + "\n")
    return row


def show(name: str, row: dict[str, Any]) -> None:
    """Prints the table of a row."""
    print(
        f"{name}: {row['steps']:,} steps, {row['parameters']:,} parameters, {row['minutes']:.1f} "
        f"CPU minutes, over {row['num_items']} recordings, at {row['commit']}"
    )
    print("stages   kbit/s   SI-SDR   mel dB   STFT dB   log-spectral dB   perplexity")
    for stage, even in zip(row["stages"], row["perplexity"], strict=True):
        print(
            f"{stage['stages']:>6} {stage['kbps']:>8.2f} {stage['si_sdr_db']:>8.2f} "
            f"{stage['mel_distance_db']:>8.2f} {stage['stft_distance_db']:>9.2f} "
            f"{stage['log_spectral_distance_db']:>17.2f} {even:>12.0f}"
        )
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*", help="settings of the preset, key=value")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vqkit-sounds")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--one", choices=ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measured(options, options.one)))
        return
    rows = {name: row_of(options, name) for name in options.rows}
    torch.set_num_threads(1)
    print(heading("Sound of other kinds and rates: quality at each bit rate"))
    for name, row in rows.items():
        show(name, row)


if __name__ == "__main__":
    main()
