"""What must hold for what each of several levels of codes carries."""

import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.autoencoder.models import built
from tests.autoencoder.models import images as grey_images
from tests.tokens.models import images, tokenizer
from torch import Tensor, multiprocessing, nn
from torch import distributed as dist

from vqkit.autoencoder import VQVAE
from vqkit.cli.evaluate import level_lines
from vqkit.codes import Codes, Level
from vqkit.data import TensorExamples
from vqkit.evaluation import Evaluation, evaluate, write_report
from vqkit.evaluation.levels import LEAST, findings, idle_levels, neutral
from vqkit.modalities.image import (
    ConvConfig,
    GaussianObjective,
    ImageModelConfig,
    LogisticMixtureConfig,
)
from vqkit.modalities.image.pixelcnn import PixelCNNDecoderConfig
from vqkit.quantizers import EMAConfig, EMAVectorQuantizer

NUM = 23
SIZES = (16, 300)


def two_levels() -> VQVAE:
    """A tokenizer of two levels that claims a likelihood."""
    model = tokenizer(sizes=SIZES).double()
    model.calibrate([torch.stack([images(NUM).example(i).x for i in range(NUM)])])
    return model


def exchanged_figures(evaluation: Evaluation) -> list[dict[str, float]]:
    return [level["exchanged"] for level in evaluation.metrics["levels"]]


def plain_loop(model: VQVAE, level: int) -> tuple[float, float]:
    """Mean squared error and bits per dimension, item by item, of one level from the one before."""
    errors, nats = [], []
    codes = [model.encode(images(NUM).example(i).x.unsqueeze(0)) for i in range(NUM)]
    for i in range(NUM):
        mixed = list(codes[i].levels)
        mixed[level] = codes[i - 1].levels[level]  # of the first item the last
        found = model.distribution(Codes(tuple(mixed)))
        x = images(NUM).example(i).x.unsqueeze(0)
        errors += ((x.double() / 127.5 - 1 - found.mode()) / 2).square().flatten().tolist()
        nats.append(-float(found.log_prob(model.objective.normalize(x))))
    return sum(errors) / len(errors), sum(nats) / math.log(2) / len(errors)


@pytest.mark.parametrize("batch_size", [1, 4, 23, 64])
def test_exchanged_codes_are_those_of_the_item_before_whatever_the_batches(batch_size: int):
    model = two_levels()
    found = evaluate(model, images(NUM), batch_size=batch_size)
    for level, figures in enumerate(exchanged_figures(found)):
        mse, bits = plain_loop(model, level)
        own = found.metrics["mse"], found.metrics["decoder_bits_per_dim"]
        expected = {
            "mse": mse,
            "mse_rise": (mse - own[0]) / own[0],
            "decoder_bits_per_dim": bits,
            "bits_per_dim_rise": bits - own[1],
        }
        assert figures == pytest.approx(expected, rel=1e-9)


def made(ignored: int | None = None) -> VQVAE:
    """The coarse level has the means of squares of 4 x 4, the fine level what is left of them.

    Args:
        ignored: A level that the decoder does not read.
    """

    class Encoder(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            coarse = nn.functional.avg_pool2d(x, 4)
            left = x - nn.functional.interpolate(coarse, scale_factor=4)
            return coarse, nn.functional.avg_pool2d(left, 2)

    class Decoder(nn.Module):
        def forward(self, *z_q: Tensor) -> Tensor:
            grown = [nn.functional.interpolate(z, scale_factor=8 // z.shape[-1]) for z in z_q]
            return torch.stack([z for level, z in enumerate(grown) if level != ignored]).sum(0)

    quantizers = [EMAVectorQuantizer(1, 64) for _ in range(2)]
    model = VQVAE(Encoder(), quantizers, Decoder(), GaussianObjective())
    x = stacked(blocks())
    model.initialize([x], seed=0)
    model.calibrate([x])
    return model


def blocks(num: int = 40) -> TensorExamples:
    """Grey images of 8 x 8 in squares of 4 x 4, each with squares of 2 x 2 of its own."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(60, 196, (num, 1, 2, 2), generator=generator)
    fine = torch.randint(-60, 61, (num, 1, 4, 4), generator=generator)
    grown = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)
    fine = fine.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return TensorExamples((grown + fine).clamp(0, 255).to(torch.uint8))


def stacked(examples: TensorExamples) -> Tensor:
    return torch.stack([examples.example(i).x for i in range(len(examples))])


@pytest.mark.parametrize("ignored", [0, 1])
def test_a_level_that_the_decoder_ignores_is_named_and_no_other(ignored: int):
    figures = exchanged_figures(evaluate(made(ignored), blocks()))
    assert figures[ignored]["mse_rise"] == pytest.approx(0, abs=1e-12)
    assert figures[ignored]["bits_per_dim_rise"] == pytest.approx(0, abs=1e-9)
    assert figures[1 - ignored]["mse_rise"] > 10 * LEAST
    assert idle_levels(figures) == [ignored]
    (line,) = findings(figures)
    assert line.startswith(f"level {ignored + 1} of 2, coarsest first, carries nothing: with the")
    assert "rises by 0.00%, less than 1%" in line
    assert f"health: {line}" in level_lines(figures)


def test_where_every_level_carries_something_none_is_named():
    figures = exchanged_figures(evaluate(made(), blocks()))
    assert min(each["mse_rise"] for each in figures) > 1
    assert min(each["bits_per_dim_rise"] for each in figures) > 1
    assert findings(figures) == []
    assert not [line for line in level_lines(figures) if "health" in line]


def test_what_a_level_carries_is_twice_the_variance_that_it_has():
    """Of exchanged codes, independent of the item's own, the error is twice their variance more."""
    model, examples = made(), blocks(600)
    found = evaluate(model, examples)
    levels = zip(model.quantizers, model.encode(stacked(examples)).levels, strict=True)
    for (quantizer, level), figures in zip(levels, exchanged_figures(found), strict=True):
        variance = (quantizer.decode(level.indices).double() / 2).var(correction=0)
        rise = figures["mse"] - found.metrics["mse"]
        assert rise == pytest.approx(2 * float(variance), rel=0.1)


def test_of_one_level_and_of_unlike_sizes_nothing_is_said():
    one = evaluate(tokenizer(), images(NUM))
    assert "exchanged" not in one.metrics["levels"][0]
    assert one.levels is None
    for batch_size in (1, 5, 12):
        ragged = evaluate(two_levels(), images(12, ragged=True), batch_size=batch_size)
        assert not [level for level in ragged.metrics["levels"] if "exchanged" in level]
    alone = evaluate(two_levels(), images(1))
    assert not [level for level in alone.metrics["levels"] if "exchanged" in level]


@pytest.mark.parametrize("device", ["cpu"])
def test_levels_that_are_left_out_say_what_is_nearest_to_their_mean(device: str):
    model = two_levels()
    found = evaluate(model, images(NUM), num_shown=5, device=device)
    assert found.levels is not None
    assert found.levels.indices == (0, 4, 9, 13, 18)
    x = stacked(images(NUM))
    codes = model.encode(x)
    fine = codes.levels[1]
    quantizer = model.quantizers[1]
    vectors = quantizer.decode(fine.indices).double().flatten(0, -2)
    entries = quantizer.decode(torch.arange(300).unsqueeze(1)).double()
    nearest = (entries - vectors.mean(0)).square().sum(1).argmin()
    blank = Level(torch.full_like(fine.indices, int(nearest)), fine.codebook_sizes)
    expected = model.decode(Codes((codes.levels[0], blank)))
    for place, index in enumerate(found.levels.indices):
        for images_, decoded in zip(
            found.levels.upto, (expected, model.decode(codes)), strict=True
        ):
            grey = ((decoded[index].float() + 1) * 127.5).round().byte()
            assert torch.equal(images_[place], grey)
    assert torch.equal(found.levels.originals, x[list(found.levels.indices)])


def test_neutral_codes_do_not_depend_on_the_item():
    model = two_levels()
    out = model.eval()(stacked(images(NUM)))
    for level in neutral(model, out, [torch.zeros(4), torch.ones(4)]):
        assert len(level.indices.unique()) == 1


def test_the_report_shows_levels_in_pictures_and_figures(tmp_path: Path):
    found = evaluate(made(0), blocks(), num_shown=5)
    page = write_report(tmp_path, found, title="t").read_text(encoding="utf-8")
    assert "<h2>Levels</h2>" in page
    assert "nearest to the mean" in page
    assert "Level 1 of 2, coarsest first, carries nothing" in page
    text = re.sub("<[^>]+>", " ", page)
    assert "Level 1, coarsest: exchanged" in text
    assert "Level 2, finest: exchanged" in text
    assert "+0.0 %" in text
    sheet = np.array(Image.open(tmp_path / "pictures" / "levels.png"))
    assert found.levels is not None
    original = found.levels.originals[0, 0].repeat_interleave(12, 0).repeat_interleave(12, 1)
    assert sheet.shape == (21 + 3 * 96 + 2 * 2, 6 * 96 + 2 * 2 + 2 * 2 + 24, 3)
    assert torch.equal(torch.from_numpy(sheet[21 : 21 + 96, :96, 0].copy()), original)
    bare = replace(found, levels=None)
    write_report(tmp_path / "bare", bare, title="t")
    assert not (tmp_path / "bare" / "pictures" / "levels.png").exists()
    one = write_report(tmp_path / "one", evaluate(tokenizer(), images(NUM)), title="t")
    assert "<h2>Levels</h2>" not in one.read_text(encoding="utf-8")


def test_of_three_levels_each_picture_has_one_more(tmp_path: Path):
    model = built(3).eval()
    x = grey_images(6, 1)
    found = evaluate(model, TensorExamples(x), num_shown=6)
    assert found.levels is not None
    assert len(found.levels.upto) == len(found.metrics["levels"]) == 3
    assert found.shown is not None
    assert torch.equal(found.levels.upto[-1], found.shown.reconstructions)
    for coarser, finer in pairwise(found.levels.upto):
        assert coarser.shape == x.shape
        assert not torch.equal(coarser, finer)
    page = write_report(tmp_path, found, title="t").read_text(encoding="utf-8")
    words = re.findall(r'<div class="soft">([^<]+)</div>', page)
    assert words == ["original", "level 1", "levels 1-2", "all levels"] * 6


def measure(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = evaluate(two_levels(), images(NUM), batch_size=4)
    pictures = found.levels.upto if found.levels is not None else ()
    torch.save((exchanged_figures(found), pictures), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_find_what_one_finds_of_levels(tmp_path: Path):
    multiprocessing.spawn(measure, (tmp_path,), nprocs=2)
    alone = evaluate(two_levels(), images(NUM), batch_size=4)
    for rank in range(2):
        figures, pictures = torch.load(tmp_path / f"{rank}.pt")
        for found, expected in zip(figures, exchanged_figures(alone), strict=True):
            assert found == pytest.approx(expected, rel=1e-9)
        assert alone.levels is not None
        assert all(map(torch.equal, pictures, alone.levels.upto))


def test_levels_of_a_decoder_of_one_pixel_after_another_are_judged_by_what_items_cost(
    tmp_path: Path,
):
    """To draw every item for every level would take hours."""
    torch.manual_seed(0)
    network = ConvConfig(hidden=8, residual_hidden=4, num_residual=1, dim=4, levels=2)
    model = VQVAE.from_config(
        ImageModelConfig(
            channels=1,
            network=network,
            quantizer=EMAConfig(codebook_size=8),
            decoder=PixelCNNDecoderConfig(width=8, layers=2),
            objective=LogisticMixtureConfig(num_components=2),
        )
    )
    items = torch.randint(0, 256, (5, 1, 16, 16), dtype=torch.uint8)
    evaluation = evaluate(model, TensorExamples(items), num_shown=2, num_entries=2, batch_size=2)
    assert "mse" not in evaluation.metrics
    own = evaluation.metrics["decoder_bits_per_dim"]
    for level in evaluation.metrics["levels"]:
        figures = level["exchanged"]
        assert figures.keys() == {"decoder_bits_per_dim", "bits_per_dim_rise"}
        rise = figures["decoder_bits_per_dim"] - own
        assert figures["bits_per_dim_rise"] == pytest.approx(rise, abs=1e-9)
    page = write_report(tmp_path, evaluation, title="run").read_text()
    assert "Level 1, coarsest: exchanged" in page
    lines = level_lines([level["exchanged"] for level in evaluation.metrics["levels"]])
    assert lines[0].startswith("  bits/dim, level 1 of another")
