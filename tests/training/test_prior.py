"""Priors are trained by the same engine, or counted by it."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training import tiny
from torch.testing import assert_close

from vqkit.codes import Codes, LevelSpec
from vqkit.data import TensorExamples
from vqkit.priors import (
    AbsorbingDiffusionConfig,
    Conditioning,
    ConditioningSpec,
    HistogramPrior,
    Prior,
    TransformerConfig,
    TransformerPrior,
    UniformDiffusionConfig,
    UniformPrior,
)
from vqkit.storage import fingerprint, load_weights
from vqkit.training import fit
from vqkit.training.loop import Trainer

SPECS = (LevelSpec((2, 3), (5,)),)
SIZE: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "dropout": 0.1}
LEARNED = {
    "transformer": TransformerConfig(**SIZE),
    "absorbing diffusion": AbsorbingDiffusionConfig(**SIZE),
    "uniform diffusion": UniformDiffusionConfig(**SIZE, times=8),
}


def codes(num: int = 60) -> TensorExamples:
    """Rows that count upward from a random start; their class is the start."""
    start = torch.randint(5, (num, 1), generator=torch.Generator().manual_seed(0))
    rows = (start + torch.arange(6)) % 5
    return TensorExamples([(row, int(row[0])) for row in rows])


def transformer(num_classes: int | None = None) -> TransformerPrior:
    prior = learned("transformer", num_classes)
    assert isinstance(prior, TransformerPrior)
    return prior


def learned(name: str, num_classes: int | None = None) -> Prior:
    torch.manual_seed(0)
    config = LEARNED[name]
    if num_classes is not None:  # some of them are hidden, by numbers that depend on the step
        config = replace(config, drop_conditioning=0.2)
    return config.build(SPECS, ConditioningSpec(num_classes=num_classes))


@torch.no_grad()
def nats(prior: Prior, *, labelled: bool) -> float:
    examples = [codes().example(index) for index in range(60)]
    batch = Codes.from_flat(torch.stack([example.x for example in examples]), SPECS)
    labels = torch.tensor([example.label for example in examples])
    given = Conditioning(labels=labels) if labelled else None
    return -float(prior.log_prob(batch, given).mean()) / 6


def test_a_transformer_learns_what_counting_cannot():
    keys = {"steps": 120, "batch_size": 20, "learning_rate": 0.02}
    transformed = fit(transformer(), codes(), tiny.config(**keys))
    counted = fit(HistogramPrior(SPECS), codes(), tiny.config())
    uniform = fit(UniformPrior(SPECS), codes(), tiny.config())
    found = [nats(prior, labelled=False) for prior in (transformed, counted, uniform)]
    assert found == sorted(found)
    assert found[0] < 0.5 * found[1]  # only the first of six is not known from the one before


def test_labels_reach_the_prior():
    prior = fit(transformer(5), codes(), tiny.config(steps=120, batch_size=20, learning_rate=0.02))
    assert nats(prior, labelled=True) < 0.15


def test_a_prior_cannot_be_compiled_and_says_so():
    with pytest.raises(ValueError, match="compile is true, but priors cannot"):
        fit(transformer(), codes(), tiny.config(compile=True))


def test_a_prior_is_logged_saved_and_resumed(tmp_path: Path):
    keys = {"steps": 10, "log_every": 5, "checkpoint_every": 5}
    model = fit(transformer(), codes(), tiny.config(**keys), folder=tmp_path, eval_examples=codes())
    line, held_out = tiny.lines(tmp_path)[-2:]
    assert line["terms"].keys() == {"nats_per_token"}
    assert held_out["eval"]["num_items"] == 60
    assert held_out["eval"]["loss"] == pytest.approx(nats(model, labelled=False), rel=1e-4)
    assert fingerprint(Prior.from_pretrained(tmp_path)) == fingerprint(model)
    fit(transformer(), codes(), tiny.config(**keys | {"steps": 12}), folder=tmp_path)
    assert tiny.lines(tmp_path)[-1]["step"] == 12


def test_a_histogram_is_counted_in_one_pass_and_not_twice(tmp_path: Path):
    prior = HistogramPrior(SPECS)
    for _ in range(2):  # the second call finds it finished
        fit(prior, codes(), tiny.config(batch_size=7), folder=tmp_path)
        assert prior.num_counted.tolist() == [60] * 6
    fit(prior, codes(), tiny.config(batch_size=7))  # and counted anew is not counted twice
    assert prior.num_counted.tolist() == [60] * 6
    rows = torch.stack([codes().example(index).x for index in range(60)])
    first = prior.occurrences.reshape(6, 5)[0]
    assert torch.equal(first, torch.bincount(rows[:, 0], minlength=5))
    assert_close(Prior.from_pretrained(tmp_path).state_dict(), prior.state_dict())


def count_half(folder: Path) -> None:
    fit(HistogramPrior(SPECS), codes(), tiny.config(batch_size=14), folder=folder)


@pytest.mark.slow
def test_two_processes_count_what_one_does(tmp_path: Path):
    assert tiny.run_pair(count_half, tmp_path / "store", tmp_path / "run") == [0, 0]
    alone = fit(HistogramPrior(SPECS), codes(), tiny.config())
    assert_close(Prior.from_pretrained(tmp_path / "run").state_dict(), alone.state_dict())


def half(name: str, folder: Path) -> None:
    fit(learned(name, 5).double(), codes(), tiny.config(batch_size=20), folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNED)
def test_two_processes_train_the_prior_that_one_does_dropout_included(name: str, tmp_path: Path):
    assert tiny.run_pair(half, tmp_path / "store", name, tmp_path / "run") == [0, 0]
    alone = fit(learned(name, 5).double(), codes(), tiny.config(batch_size=20))
    joined = learned(name, 5).double()
    load_weights(tmp_path / "run", joined)
    assert_close(joined.state_dict(), alone.state_dict(), rtol=0, atol=1e-9)


def train(name: str, folder: Path) -> None:
    keys = {"steps": 12, "checkpoint_every": 4, "log_every": 4}
    fit(learned(name, 5), codes(), tiny.config(**keys), folder=folder, eval_examples=codes(20))


def train_and_die(name: str, folder: Path) -> None:
    """Is killed in the middle of step 9, after its gradients."""
    check = Trainer._check

    def deadly(self: Trainer, at: int, *args: Any) -> int:
        if at == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return check(self, at, *args)

    Trainer._check = deadly
    train(name, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNED)
def test_a_prior_that_was_killed_ends_bit_for_bit_as_one_that_was_not(name: str, tmp_path: Path):
    assert tiny.run(train_and_die, name, tmp_path / "killed") == -signal.SIGKILL
    assert not (tmp_path / "killed/model.safetensors").exists()
    for folder in ("killed", "whole"):
        assert tiny.run(train, name, tmp_path / folder) == 0
    assert tiny.lines(tmp_path / "killed") == tiny.lines(tmp_path / "whole")
    found = [Prior.from_pretrained(tmp_path / folder) for folder in ("killed", "whole")]
    assert fingerprint(found[0]) == fingerprint(found[1])


@pytest.mark.parametrize("name", ["absorbing diffusion", "uniform diffusion"])
def test_diffusion_learns_by_the_engine_and_is_measured_by_the_same_bound(
    name: str, tmp_path: Path
):
    config = tiny.config(steps=100, batch_size=20, learning_rate=0.01)
    prior = fit(learned(name, 5), codes(), config, folder=tmp_path, eval_examples=codes())
    before = nats(learned(name, 5).eval(), labelled=True)
    found = nats(prior.eval(), labelled=True)
    assert found < 0.85 * before
    assert tiny.lines(tmp_path)[-1]["eval"]["loss"] == pytest.approx(found, rel=1e-4)
