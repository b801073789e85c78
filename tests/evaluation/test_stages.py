"""What must hold for figures by the number of stages, and for a report of recordings."""

import math
from pathlib import Path

import pytest
import torch
from tests.modalities.audio.sounds import RATE, model, signals
from tests.tokens.models import images, tokenizer

from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.evaluation import Evaluation, evaluate, write_report
from vqkit.evaluation.stages import decode_stages
from vqkit.modalities.audio import AudioMetrics
from vqkit.priors import HistogramPrior

LENGTHS = [400, 333, 400, 64]


def examples() -> TensorExamples:
    return TensorExamples([signals(1, length, seed=i)[0] for i, length in enumerate(LENGTHS)])


def found(made: VQVAE, batch_size: int = 4) -> Evaluation:
    return evaluate(made, examples(), batch_size=batch_size)


def test_each_number_of_stages_is_measured_on_what_it_decodes_to():
    made = model()
    rows = found(made).metrics["stages"]
    assert [row["stages"] for row in rows] == [1, 2, 3]
    for row in rows:
        metrics = AudioMetrics(RATE)
        for i, length in enumerate(LENGTHS):
            x = examples().example(i).x.unsqueeze(0)
            decoded = decode_stages(made, made.encode(x), row["stages"])
            metrics.add(x, decoded[..., :length])
        for name, value in metrics.results().items():
            assert row[name] == pytest.approx(value, abs=1e-4)


def test_all_stages_together_are_what_the_model_decodes():
    made = model(delay=1)
    codes = made.encode(signals(2, 100))
    assert decode_stages(made, codes, 3).equal(made.decode(codes))
    metrics = found(made).metrics
    last = metrics["stages"][-1]
    assert last["si_sdr_db"] == metrics["si_sdr_db"]
    assert last["kbps"] == pytest.approx(metrics["kbps"])


def test_the_bit_rate_is_what_the_codes_of_all_recordings_cost_for_each_second():
    metrics = found(model()).metrics
    codes, seconds = sum(-(-length // 8) for length in LENGTHS), sum(LENGTHS) / RATE
    for row in metrics["stages"]:
        expected = codes * row["stages"] * math.log2(8) / seconds / 1000
        assert row["kbps"] == pytest.approx(expected)


def test_a_prior_has_a_bit_rate_of_its_own():
    made = model()
    same = TensorExamples([signals(1, 400, seed=i)[0] for i in range(4)])
    codes = made.encode(torch.stack([same.example(i).x for i in range(4)]))
    prior = HistogramPrior(codes.specs)
    prior.count(codes)
    metrics = evaluate(made, same, prior=prior.eval()).metrics
    bits = metrics["code_bits_prior"] * RATE / 400 / 1000
    assert metrics["kbps_prior"] == pytest.approx(bits)
    assert metrics["kbps_prior"] < metrics["kbps"]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_figures_do_not_depend_on_the_batch_size(batch_size: int):
    made = model().double()
    one, other = found(made, batch_size).metrics["stages"], found(made).metrics["stages"]
    for row, same in zip(one, other, strict=True):
        assert row == pytest.approx(same, rel=1e-4)


def test_the_report_has_the_table_and_plays_the_recordings(tmp_path: Path):
    page = write_report(tmp_path, found(model()), title="a run").read_text()
    assert page.count("<audio controls") == 2 * len(LENGTHS)
    assert "<h2>Stages</h2>" in page
    assert "Recordings and their codes" in page
    assert "at 8 kHz" in page


def test_images_and_models_without_stages_have_no_such_table():
    assert "stages" not in evaluate(tokenizer(), images(5)).metrics
    assert "stages" not in found(model(stages=1)).metrics
