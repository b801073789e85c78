"""Are spoken digits that a prior draws by class the digits that they should be?

Run: python benchmarks/spoken_digits.py FOLDER RUN [KEY=VALUE ...] [--work FOLDER] [--out FOLDER]

FOLDER holds the recordings with their digits, RUN is a tokenizer of them. A prior learns the codes
of the training recordings with their digits. A small network that has never seen a code learns the
digits of real training recordings from mel spectrograms; what it says of real held-out recordings,
of their copies through all codes, and of new recordings of each digit is compared. Probes of the
codes stand below. KEY=VALUE are settings of the prior's run, over the preset prior-delay. Into the
folder OUT go digits.wav, two new recordings of each digit from 0 on, and their spectrograms.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from measuring import heading
from PIL import Image
from torch import Tensor, nn

from vqkit.cli import run
from vqkit.cli.drawing import Sampling, draw
from vqkit.cli.probe import summary
from vqkit.cli.runs import config_of, open_tokenizer
from vqkit.cli.sample import open_prior
from vqkit.evaluation import probe
from vqkit.modalities.audio.levels import normalize
from vqkit.modalities.audio.spectrum import magnitudes, mel

WINDOW, BANDS, WIDTH = 256, 40, 128
EPOCHS, BATCH, LOUDER_DB = 30, 32, 6.0
PRIOR = (
    "prior.layers=4",
    "prior.width=192",
    "prior.heads=6",
    "prior.dropout=0.2",
    "prior.drop_conditioning=0.1",
    "train.steps=3000",
    "train.batch_size=32",
    "train.learning_rate=1e-3",
    "train.progress=lines",
    "train.log_every=200",
    "train.device=cpu",
)
DRAWINGS: tuple[dict[str, Any], ...] = (
    {},
    {"guidance": 1.5},
    {"guidance": 2.0},
    {"guidance": 3.0},
    {"guidance": 3.0, "temperature": 0.9},
)
SHOWN = DRAWINGS[3]
EACH = 30  # new recordings of each digit, for each way to draw


class Listener(nn.Module):
    """Convolutions over mel spectrograms, then the mean and the maximum over time."""

    def __init__(self, rate: int, num_classes: int) -> None:
        super().__init__()
        self.rate = rate
        widths = (BANDS, WIDTH, WIDTH, WIDTH)
        self.layers = nn.ModuleList(
            nn.Conv1d(a, b, 5, padding=2 * d, dilation=d)
            for a, b, d in zip(widths, widths[1:], (1, 2, 4), strict=False)
        )
        self.head = nn.Linear(2 * WIDTH, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Recordings (B, 1, T) to logits (B, classes)."""
        h = mel(magnitudes(x.mean(1), WINDOW), self.rate, BANDS).clamp(min=1e-3).log().mT
        for layer in self.layers:
            h = F.dropout(layer(h).relu(), 0.2, self.training)
        return self.head(torch.cat([h.mean(2), h.amax(2)], 1))


def as_loud(x: Tensor) -> Tensor:
    """A recording (1, T) of peak 1."""
    x = normalize(x).float()
    return x / x.abs().amax().clamp(min=1e-3)


def batch(items: Sequence[Tensor]) -> Tensor:
    """Recordings (1, T) one below the other, silence behind the shorter ones. (B, 1, T)"""
    longest = max(x.shape[1] for x in items)
    return torch.stack([F.pad(x, (0, longest - x.shape[1])) for x in items])


def trained(items: list[Tensor], labels: Tensor, rate: int) -> Listener:
    torch.manual_seed(0)
    listener = Listener(rate, int(labels.max()) + 1)
    optimizer = torch.optim.AdamW(listener.parameters(), 1e-3, weight_decay=0.01)
    steps = EPOCHS * -(-len(items) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for some in torch.randperm(len(items)).split(BATCH):
            x = batch([items[i] for i in some.tolist()])
            gain = 10 ** (LOUDER_DB / 20 * (2 * torch.rand(len(x), 1, 1) - 1))
            x = gain * x + 10 ** -(1.5 + 2 * torch.rand(len(x), 1, 1)) * torch.randn_like(x)
            loss = F.cross_entropy(listener(x), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return listener.eval()


@torch.no_grad()
def right(listener: Listener, items: Sequence[Tensor], labels: Sequence[int]) -> str:
    """How often the listener hears what was said, and each digit's share."""
    said = torch.cat([listener(as_loud(x).unsqueeze(0)) for x in items]).argmax(1)
    wanted = torch.tensor(labels)
    hits = (said == wanted).double()
    each = " ".join(f"{100 * float(hits[wanted == k].mean()):.0f}" for k in wanted.unique())
    return f"{float(hits.mean()):>7.1%}   {each}"


def prior_of(options: argparse.Namespace) -> Path:
    """The run of the prior, trained unless it is."""
    tokens, home = options.work / "tokens", options.work / "prior"
    settings = (*PRIOR, *options.words)
    for words in (
        ["encode", options.run, training_files(options.folder), tokens],
        ["train-prior", tokens, "prior-delay", *settings, "-t", options.run, "-o", home],
    ):
        run([str(word) for word in words])
    return home


def training_files(folder: Path) -> Path:
    """The Parquet file of the training recordings."""
    return next(iter(sorted(folder.glob("train*.parquet"))), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("words", nargs="*", help="settings of the prior's run, key=value")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vqkit-spoken")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start, kept = time.process_time(), options.work / "minutes.txt"  # of the first time
    home = prior_of(options)
    if not kept.exists():
        kept.write_text(f"{(time.process_time() - start) / 60:.1f}")
    minutes = kept.read_text()
    data = config_of(options.run, [f"data.path={options.folder}"]).data
    splits: Any = data.open()
    rate = splits.train.config.sample_rate
    real = [as_loud(splits.train.example(i).x) for i in range(len(splits.train))]
    listener = trained(real, torch.tensor(labels_of(splits.train)), rate)
    print(heading("Spoken digits drawn by class, as an independent classifier hears them"))
    print(f"prior: {' '.join([*PRIOR, *options.words])}; {minutes} CPU minutes with the codes")
    print(f"{'':<44} right    of each digit, %")
    report(options, home, splits, listener)
    model = open_tokenizer(options.run, "cpu")
    print("\nProbe of the codes")
    found = {"split": "held-out", **probe(model, splits.train, splits.evaluation)}
    print("\n".join(summary(found, "recording")[:13]))


def labels_of(items: Any) -> list[int]:
    return [int(items.example(i).label) for i in range(len(items))]


def report(options: argparse.Namespace, home: Path, splits: Any, listener: Listener) -> None:
    """Prints how often each kind of recordings is heard right."""
    held = splits.evaluation

    def say(name: str, items: Sequence[Tensor], labels: Sequence[int]) -> None:
        print(f"{name:<42} {right(listener, items, labels)}", flush=True)

    originals, labels = [held.example(i).x for i in range(len(held))], labels_of(held)
    model = open_tokenizer(options.run, "cpu")
    with torch.no_grad():
        copies = [model.decode(model.encode(x.unsqueeze(0)))[0, :, : x.shape[1]] for x in originals]
    say(f"{len(held)} real recordings, held out", originals, labels)
    say("their copies, decoded from the codes", copies, labels)
    prior, tokenizer, names = open_prior(home, "cpu")
    for settings in DRAWINGS:
        how = Sampling(num=EACH * len(names), batch_size=50, **settings)
        drawn = draw(prior, tokenizer, how)
        wanted = how.labels(len(names)) or []
        own = [splits.train.labels.index(names[label]) for label in wanted]
        said = ", ".join(f"{key} {value:g}" for key, value in settings.items()) or "plainly"
        say(f"{len(drawn)} new ones, drawn {said}", drawn, own)
        print(f"{'':<42} {sum(x.shape[1] for x in drawn) / len(drawn) / listener.rate:.2f} s each")
        if settings == SHOWN and options.out is not None:
            order = [own.index(k) + turn * len(names) for turn in (0, 1) for k in range(len(names))]
            keep(options.out, [drawn[place] for place in order], model.objective.modality)


def keep(out: Path, items: list[Tensor], kind: Any) -> None:
    """Writes recordings one after another, with pauses, and their spectrograms in two rows."""
    out.mkdir(parents=True, exist_ok=True)
    pause = torch.zeros_like(items[0][:, : kind.sample_rate // 5])
    kind.save(out / "digits.wav", torch.cat([part for x in items for part in (x, pause)], 1))
    pictures = [kind.pictures(x.unsqueeze(0))[0] for x in items]
    half = len(pictures) // 2
    rows = [torch.cat(pictures[:half], 2), torch.cat(pictures[half:], 2)]
    levels = torch.cat(rows, 1).movedim(0, 2).numpy()
    Image.fromarray(levels).save(out / "digits.png", optimize=True)


if __name__ == "__main__":
    sys.exit(main())
