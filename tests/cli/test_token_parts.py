"""What tokens cost on average, however they are shared and batched."""

import json
from pathlib import Path

import pytest
import torch
from tests.cli.conftest import Made
from tests.training import tiny

from vqkit.cli.token_parts import nats_per_token, open_tokens
from vqkit.config import load_prior_config
from vqkit.distributed import is_main
from vqkit.priors import HistogramPrior
from vqkit.training import fit


def costs(run: Path, out: Path) -> None:
    """Writes what integers cost under a histogram, in batches of unlike sizes."""
    torch.manual_seed(0)
    tokens, train, _ = open_tokens(load_prior_config(run / "config.yaml").tokens)
    prior = fit(HistogramPrior(tokens.specs), train, tiny.config())
    found = [nats_per_token(prior, train, size) for size in (1, 4, 100)]
    if is_main():
        out.with_suffix(".json").write_text(json.dumps(found))


def test_cost_does_not_depend_on_batches_or_processes(made: Made, tmp_path: Path):
    costs(made.prior, tmp_path / "alone.json")
    assert tiny.run_pair(costs, tmp_path / "store", made.prior, tmp_path / "pair") == [0, 0]
    alone, pair = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("alone", "pair"))
    assert alone == pytest.approx([alone[0]] * 3, rel=1e-12)
    assert pair == pytest.approx(alone, rel=1e-12)
