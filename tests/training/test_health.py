"""The monitor names what is wrong, once, and nothing that is not."""

import json
import math
from pathlib import Path

import pytest
import torch
from tests.training import tiny

from vqkit.autoencoder import VQVAE
from vqkit.evaluation.codebook import CodebookStats
from vqkit.modalities.image import ConvConfig, ImageModelConfig
from vqkit.quantizers import EMAConfig, EMAVectorQuantizer, Selective, VQConfig
from vqkit.training import fit
from vqkit.training.autoencoder import AutoencoderTask
from vqkit.training.health import (
    FIRST_STEP,
    PATIENCE,
    Health,
    Norms,
    Settings,
    judge_growth,
    judge_usage,
)
from vqkit.training.journal import Journal
from vqkit.training.log import Screen
from vqkit.training.runtime import open_runtime

EVERY = 100


def stats(counts: torch.Tensor) -> dict[str, CodebookStats]:
    return {"codebook": CodebookStats(len(counts), counts.long())}


def told(health: Health, counts: torch.Tensor, intervals: range) -> list[str]:
    return [line for i in intervals for line in health.follow((i + 1) * EVERY, stats(counts), {})]


EVEN = torch.full((64,), 10)
FEW = torch.where(torch.arange(64) < 8, 80, 0)
PEAKED = torch.where(torch.arange(64) == 0, 10_000, 1)
SOME_DEAD = torch.where(torch.arange(64) < 60, 12, 0)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (FEW, ["codebook collapses", "8 of 64", "revive=true", "quantizer.type=ema"]),
        (PEAKED, ["codebook collapses", "64 of 64", "perplexity 1.1", "KL to uniform 4.0"]),
        (SOME_DEAD, ["4 dead entries of 64", "revive=true"]),
    ],
    ids=["few entries used", "one entry takes all", "some dead"],
)
def test_a_trouble_is_said_once_in_words_with_what_to_try(counts: torch.Tensor, words: list[str]):
    lines = told(Health(), counts, range(30))
    assert len(lines) == 1
    assert all(word in lines[0] for word in words)
    assert "\n" not in lines[0]


def test_flags_that_are_all_alike_are_no_trouble():
    """Of positions that all have a code, as with ``Selective(..., keep=1)``."""
    layer = Selective(EMAVectorQuantizer(4, 16), keep=1)
    flags = CodebookStats(2, torch.tensor([0, 10_000]))
    assert not any(judge_usage(f"quantizer {layer.codebook_names[0]}", flags).values())
    assert any(judge_usage("quantizer code", flags).values())


def test_even_use_is_no_trouble():
    assert told(Health(), EVEN, range(30)) == []


def test_chance_is_no_trouble():
    """Ten vectors per entry, drawn evenly: some entry is often missed."""
    torch.manual_seed(0)
    health = Health()
    for i in range(30):
        counts = torch.bincount(torch.randint(512, (5120,)), minlength=512)
        assert not health.follow((i + 1) * EVERY, stats(counts), {})


def test_nothing_is_judged_by_few_vectors():
    """One vector an interval uses one entry of 64, which says nothing: a window is awaited."""
    health = Health()
    for i in range(64 * 8 * (PATIENCE + 20)):
        counts = torch.zeros(64).index_fill(0, torch.tensor(i % 64), 1)
        assert not health.follow(FIRST_STEP + i, stats(counts), {})


def test_a_trouble_that_passes_is_not_named():
    health = Health()
    assert told(health, FEW, range(FIRST_STEP // EVERY + PATIENCE - 2)) == []
    assert told(health, EVEN, range(20, 21)) == []
    assert told(health, FEW, range(21, 21 + PATIENCE - 1)) == []


def test_a_resumed_monitor_goes_on_where_it_was():
    def follow(interrupt: int | None) -> list[tuple[int, str]]:
        health, lines = Health(), []
        for i in range(30):
            if i == interrupt:
                state = json.loads(json.dumps(health.state()))
                health = Health(state, {k: v.clone() for k, v in health.windows.items()})
            norms = {"codebook": Norms(2.0**i, None)}
            found = health.follow((i + 1) * EVERY, stats(FEW // 3), norms)
            lines += [(i, line) for line in found]
        return lines

    assert {tuple(follow(i)) for i in range(30)} == {tuple(follow(None))}


def test_growth_without_bound_is_told_from_settling():
    steps = range(100, 3000, 100)
    linear = [(t, 0.3 + t / 100) for t in steps]
    settling = [(t, 0.3 + 5 * (1 - math.exp(-t / 300))) for t in steps]
    jump = [(t, 0.3 if t < 700 else 5.0) for t in steps]
    found = [judge_growth("codebook", linear[: i + 1], 2.5) for i in range(8, len(linear))]
    assert all(line is not None and "grows without bound" in line for line in found)
    assert "commitment" in found[-1]
    for history in (settling, jump):
        late = [history[: i + 1] for i in range(8, len(history))]
        assert not any(judge_growth("codebook", part, None) for part in late)


def test_the_words_give_the_number_of_vectors():
    line = judge_usage("level 1", stats(FEW)["codebook"])["collapse/level 1"]
    assert line is not None
    assert "640 vectors" in line


@pytest.mark.parametrize("counts", [FEW, SOME_DEAD], ids=["collapse", "dead"])
@pytest.mark.parametrize("kind", ["vq", "ema", "normalized"])
@pytest.mark.parametrize("revive", [False, True])
def test_what_is_set_is_not_advised(counts: torch.Tensor, kind: str, revive: bool):
    book = stats(counts)["codebook"]
    plain, known = (
        " ".join(filter(None, judge_usage("codebook", book, settings).values()))
        for settings in (None, Settings({"type": kind, "revive": revive}))
    )
    assert ("revive=true" in known) == (not revive)
    for other in ("ema", "normalized"):
        tip = f"model.quantizer.type={other}"
        assert (tip in known) == (tip in plain and other != kind)
    assert "a smaller model.quantizer.codebook_size" in known


def test_a_run_does_not_advise_what_it_has_set():
    task = AutoencoderTask(VQVAE.from_config(ImageModelConfig()))
    with open_runtime(tiny.config(), None) as runtime:
        journal = Journal(task, tiny.config(), runtime, Screen("none", 1), None)
    (line,) = told(journal.health, FEW, range(30))
    assert "revive=true" not in line
    assert "type=ema" not in line


def test_a_level_with_a_quantizer_of_its_own_is_advised_by_its_own_key():
    config = ImageModelConfig(network=ConvConfig(levels=2), quantizers=(EMAConfig(), VQConfig()))
    settings = AutoencoderTask(VQVAE.from_config(config)).settings
    assert settings["level 0"].key == "model.quantizers.0"
    book = CodebookStats(64, FEW)
    (line,) = filter(None, judge_usage("level 1", book, settings["level 1"]).values())
    assert "Try model.quantizers.1.type=ema" in line
    assert "model.quantizer." not in line
    growing = [(t, 0.3 + t / 100) for t in range(100, 3000, 100)]
    said = judge_growth("level 1", growing, None, settings["level 1"])
    assert said is not None
    assert "model.quantizers.1.commitment" in said
    plain = ImageModelConfig(network=ConvConfig(levels=2))
    assert AutoencoderTask(VQVAE.from_config(plain)).settings["level 1"].key == "model.quantizer"


def provoked(folder: Path, commitment: float) -> tuple[list[float], list[str]]:
    """A decoder too weak and a rate too high, which push the encoder's outputs outward."""
    model = tiny.model()
    model.quantizers[0] = EMAVectorQuantizer(4, 16, decay=0.8, commitment=commitment)
    keys = {"steps": 800, "log_every": 20, "checkpoint_every": 800, "schedule": "constant"}
    config = tiny.config(learning_rate=0.02, **keys)
    fit(model, tiny.equal_series(), config, folder=folder)
    lines = tiny.lines(folder)
    said = [line for entry in lines for line in entry.get("health", [])]
    return [entry["z_e_norm"][0] for entry in lines], said


@pytest.mark.slow
def test_commitment_bounds_the_norm_of_a_run_made_to_provoke_growth(tmp_path: Path):
    bounded, quiet = provoked(tmp_path / "with", 0.25)
    growing, said = provoked(tmp_path / "without", 0.0)
    assert max(bounded[20:]) < 1.5 * bounded[20]
    assert not [line for line in quiet if "grows" in line]
    assert growing[-1] > 3 * max(bounded)
    assert len([line for line in said if "grows without bound" in line]) == 1
