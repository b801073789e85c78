"""The demo, with few steps."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Cli


@pytest.mark.slow
def test_the_demo_makes_all_that_it_names_and_goes_on_when_run_again(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from vqkit import config

    def shorter(load: Callable, *extra: str) -> Callable:
        return lambda source, words=(): load(source, [*words, *extra])

    few = ["train.steps=20", "train.device=cpu"]
    small = ["model.network.hidden=16", "model.network.num_residual=1"]
    monkeypatch.setattr(config, "load_config", shorter(config.load_config, *few, *small))
    monkeypatch.setattr(config, "load_prior_config", shorter(config.load_prior_config, *few))
    result = cli("demo", "-o", tmp_path / "demo")
    assert result.code == 0, result.err
    for name in ("samples/contact-sheet.png", "tokenizer/report.html", "prior/report.html"):
        assert str(tmp_path / "demo" / name) in result.out
        assert (tmp_path / "demo" / name).is_file()
    assert len(list((tmp_path / "demo" / "samples" / "learned").glob("*.png"))) == 100
    again = cli("demo", "-o", tmp_path / "demo")
    assert again.code == 0, again.err
    assert "demo/tokenizer is finished" in again.err
