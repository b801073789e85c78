"""The examples are short, and show what they say."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.tokens.sets import write_tokens

from vqkit.codes import LevelSpec
from vqkit.tokens import export_tokens

EXAMPLES = Path(__file__).parents[2] / "examples"


LENGTHS = {
    "collapsed_codebook": 60,
    "foreign_network": 40,
    "gaussian_vae": 40,
    "language_model": 60,
    "lossless_text": 60,
    "posterior_collapse": 60,
    "semantic_ids": 60,
    "stream_sound": 60,
    "stream_video": 60,
}


@pytest.mark.parametrize(("name", "most"), LENGTHS.items())
def test_an_example_is_short(name: str, most: int):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= most


def test_a_collapsed_codebook_is_diagnosed_and_repaired(capsys: pytest.CaptureFixture[str]):
    runpy.run_path(str(EXAMPLES / "collapsed_codebook.py"))
    rows = [line.rsplit(maxsplit=6) for line in capsys.readouterr().out.splitlines()[1:]]
    sizes, used, dead, revived = ([int(row[n]) for row in rows] for n in (1, 2, 3, 4))
    errors = [float(row[6]) for row in rows]
    assert [row[0].split(":")[0].strip() for row in rows] == [
        "collapsed",
        "without training",
        "extended by some vectors",
        "refitted",
        "with training",
        "refitted",
        "frozen, for a decoder to train",
    ]
    collapsed, pruned, extended, refitted, healed, exact, frozen = range(7)
    assert dead[collapsed] > 0.9 * sizes[collapsed]
    assert errors[pruned] == pytest.approx(errors[collapsed], rel=0.05)  # other vectors
    assert sizes[pruned] == used[collapsed] == used[pruned]
    assert errors[refitted] < 0.5 * errors[extended] < 0.5 * errors[pruned]
    assert used[healed] == sizes[healed] == 64
    assert revived[healed] > 0 == revived[collapsed]
    assert errors[exact] <= errors[healed] * 1.05
    assert errors[exact] < 1.2 * 0.1**2  # the noise of the clusters alone
    assert errors[frozen] == pytest.approx(errors[exact], rel=0.05)


def test_a_layer_in_a_foreign_network_learns_and_uses_its_codebook(
    capsys: pytest.CaptureFixture[str],
):
    runpy.run_path(str(EXAMPLES / "foreign_network.py"))
    words = capsys.readouterr().out.split()
    assert float(words[3].rstrip(",")) < 0.05
    assert int(words[4]) > 0.9 * int(words[6])


def test_a_language_model_reads_an_export_and_learns_what_follows_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Codes that count upward from anywhere: only the first one of an item is left to chance."""
    rng = np.random.default_rng(0)
    codes = (rng.integers(0, 32, (200, 1)) + np.arange(12)) % 32
    tokens = write_tokens(tmp_path / "tokens", (LevelSpec((3, 4), (32,)),), codes)
    export_tokens(tokens, tmp_path / "out", "memmap")
    source = (EXAMPLES / "language_model.py").read_text()
    assert "vqkit" not in {line.split()[1] for line in source.splitlines() if "import " in line}
    monkeypatch.setattr(sys, "argv", ["language_model.py", str(tmp_path / "out")])
    runpy.run_path(str(EXAMPLES / "language_model.py"))
    found = re.findall(r"[\d.]+\d", capsys.readouterr().out)
    learned, before, even = map(float, found)
    assert even == pytest.approx(np.log(34), abs=1e-3)
    assert before > 0.9 * even
    assert learned < 0.25 * even
    assert learned > 0.9 * np.log(32) / 14  # one of the 14 tokens of an item nobody can know


@pytest.mark.slow
def test_sound_that_is_coded_while_it_comes_in_has_the_codes_of_the_whole(
    capsys: pytest.CaptureFixture[str],
):
    runpy.run_path(str(EXAMPLES / "stream_sound.py"))
    latency, different, ratio = capsys.readouterr().out.splitlines()
    assert latency == "one code for 32 samples, heard 4 ms later"
    assert int(different.split()[-1]) <= 2  # of 128, where two entries are equally near
    assert float(ratio.split()[-2]) > 10


@pytest.mark.slow
def test_a_film_that_is_coded_frame_by_frame_has_the_codes_of_the_whole(
    capsys: pytest.CaptureFixture[str],
):
    runpy.run_path(str(EXAMPLES / "stream_video.py"))
    seen, different, ratio = capsys.readouterr().out.splitlines()
    assert seen.endswith("[1, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4]")
    assert int(different.split()[-3]) <= 4  # of 2560, where two entries are equally near
    assert float(ratio.split()[-2]) > 19


@pytest.mark.slow
def test_a_strong_decoder_ignores_a_gaussian_latent_and_not_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    rows = runpy.run_path(str(EXAMPLES / "posterior_collapse.py"))["rows"]
    assert len(capsys.readouterr().out.splitlines()) == len(rows) == 4
    _, saved, held, _ = zip(*rows.values(), strict=True)
    weak_latent, weak_codes, latent, codes = range(4)
    assert saved[weak_latent] > 0.2
    assert held[weak_latent] > 2
    assert saved[latent] < 0.02
    assert held[latent] < 0.2
    assert saved[codes] > 0.15
    assert held[codes] > 5
    assert saved[weak_codes] > saved[codes]  # what a decoder can tell alone, codes need not
    for _, _, _, right in rows.values():
        assert 0.4 < right < 0.8
    assert rows["PixelCNN, Gaussian"][3] == pytest.approx(0.5, abs=0.08)


@pytest.mark.slow
def test_strings_of_any_kind_come_back_and_those_like_the_data_at_less_cost(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.argv", ["lossless_text.py"])
    runpy.run_path(str(EXAMPLES / "lossless_text.py"))
    lines = capsys.readouterr().out.splitlines()
    known, other, strange = (float(line.split(", ")[-1].split()[0]) for line in lines)
    assert known < strange
    assert known < 3
    assert other < strange


@pytest.mark.slow
def test_semantic_ids_stay_and_valid_samples_are_items(capsys: pytest.CaptureFixture[str]):
    runpy.run_path(str(EXAMPLES / "semantic_ids.py"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "IDs that stayed: 1000"
    free, valid = (int(line.split(": ")[1]) for line in lines[2:4])
    assert free < valid == 200
