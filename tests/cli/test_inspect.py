"""What must hold for what ``vqkit inspect`` finds out about codebooks."""

import json

import pytest
import torch
from tests.autoencoder.models import images, levels, small
from tests.cli.conftest import Cli, Made
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.cli.inspect import change, describe, look
from vqkit.data import TensorExamples
from vqkit.evaluation import evaluate
from vqkit.modalities.image import (
    ConvConfig,
    ImageModelConfig,
    LogisticMixtureConfig,
    PixelCNNDecoderConfig,
)
from vqkit.quantizers import (
    EMAConfig,
    FSQConfig,
    LFQConfig,
    MultiScaleConfig,
    ProductConfig,
    QuantizerConfig,
    ResidualConfig,
    VQConfig,
)

EMA = EMAConfig(codebook_size=16)
NUM = 24  # items, of 16 codes each


def found(model: VQVAE, x: Tensor | None = None, batch_size: int = 7) -> dict:
    channels = 1 if len(model.quantizers) > 1 else 3
    return look(model.eval(), TensorExamples(images(NUM, channels) if x is None else x), batch_size)


def settled(config: QuantizerConfig = EMA) -> VQVAE:
    """A model whose entries are at the means of the vectors of the images, all lately used."""
    model = small(config)
    model.refit([images(NUM)], passes=50)
    return model


def test_a_healthy_codebook_is_told_in_full_and_left_alone():
    model = settled()
    result = found(model)
    (book,) = result["codebooks"]
    assert book["name"] == "quantizer"
    assert (book["size"], book["dim"], book["metric"]) == (16, 4, "euclidean")
    assert (book["start"], book["moved_by"]) == ("kmeans", "averages")
    assert book["live"]["used"] == 16 - book["dead"] == 16
    z_e = model.inputs(images(NUM))[0].flatten(0, -2)
    z_q = model.quantizers[0].decode(model.quantizers[0].encode(z_e))
    error = float((z_e - z_q).square().mean())
    assert book["mse"] == pytest.approx(error, rel=1e-4)
    assert book["mse_share_of_variance"] == pytest.approx(
        error / float(z_e.var(0, correction=0).mean()), rel=1e-4
    )
    assert not [line for line in result["findings"] if "refit" in line]
    text = "\n".join(describe(book))
    assert "16 entries of length 4, euclidean" in text
    assert "from kmeans, by averages in 0 steps, 0 revivals" in text
    assert "at its end 16 of 16 in use" in text
    assert "of the variance of what it stands for" in text
    json.dumps(result)


def test_the_figures_do_not_depend_on_the_batches():
    model = settled()
    one, many = found(model, batch_size=NUM), found(model, batch_size=5)
    first, second = one["codebooks"][0], many["codebooks"][0]
    for key in ("mse", "mse_share_of_variance", "mse_of_means", "perplexity"):
        assert second.pop(key) == pytest.approx(first.pop(key), rel=1e-5)
    assert first == second


def test_entries_that_nobody_uses_are_named_and_then_pruned():
    model = settled()
    book = model.codebooks()["quantizer"]
    book.extend(100 + torch.randn(5, 4))
    book.unused_for[16:] = 10**6
    (line,) = [line for line in found(model)["findings"] if "model.prune()" in line]
    assert "5 entries are in nobody's use" in line
    book.unused_for[16] = 3
    book.average_counts[16] = 1  # training used this one just now
    assert "4 entries are in nobody's use" in " ".join(found(model)["findings"])
    book.unused_for[16] = 10**6
    codes = model.encode(images(NUM))
    model.prune()
    assert torch.equal(model.encode(images(NUM)).flat(), codes.flat())
    assert "model.prune()" not in " ".join(found(model)["findings"])


def test_entries_away_from_their_means_are_named_and_then_refitted():
    model = settled()
    with torch.no_grad():
        model.codebooks()["quantizer"].entries += 0.1
    before = found(model)
    (line,) = [line for line in before["findings"] if "not at the means" in line]
    told = before["codebooks"][0]["mse_of_means"]
    assert f"{told:.3g} instead of {before['codebooks'][0]['mse']:.3g}" in line
    model.refit([images(NUM)], passes=50)
    after = found(model)
    assert after["codebooks"][0]["mse"] <= told * (1 + 1e-5)
    assert "not at the means" not in " ".join(after["findings"])


def test_a_codebook_too_small_for_its_vectors_is_told_to_grow():
    model = settled(EMAConfig(codebook_size=3))
    assert "More entries would lower it" in " ".join(found(model)["findings"])


def test_entries_that_equal_another_are_told():
    model = settled()
    book = model.codebooks()["quantizer"]
    book.extend(book.entries[:2].detach())
    told = found(model)["codebooks"][0]
    assert told["duplicates"] == 2
    assert "; 2 equal another" in "\n".join(describe(told))


def test_of_few_vectors_nothing_is_concluded():
    model = small(EMA)
    with torch.no_grad():
        model.codebooks()["quantizer"].entries[:4] += 1000
    (line,) = found(model, images(1))["findings"]
    assert "too few to judge" in line


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (VQConfig(codebook_size=16), [""]),
        (ResidualConfig(quantizer=EMA, stages=2), ["stage 0", "stage 1"]),
        (ProductConfig(quantizer=EMA, shared=True), ["part 0", "part 1"]),
        (
            ProductConfig(quantizer=ResidualConfig(quantizer=EMA, stages=2)),
            ["part 0 stage 0", "part 0 stage 1", "part 1 stage 0", "part 1 stage 1"],
        ),
    ],
)
def test_every_part_of_a_composition_is_told_by_its_name(config: QuantizerConfig, names: list[str]):
    model = small(config)
    books = found(model)["codebooks"]
    assert [book["name"] for book in books] == [f"quantizer {name}".strip() for name in names]
    assert set(model.codebooks()) == {book["name"] for book in books}
    assert all(book["mse"] > 0 and "live" in book for book in books)
    if config == ResidualConfig(quantizer=EMA, stages=2):
        assert books[1]["mse"] < books[0]["mse"]


@pytest.mark.parametrize("config", [FSQConfig(levels=(3, 3, 3, 3)), LFQConfig()])
def test_of_a_quantizer_without_a_table_its_use_is_told(config: QuantizerConfig):
    (book,) = found(small(config))["codebooks"]
    assert book["num_vectors"] == NUM * 16
    assert "mse" not in book
    text = "\n".join(describe(book))
    assert "perplexity" in text
    assert "table" not in text


def test_scales_that_share_an_axis_of_the_codes_are_told_one_by_one():
    scales = MultiScaleConfig(quantizer=EMA, scales=((1, 1), (4, 4)))
    names = [book["name"] for book in found(small(scales))["codebooks"]]
    assert names == ["quantizer"]  # one codebook for all scales
    alone = MultiScaleConfig(quantizer=EMA, scales=((1, 1), (4, 4)), shared=False)
    books = {book["name"]: book for book in found(small(alone))["codebooks"]}
    assert list(books) == ["quantizer", "quantizer scale 0", "quantizer scale 1"]
    assert "mse" not in books["quantizer"]
    assert books["quantizer scale 0"]["num_vectors"] == NUM
    assert books["quantizer"]["num_vectors"] == NUM * 17


def test_levels_have_names_of_their_own():
    names = [book["name"] for book in found(levels(2))["codebooks"]]
    assert names == ["quantizer_0", "quantizer_1"]


def test_a_level_that_carries_nothing_is_named():
    model = levels(2)
    carried = found(model)["levels"]
    assert [level["mse_rise"] > 0.01 for level in carried] == [
        not any(f"level {number} of 2" in line for line in found(model)["findings"])
        for number in (1, 2)
    ]
    with torch.no_grad():  # the decoder reads the fine level first, then the coarse one
        model.decoder.join.mix.weight[:, 4:] = 0
    result = found(model)
    assert result["levels"][0]["mse_rise"] == 0
    (line,) = [line for line in result["findings"] if "level 1 of 2" in line]
    assert "carries nothing" in line
    assert found(settled())["levels"] == []


def test_inspecting_changes_nothing(cli: Cli, made: Made):
    before = {path: path.read_bytes() for path in made.run.rglob("*") if path.is_file()}
    result = cli("inspect", made.run, made.images)
    assert result.code == 0
    assert "  nearest entry  " in result.out
    assert {path: path.read_bytes() for path in made.run.rglob("*") if path.is_file()} == before


def test_levels_are_judged_as_in_an_evaluation():
    """Also by what an image costs, where that is known."""
    model = levels(2).eval()
    model.calibrate([images(NUM, 1)])
    x = TensorExamples(images(NUM, 1))
    measured = [each["exchanged"] for each in evaluate(model, x).metrics["levels"]]
    for ours, theirs in zip(found(model)["levels"], measured, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
        assert "bits/dim" in change(ours)
        assert "error" in change(ours)


def test_of_a_decoder_that_draws_pixel_after_pixel_the_cost_alone_is_told():
    torch.manual_seed(0)
    config = ImageModelConfig(
        channels=1,
        network=ConvConfig(levels=2, downsampling=2, hidden=8, residual_hidden=4, dim=4),
        decoder=PixelCNNDecoderConfig(width=8, layers=1),
        objective=LogisticMixtureConfig(num_components=2),
        quantizer=EMA,
    )
    carried = found(VQVAE.from_config(config), images(NUM, 1, size=8))["levels"]
    assert [set(each) for each in carried] == [{"decoder_bits_per_dim", "bits_per_dim_rise"}] * 2
    assert all(change(each).startswith("an image costs ") for each in carried)
