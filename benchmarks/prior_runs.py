"""Frozen token sets of real images, and priors trained on them with equal budgets.

What is done is a line of a file, so that a run that was cut goes on where it was.
"""

import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import commit
from torch import Tensor, nn

from vqkit.autoencoder import VQVAE
from vqkit.cli.encode import encode_images
from vqkit.cli.runs import open_tokenizer
from vqkit.cli.token_parts import TokenPart, nats_per_token
from vqkit.cli.train import train_tokenizer
from vqkit.codes import Codes, LevelSpec
from vqkit.config import load_config
from vqkit.data import in_order
from vqkit.data.batch import Batch
from vqkit.means import Mean
from vqkit.modalities.image.data import open_images
from vqkit.nn.dropout import noise
from vqkit.priors import CountedPrior, Prior
from vqkit.tokens import TokenSet
from vqkit.training import Task, TrainConfig, fit
from vqkit.training.task import StepOutput

WORK = Path(tempfile.gettempdir()) / "vqkit-priors"
ROWS = Path(__file__).parent / "results" / "prior-runs.jsonl"
SETS = {
    "fashion-mnist": ["model.quantizer.codebook_size=128", "train.steps=4000"],
    "cifar10": ["train.steps=5000"],
}
"""Presets of the tokenizers, and what is changed: 7 x 7 codes of 128, 8 x 8 codes of 512."""
BATCH, RATE, WARMUP = 32, 1e-3, 200


@dataclass(frozen=True)
class Tokens:
    """The token sets of a data set, and the tokenizer that made them."""

    tokenizer: VQVAE
    train: TokenPart
    test: TokenPart


def open_sets(name: str, data: str, work: Path) -> Tokens:
    """The frozen tokens of a data set: made when missing."""
    home = work / name
    words = [f"data.path={data}", "train.progress=lines", "train.log_every=500", *SETS[name]]
    config = load_config(name, words)
    if not (home / "tokenizer" / "model.safetensors").is_file():
        train_tokenizer(config, home / "tokenizer")
    tokenizer = open_tokenizer(home / "tokenizer", "cpu")
    images = open_images(config.data, folder=home / "tokenizer")
    parts = []
    for part, source in (("train", images.train), ("test", images.evaluation)):
        if not (home / part).is_dir():
            encode_images(tokenizer, source, home / part)
        tokens = TokenSet.open(home / part)
        parts.append(TokenPart(tokens, range(len(tokens))))
    return Tokens(tokenizer, *parts)


class GPT2(nn.Module):
    """GPT-2 of transformers over the codes of one level, measured as a prior is."""

    exact, num_classes = True, None

    def __init__(self, specs: Sequence[LevelSpec], layers: int, width: int, heads: int) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        self.specs = tuple(specs)
        length, (size,) = specs[0].num_tokens, specs[0].codebook_sizes
        self.register_buffer("slot_sizes", torch.full((length,), size), persistent=False)
        self.network = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=size + 1,
                n_positions=length,
                n_embd=width,
                n_layer=layers,
                n_head=heads,
                bos_token_id=size,
                eos_token_id=size,
            )
        )

    def nats(self, codes: Codes) -> Tensor:
        """What each integer costs. (B, L)"""
        flat = codes.flat()
        begin = torch.full_like(flat[:, :1], int(self.slot_sizes[0]))
        logits = self.network(torch.cat([begin, flat[:, :-1]], dim=1)).logits[..., :-1]
        # Without what begins the sequence: nothing is lost on a symbol that cannot come.
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), flat.flatten(), reduction="none"
        )
        return losses.view_as(flat)

    def log_prob(self, codes: Codes, given: Any = None) -> Tensor:
        """The log-probability of each item. (B,) float64"""
        return -self.nats(codes).double().sum(1)

    def loss(self, codes: Codes) -> dict[str, Mean]:
        """Nats per integer, as a prior gives them."""
        return {"nats_per_token": Mean.over(self.nats(codes))}


class PeerTask(Task):
    """Trains ``GPT2`` by the engine."""

    model: GPT2

    def forward(self, batch: Batch, measure: bool = False) -> StepOutput:
        return StepOutput(self.model.loss(Codes.from_flat(batch.x.long(), self.model.specs)))

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"nats_per_token": torch.tensor(batch.x.numel())}

    def save(self, folder: Path) -> None:
        from vqkit import storage

        storage.save_model(folder, self.model, {"kind": "peer"})


def step_times(
    makers: dict[str, Callable[[], Prior | GPT2]], tokens: Tokens, rounds: int = 7
) -> dict[str, float]:
    """Process CPU time of one training step of each, in seconds: medians, taken in turns."""
    batch = next(iter(in_order(tokens.train, BATCH)))
    steps: dict[str, Callable[[], None]] = {}
    for name, make in makers.items():
        prior = make().train()
        if isinstance(prior, CountedPrior):
            continue
        optimizer = torch.optim.AdamW(prior.parameters(), lr=RATE)
        codes = Codes.from_flat(batch.x.long(), prior.specs)

        def step(
            prior: Prior | GPT2 = prior, optimizer: Any = optimizer, codes: Codes = codes
        ) -> None:
            with noise(0, 0, torch.arange(BATCH)):
                loss: Mean = prior.loss(codes)["nats_per_token"]
            optimizer.zero_grad(set_to_none=True)
            loss.value.backward()
            optimizer.step()

        steps[name] = step
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            start = time.process_time()
            step()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def train(
    prior: Prior | GPT2,
    tokens: TokenPart,
    steps: int,
    folder: Path,
    seed: int,
    held_out: TokenPart | None = None,
) -> None:
    """Trains a prior, or goes on with it."""
    config = TrainConfig(
        steps=steps,
        batch_size=BATCH,
        learning_rate=RATE,
        warmup_steps=WARMUP,
        weight_decay=0.01,
        clip_norm=1.0,
        seed=seed,
        device="cpu",
        progress="lines",
        log_every=500,
        checkpoint_every=1000,
        keep_checkpoints=1,
        eval_every=steps,
    )
    task: Any = PeerTask(prior) if isinstance(prior, GPT2) else prior
    fit(task, tokens, config, folder=folder, eval_examples=held_out)


def row_of(prior: Prior | GPT2, tokens: Tokens) -> dict[str, Any]:
    """What is kept of a trained prior."""
    sizes = sum(parameter.numel() for parameter in prior.parameters())
    nats = nats_per_token(prior, tokens.test, 250)
    return {"nats_per_token": nats, "exact": prior.exact, "parameters": sizes, "commit": commit()}


def kept(path: Path) -> list[dict[str, Any]]:
    """The rows that were measured before."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(path: Path, row: dict[str, Any]) -> None:
    """Adds a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def bits(nats: float) -> float:
    """Nats as bits."""
    return nats / math.log(2)
