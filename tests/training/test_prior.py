"""Priors are trained by the same engine, or counted by it."""

from pathlib import Path

import pytest
import torch
from tests.training import tiny
from torch.testing import assert_close

from vqkit.codes import Codes, LevelSpec
from vqkit.data import TensorExamples
from vqkit.priors import (
    Conditioning,
    ConditioningSpec,
    HistogramConfig,
    HistogramPrior,
    MixtureConfig,
    MixturePrior,
    NGramConfig,
    Prior,
    PriorConfig,
    TransformerConfig,
    TransformerPrior,
    UniformPrior,
)
from vqkit.storage import fingerprint
from vqkit.training import fit

SPECS = (LevelSpec((2, 3), (5,)),)


def codes(num: int = 60) -> TensorExamples:
    """Rows that count upward from a random start; their class is the start."""
    start = torch.randint(5, (num, 1), generator=torch.Generator().manual_seed(0))
    rows = (start + torch.arange(6)) % 5
    return TensorExamples([(row, int(row[0])) for row in rows])


def transformer(num_classes: int | None = None) -> TransformerPrior:
    torch.manual_seed(0)
    config = TransformerConfig(layers=1, width=16, heads=2, dropout=0.1)
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


COUNTED: dict[str, PriorConfig] = {
    "histogram": HistogramConfig(),
    "n-gram": NGramConfig(order=2),
    "n-gram of classes": NGramConfig(order=2),
    "mixture": MixtureConfig(components=3, draws=50, max_items=40),
}


def to_count(name: str) -> Prior:
    told = ConditioningSpec(num_classes=5 if "classes" in name else None)
    prior = COUNTED[name].build(SPECS, told)
    if isinstance(prior, MixturePrior):
        prior.embed([torch.randn(5, 3, generator=torch.Generator().manual_seed(0))])
    return prior


def count_half(folder: Path, name: str) -> None:
    fit(to_count(name), codes(), tiny.config(batch_size=14), folder=folder)


@pytest.mark.parametrize("name", ["n-gram", "n-gram of classes", "mixture"])
def test_what_was_counted_is_saved_and_found_finished_whatever_its_size(tmp_path: Path, name: str):
    first = fit(to_count(name), codes(), tiny.config(batch_size=7), folder=tmp_path)
    again = fit(to_count(name), codes(), tiny.config(batch_size=7, steps=99), folder=tmp_path)
    assert fingerprint(again) == fingerprint(first) == fingerprint(Prior.from_pretrained(tmp_path))
    labelled = first.num_classes is not None
    assert nats(again, labelled=labelled) == nats(first, labelled=labelled)
    assert nats(first, labelled=labelled) < nats(UniformPrior(SPECS), labelled=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTED)
def test_two_processes_count_what_one_does(tmp_path: Path, name: str):
    assert tiny.run_pair(count_half, tmp_path / "store", tmp_path / "run", name) == [0, 0]
    alone = fit(to_count(name), codes(), tiny.config())
    joined = Prior.from_pretrained(tmp_path / "run").state_dict()
    assert_close(joined, alone.state_dict(), rtol=0, atol=1e-9)
