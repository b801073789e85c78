"""Every prior resumes after a kill, and in two processes it is what it is in one."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from tests.priors.spaces import CLASSES, PRIORS, SPACES, build, fits, random_codes
from tests.training import tiny
from tests.training.test_resume import die
from torch.testing import assert_close

from vqkit.data import TensorExamples
from vqkit.priors import ConditioningSpec, CountedPrior, Prior
from vqkit.storage import read_tensors
from vqkit.training import fit
from vqkit.training.loop import Trainer

WEIGHTS = "model.safetensors"
KEYS = {"steps": 12, "checkpoint_every": 4, "batch_size": 12}


def prior(kind: str) -> Prior:
    """With labels, some of them hidden in training, in float64; of two levels if it has to be."""
    config: Any = PRIORS[kind]
    if hasattr(config, "drop_conditioning"):
        config = replace(config, drop_conditioning=0.2)
    space = "one level" if fits(PRIORS[kind], SPACES["one level"]) else "two levels"
    torch.manual_seed(0)
    told = ConditioningSpec(num_classes=CLASSES)
    return build(config, SPACES[space], told).double()


def examples(kind: str) -> TensorExamples:
    """Items of random codes, with labels."""
    torch.manual_seed(1)
    flat = random_codes(prior(kind).specs, 60).flat()
    return TensorExamples([(row, i % CLASSES) for i, row in enumerate(flat)])


def train(kind: str, folder: Path) -> None:
    fit(prior(kind), examples(kind), tiny.config(**KEYS), folder=folder)


def train_and_die(kind: str, folder: Path, at: int) -> None:
    """Is killed in the middle of a step."""
    original = Trainer._check

    def check(self: Trainer, step: int, *rest: object) -> int:
        if step == at:
            die()
        return original(self, step, *rest)

    with mock.patch.object(Trainer, "_check", check):
        train(kind, folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PRIORS)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(kind: str, tmp_path: Path):
    train(kind, tmp_path / "whole")
    killed = tiny.run(train_and_die, kind, tmp_path / "killed", 9)
    counted = isinstance(prior(kind), CountedPrior)  # in one pass, without steps
    assert killed == (0 if counted else -signal.SIGKILL)
    train(kind, tmp_path / "killed")
    whole, again = (read_tensors(tmp_path / name / WEIGHTS) for name in ("whole", "killed"))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PRIORS)
def test_two_processes_make_the_prior_that_one_does(kind: str, tmp_path: Path):
    assert tiny.run_pair(train, tmp_path / "store", kind, tmp_path / "pair") == [0, 0]
    train(kind, tmp_path / "alone")
    alone, pair = (read_tensors(tmp_path / name / WEIGHTS) for name in ("alone", "pair"))
    assert_close(pair, alone, rtol=0, atol=1e-9)
