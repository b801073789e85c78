"""The whole path by commands, from a folder of recordings to new recordings."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
from tests.cli.conftest import Cli
from tests.cli.folders import TINY_PRIOR
from tests.modalities.audio.sounds import RATE, file_of, make_sounds, tone
from tests.modalities.audio.test_data import BAD

from vqkit.cli import run
from vqkit.cli.failures import guarded
from vqkit.config import load_config
from vqkit.tokens import TokenSet

TINY = [
    "model.network.patch=2",
    "model.network.strides=[4]",
    "model.network.hidden=8",
    "model.network.units=0",
    "model.network.depth=1",
    "model.network.dim=6",
    "model.quantizer.stages=3",
    "model.quantizer.quantizer.codebook_size=8",
    "model.objective.windows=[16,64]",
    "train.steps=4",
    "train.batch_size=8",
    "train.checkpoint_every=2",
    "train.device=cpu",
]


@dataclass(frozen=True)
class Made:
    sounds: Path
    run: Path
    tokens: Path
    prior: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Recordings of two classes, a tokenizer of them, their tokens, and a prior of those."""
    home = tmp_path_factory.mktemp("audio")
    found = Made(home / "sounds", home / "run", home / "tokens", home / "prior")
    make_sounds(found.sounds, 20)
    words = (
        ["train", "spoken-digits", f"data.path={found.sounds}", *TINY, "-o", found.run],
        ["encode", found.run, found.sounds, found.tokens],
        ["train-prior", found.tokens, *TINY_PRIOR, "-t", found.run, "-o", found.prior],
    )
    for each in words:
        assert guarded(run, [str(word) for word in each]) == 0
    return found


def test_evaluate_gives_figures_for_each_number_of_stages_and_a_page_that_plays(
    cli: Cli, made: Made
):
    result = cli("evaluate", made.run)
    assert result.code == 0, result.err
    assert "over 2 recordings, held-out:" in result.out
    assert "SI-SDR, dB" in result.out
    metrics = json.loads((made.run / "metrics.json").read_text())
    assert [row["stages"] for row in metrics["stages"]] == [1, 2, 3]
    assert "<audio controls" in (made.run / "report.html").read_text()


def test_inspect_and_config_speak_of_recordings(cli: Cli, made: Made):
    assert "over 2 recordings:" in cli("inspect", made.run).out
    assert "Hz" not in cli("config", "spoken-digits", "data.sample_rate").err


def test_decoded_files_are_as_long_as_those_that_were_encoded(cli: Cli, made: Made, tmp_path: Path):
    result = cli("decode", made.run, made.tokens, tmp_path / "out")
    assert result.code == 0, result.err
    assert "20 recordings" in result.out
    for path in made.sounds.rglob("*.wav"):
        again = tmp_path / "out" / path.relative_to(made.sounds)
        own, other = soundfile.info(path), soundfile.info(again)
        assert (own.frames, own.samplerate) == (other.frames, other.samplerate)


def test_new_recordings_are_drawn_as_files(cli: Cli, made: Made, tmp_path: Path):
    result = cli("sample", made.prior, "-n", 3, "-o", tmp_path / "new")
    assert result.code == 0, result.err
    files = sorted((tmp_path / "new").glob("*.wav"))
    assert len(files) == 3
    assert all(soundfile.info(path).samplerate == RATE for path in files)
    assert all(soundfile.info(path).frames % 8 == 0 for path in files)
    assert (tmp_path / "new" / "contact-sheet.png").is_file()
    longest = max(soundfile.info(path).frames for path in made.sounds.rglob("*.wav"))
    assert all(soundfile.info(path).frames <= longest + 8 for path in files)


def test_bad_recordings_are_listed_and_left_out(cli: Cli, made: Made, tmp_path: Path):
    make_sounds(tmp_path / "sounds", 4)
    for name, (make, _) in BAD.items():
        (tmp_path / "sounds" / "low" / f"{name}.wav").write_bytes(make())
    words = made.run, tmp_path / "sounds", tmp_path / "tokens"
    result = cli("encode", *words, "data.normalize=none")
    assert result.code == 0, result.err
    assert f"{len(BAD)} recordings cannot be read and are left out:" in result.err
    assert "Traceback" not in result.err
    assert len(TokenSet.open(tmp_path / "tokens")) == 4


def test_recordings_of_another_rate_are_resampled_to_the_models(
    cli: Cli, made: Made, tmp_path: Path
):
    (tmp_path / "one.wav").write_bytes(file_of(tone(1600, rate=16_000), rate=16_000))
    assert cli("encode", made.run, tmp_path / "one.wav", tmp_path / "tokens").code == 0
    assert TokenSet.open(tmp_path / "tokens").size(0) == (800,)


def test_settings_that_do_not_fit_each_other_are_named(cli: Cli, made: Made, tmp_path: Path):
    words = ["train", "spoken-digits", f"data.path={made.sounds}", "-o", tmp_path / "run"]
    found = cli(*words, "data.sample_rate=16000").failure
    assert "data.sample_rate is 16000, model.sample_rate 8000; make them equal" in found
    assert "data.channels is 2" in cli(*words, "data.channels=2").failure
    assert not (tmp_path / "run").exists()


def test_the_presets_of_sound_are_whole():
    for name in ("spoken-digits", "audio-speech"):
        config = load_config(name, ["data.path=nowhere"])
        assert config.data.type == config.model.type == "audio"
