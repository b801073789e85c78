"""How good are spoken digits at each bit rate, beside Opus at equal measured rates?

Run: python benchmarks/fsdd_codec.py FOLDER_OF_PARQUET_FILES [KEY=VALUE ...] [--rows NAME ...]

Each row trains a tokenizer on the training split and measures it over the whole test split, from
one stage to all, on peak-normalised recordings: SI-SDR of each recording, their mean, mel distance,
and the bits that the codes of all recordings take for each second. Opus gets the same recordings
one by one; its rate is measured, too: the bytes of its packets, without those of the container. The
minutes are of process CPU time. Rows that are done are kept in a file and not run again; one that
was cut goes on where it was.
"""

import argparse
import io
import json
import struct
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import commit, heading, in_own_process
from torch import Tensor

from vqkit.cli.runs import open_tokenizer
from vqkit.cli.train import train_tokenizer
from vqkit.config import load_config
from vqkit.data import Examples
from vqkit.evaluation import evaluate, write_report
from vqkit.modalities.audio import AudioMetrics

RUNS: dict[str, tuple[str, ...]] = {"preset": (), "no delay": ("model.network.delay=0",)}
"""What is changed in the preset spoken-digits."""
ROWS = Path(__file__).parent / "results" / "fsdd-codec.jsonl"
OPUS_KBPS = (6, 6.5, 7, 7.5, 8, 9, 10, 12, 16, 24)
"""What Opus is asked for."""
FIGURES = ("si_sdr_db", "mel_distance_db", "kbps")


def measured(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Trains a tokenizer and measures it."""
    torch.set_num_threads(options.threads)
    home, start = options.work / name.replace(" ", "-"), time.process_time()
    cut = home.exists()  # then the minutes are those of the rest alone
    own = f"data.path={options.folder}", f"train.seed={options.seed}"
    shown = "train.progress=lines", "train.log_every=200", "train.device=cpu"
    config = load_config("spoken-digits", [*RUNS[name], *own, *shown, *options.words])
    began = time.monotonic()
    train_tokenizer(config, home)
    minutes, wall = (time.process_time() - start) / 60, (time.monotonic() - began) / 60
    model, items = open_tokenizer(home, "cpu"), config.data.open(folder=home)
    found = evaluate(model, items.evaluation)
    write_report(home, found, title=f"Spoken digits, {name}")
    stages = [{key: row[key] for key in ("stages", *FIGURES)} for row in found.metrics["stages"]]
    return {
        "stages": stages,
        "usage": [book.usage for book in found.stats[0]],
        "perplexity": [book.perplexity for book in found.stats[0]],
        "num_items": found.metrics["num_items"],
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "steps": config.train.steps,
        "batch_size": config.train.batch_size,
        "minutes": minutes,
        "wall_minutes": wall,
        "cut": cut,
        "commit": commit(),
    }


def opus(items: Examples, rate: int) -> list[dict[str, float]]:
    """Figures of Opus at each rate that is asked for, the fewest bits first."""
    found = []
    for kbps in OPUS_KBPS:
        metrics, bits, samples = AudioMetrics(rate), 0, 0
        for index in range(len(items)):
            x = items.example(index).x
            y, own = opus_copy(x, rate, kbps)
            metrics.add(x.unsqueeze(0), y.unsqueeze(0))
            bits, samples = bits + own, samples + x.shape[1]
        found.append({**metrics.results(), "kbps": bits * rate / samples / 1000})
    return sorted(found, key=lambda row: row["kbps"])


def opus_copy(x: Tensor, rate: int, kbps: float) -> tuple[Tensor, int]:
    """What Opus makes of a recording (1, T), moved to where it fits best, and the bits of its
    packets."""
    import soundfile

    buffer, level = io.BytesIO(), 1 - (kbps - 6) / 250  # libsndfile goes from 6 to 256 kbit/s
    soundfile.write(
        buffer, x[0].numpy(), rate, format="OGG", subtype="OPUS", compression_level=level
    )
    data = buffer.getvalue()
    y, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    return aligned(x, torch.from_numpy(y).unsqueeze(0)), 8 * packet_bytes(data)


def aligned(x: Tensor, y: Tensor, most: int = 200) -> Tensor:
    """A copy y (1, T') cut to the length of x (1, T), by the shift that fits best."""
    padded = torch.nn.functional.pad(y, (most, most + max(0, x.shape[1] - y.shape[1])))
    windows = padded[0].unfold(0, x.shape[1], 1)[: 2 * most + 1]
    best = int((windows @ x[0]).argmax())
    return windows[best].unsqueeze(0)


def packet_bytes(data: bytes) -> int:
    """Bytes of the sound in an Ogg file: all packets but the two that are headers."""
    place, sizes, packet = 0, list[int](), 0
    while place < len(data):
        (num,) = struct.unpack_from("<B", data, place + 26)
        table = np.frombuffer(data, np.uint8, num, place + 27).astype(int)
        for segment in table:
            packet += int(segment)
            if segment < 255:
                sizes.append(packet)
                packet = 0
        place += 27 + num + int(table.sum())
    return sum(sizes[2:])


def results(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What was measured of each row; those that are not kept are run now."""
    found = {}
    kept = options.cache.read_text().splitlines() if options.cache.exists() else []
    rows = [json.loads(line) for line in kept]
    for name in options.rows:
        key = {"row": name, "seed": options.seed, "words": options.words}
        row = next((row for row in rows if key.items() <= row.items()), None)
        if row is None:
            words = "--one", name, "--seed", options.seed, "--threads", options.threads
            try:
                said = in_own_process(
                    options.folder, *options.words, *words, "--work", options.work
                )
            except subprocess.CalledProcessError as error:  # the other rows are worth having
                print(f"{name}: failed, {error.returncode}", file=sys.stderr, flush=True)
                continue
            row = key | json.loads(said.splitlines()[-1])
            options.cache.parent.mkdir(parents=True, exist_ok=True)
            with options.cache.open("a") as file:
                file.write(json.dumps(row) + "\n")
        found[name] = row
    return found


def at_rate(rows: list[dict[str, float]], kbps: float) -> dict[str, float] | None:
    """The figures at a rate, straight between the two measured ones around it; None beyond them."""
    for low, high in pairwise(rows):
        if low["kbps"] <= kbps <= high["kbps"]:
            share = (kbps - low["kbps"]) / max(high["kbps"] - low["kbps"], 1e-9)
            return {key: low[key] + share * (high[key] - low[key]) for key in FIGURES}
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="with train-*.parquet and test-*.parquet")
    parser.add_argument("words", nargs="*", help="settings of the preset, key=value")
    parser.add_argument("--rows", nargs="+", default=["preset"], choices=RUNS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vqkit-fsdd")
    parser.add_argument("--cache", type=Path, default=ROWS)
    parser.add_argument("--one", choices=RUNS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measured(options, options.one)))
        return
    rows = results(options)
    config = load_config("spoken-digits", [f"data.path={options.folder}"]).data
    peers = opus(config.open().evaluation, config.sample_rate)  # pyright: ignore
    print(heading("Spoken digits, held out: quality at each bit rate"))
    for name, row in rows.items():
        print(
            f"{name}: {row['steps']:,} steps of {row['batch_size']}, {row['parameters']:,} "
            f"parameters, {row['minutes']:.1f} CPU minutes, {row['wall_minutes']:.1f} by the clock"
            + (" and those before it was cut" if row["cut"] else "")
            + f", over {row['num_items']} recordings, at {row['commit']}"
        )
        print("stages   kbit/s  SI-SDR  mel dB | Opus at that rate: SI-SDR  mel dB | entries, even")
        for stage, usage, even in zip(row["stages"], row["usage"], row["perplexity"], strict=True):
            peer = at_rate(peers, stage["kbps"])
            beside = "               below its lowest rate"
            if peer is not None:
                beside = f"{peer['si_sdr_db']:>27.2f} {peer['mel_distance_db']:>7.2f}"
            print(
                f"{stage['stages']:>6} {stage['kbps']:>8.2f} {stage['si_sdr_db']:>7.2f} "
                f"{stage['mel_distance_db']:>7.2f} | {beside:<36}| {usage:.1%}, {even:.0f}"
            )
    print("\nOpus, whatever was asked for: kbit/s, SI-SDR in dB, mel distance in dB")
    for row in peers:
        print(f"{row['kbps']:>8.2f} {row['si_sdr_db']:>7.2f} {row['mel_distance_db']:>7.2f}")


if __name__ == "__main__":
    main()
