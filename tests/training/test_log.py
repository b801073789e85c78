"""What a run says, on the screen and in metrics.jsonl."""

import json
from pathlib import Path

import pytest
import torch
from tests.training import tiny
from torch.testing import assert_close

from vqkit.means import Mean
from vqkit.training import StepOutput, fit
from vqkit.training.log import MetricsFile, Screen, duration, numbers, summary, wrap
from vqkit.training.meters import Meters, report

LINE = {"step": 5, "loss": 1.5, "terms": {"reconstruction": 1.0, "quantizer": 0.5}}


def output(total: float, count: int) -> StepOutput:
    mean = Mean(torch.tensor(total), torch.tensor(count))
    usage = {"codebook": torch.tensor([1, 0, count])}
    return StepOutput({"error": mean}, {"part": mean}, usage, {"mse": mean})


def test_logged_means_weigh_every_value_alike():
    """Two batches with means 1 and 4, of 6 and 2 values: 14 / 8, not 5 / 2."""
    meters = Meters()
    meters.add(output(6.0, 6))
    meters.add(output(8.0, 2))
    values = report(meters)
    assert values["loss"] == 14 / 8
    assert values["terms"] == {"error": 14 / 8, "part": 14 / 8}
    assert values["psnr"] == pytest.approx(10 * torch.tensor(4 / (14 / 8)).log10().item())
    assert values["num_vectors"] == [10]
    assert values["usage"] == [2 / 3]


def test_a_perfect_copy_has_no_finite_psnr():
    meters = Meters()
    meters.add(output(0.0, 5))
    assert report(meters)["psnr"] is None


def test_saved_meters_continue():
    whole, first, second = Meters(), Meters(), Meters()
    for meters in (whole, first):
        meters.add(output(1 / 3, 3))
    second.load(first.tensors(), torch.device("cpu"))
    for meters in (whole, second):
        meters.add(output(2 / 7, 2))
    assert_close(second.tensors(), whole.tensors(), rtol=0, atol=0)


def test_lines_after_the_step_of_the_checkpoint_are_dropped_and_cut_ones_too(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step}) + "\n" for step in (5, 10, 10, 15)]
    path.write_text("".join(lines) + '{"step": 2')
    file = MetricsFile(tmp_path, 10)
    file.write({"step": 12})
    found = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert found == [5, 10, 10, 12]


def test_plain_lines_are_few(capsys: pytest.CaptureFixture):
    screen = Screen("lines", 100)
    for step in range(1, 101):
        screen.metrics(LINE | {"step": step}, "images", 65.0, last=step == 100)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0] == "step 1/100  loss 1.5000  reconstruction 1.0000  quantizer 0.5000  1:05 left"
    assert said[1].startswith("step 100/100")


def test_a_bar_is_shown_only_on_a_terminal(capsys: pytest.CaptureFixture):
    assert Screen("auto", 10).how == "lines"
    assert Screen("none", 10).how == "none"
    Screen("none", 10).say("nothing")
    assert capsys.readouterr().err == ""


def test_the_bar_has_loss_terms_and_lines_above_it(capsys: pytest.CaptureFixture):
    screen = Screen("bar", 10)
    with screen.open(0):
        screen.metrics(LINE, "images", 1.0, last=False)
        screen.advance(7)
        screen.say("health, step 5: [all] is well")
    said = capsys.readouterr().err
    assert "health, step 5: [all] is well" in said
    assert "7/10" in said
    assert screen.bar is None


def test_a_summary_has_what_the_issue_asks_for():
    line = LINE | {"psnr": 21.234, "perplexity": [30.4, 400.6], "images_per_s": 1234.5}
    assert summary(line, "images") == (
        "loss 1.5000  reconstruction 1.0000  quantizer 0.5000  PSNR 21.23 dB  perplexity 30/401  "
        "1234 images/s"
    )


FULL = LINE | {"psnr": 21.234, "perplexity": [30.4], "images_per_s": 1234.5}


@pytest.mark.parametrize("room", range(0, 120, 3))
def test_a_narrow_summary_has_whole_parts_and_the_most_telling_first(room: int):
    whole, narrow = summary(FULL, "images").split("  "), summary(FULL, "images", room)
    assert len(narrow) <= room
    kept = narrow.split("  ") if narrow else []
    assert kept == [part for part in whole if part in kept]
    if room >= 41:
        assert {"loss 1.5000", "PSNR 21.23 dB", "perplexity 30"} <= {*kept}
    if room >= len("  ".join(whole)):
        assert kept == whole


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_wrapped_line_breaks_between_a_value_and_the_next_name(width: int):
    line = f"step 5, 20 held-out images: {summary(FULL, 'images')}"
    lines = wrap(line, width)
    assert max(map(len, lines)) <= width
    assert "  ".join(part.strip() for part in lines) == line


def test_nothing_is_cut_or_parted_on_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    screen = Screen("bar", 30000)
    with screen.open(0):
        screen.metrics(FULL, "images", 1.0, last=False)
        screen.say(f"step 5, 20 held-out images: {summary(FULL, 'images')}")
    said = capsys.readouterr().err
    assert "\N{HORIZONTAL ELLIPSIS}" not in said
    assert "PSNR 21.23 dB" in said.splitlines()[-1]
    assert "quantizer 0.5000" in said


def test_durations_read_like_a_clock():
    found = [duration(seconds) for seconds in (0.4, 61, 3599.6, 7325)]
    assert found == ["0:00", "1:01", "1:00:00", "2:02:05"]


def test_trackers_get_every_number_by_its_path():
    line = LINE | {"perplexity": [1.0, 2.0], "health": ["words"], "psnr": None}
    found = {"step": 5, "loss": 1.5, "terms/reconstruction": 1.0, "terms/quantizer": 0.5}
    assert numbers(line) == found | {"perplexity/0": 1.0, "perplexity/1": 2.0}
    assert numbers({"mse": 1.0}, "eval/") == {"eval/mse": 1.0}


def test_a_run_on_no_terminal_prints_plain_lines(capsys: pytest.CaptureFixture):
    keys = {"steps": 4, "log_every": 1, "progress": "auto"}
    fit(tiny.model(), tiny.series(), tiny.config(**keys), eval_examples=tiny.series(8, seed=1))
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert [line.split("  ")[0] for line in lines[:2]] == ["step 1/4", "step 4/4"]
    assert lines[2].startswith("step 4, 8 held-out items: loss")
    assert "\x1b" not in said.err
