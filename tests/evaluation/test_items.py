"""What must hold for what each item costs."""

import csv
import io
import math
from pathlib import Path

import pytest
import torch
from tests.evaluation.test_evaluation import NUM, fitted, histogram_prior
from tests.pair import run_pair
from tests.tokens.models import images

from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.evaluation import evaluate, write_report
from vqkit.evaluation.items import ItemBits
from vqkit.modalities.image.objective import GaussianObjective
from vqkit.priors import Prior, TransformerConfig, UniformPrior

BOTH = pytest.mark.parametrize("sizes", [(16,), (16, 300)])


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@BOTH
def test_the_items_sum_up_to_the_totals(sizes: tuple[int, ...]):
    model = fitted(sizes)
    found = evaluate(model, images(NUM), prior=histogram_prior(model), batch_size=4)
    bits, metrics = found.items.bits, found.metrics
    dims = int(bits.dims.sum())
    assert dims == NUM * 8 * 12
    assert float(bits.codes.sum()) / NUM == pytest.approx(metrics["code_bits_prior"], rel=1e-12)
    decoder = float(bits.decoder.sum()) / dims
    assert decoder == pytest.approx(metrics["decoder_bits_per_dim"], rel=1e-12)
    whole = float((bits.per_dim * bits.dims).sum()) / dims
    assert whole == pytest.approx(metrics["bits_per_dim_prior"], rel=1e-12)


@BOTH
@torch.no_grad()
def test_each_item_has_its_own_likelihood(sizes: tuple[int, ...]):
    model, examples = fitted(sizes), images(NUM)
    prior = histogram_prior(model)
    bits = evaluate(model, examples, prior=prior, batch_size=4).items.bits
    for i in range(NUM):
        x = examples.example(i).x.unsqueeze(0)
        out = model(x)
        pixels = float(out.distribution.log_prob(model.objective.normalize(x)))
        assert float(bits.decoder[i]) == pytest.approx(-pixels / math.log(2), rel=1e-9)
        codes = float(prior.log_prob(out.codes))
        assert float(bits.codes[i]) == pytest.approx(-codes / math.log(2), rel=1e-9)


def test_the_levels_sum_up_to_the_codes_and_each_is_that_of_its_own_integers():
    model = fitted((16, 300))
    specs = evaluate(model, images(NUM)).specs
    bits = evaluate(model, images(NUM), prior=UniformPrior(specs)).items.bits
    coarse, fine = bits.levels
    assert coarse.tolist() == pytest.approx([specs[0].bits] * NUM)
    assert fine.tolist() == pytest.approx([specs[1].bits] * NUM)
    torch.manual_seed(0)
    prior = TransformerConfig(layers=1, width=16, heads=2).build(specs).double().eval()
    bits = evaluate(model, images(NUM), prior=prior).items.bits
    assert sum(bits.levels).tolist() == pytest.approx(bits.codes.tolist(), rel=1e-9)


def test_the_table_holds_every_item_by_name_and_its_figures(tmp_path: Path):
    model = fitted((16, 300))
    found = evaluate(model, images(NUM), prior=histogram_prior(model))
    write_report(tmp_path, found, title="t")
    table, bits = rows((tmp_path / "likelihood.csv").read_text()), found.items.bits
    assert [row["id"] for row in table] == [images(NUM).id(i) for i in range(NUM)]
    assert [row["label"] for row in table[:3]] == ["a", "<b>", "ç"]
    for i, row in enumerate(table):
        assert int(row["dims"]) == 96
        assert float(row["decoder_bits"]) == float(bits.decoder[i])
        assert float(row["code_bits"]) == float(bits.codes[i])
        both = float(row["decoder_bits"]) + float(row["code_bits"])
        assert float(row["bits_per_dim"]) == pytest.approx(both / 96)
        parts = float(row["code_bits_level_1"]) + float(row["code_bits_level_2"])
        assert parts == pytest.approx(float(row["code_bits"]))


def test_names_with_commas_and_quotes_are_read_back(tmp_path: Path):
    class Named(TensorExamples):
        def id(self, index: int) -> str:
            return f'a "{index}", b\n'

    examples = Named([images().example(i).x for i in range(3)])
    table = rows(evaluate(fitted(), examples).items.table())
    assert [row["id"] for row in table] == [examples.id(i) for i in range(3)]
    assert [row["label"] for row in table] == ["", "", ""]


def test_without_a_claim_the_table_has_the_codes_alone():
    class Silent(GaussianObjective):
        claims_likelihood = False

    model = fitted()
    bare = VQVAE(model.encoder, list(model.quantizers), model.decoder, Silent()).double().eval()
    found = evaluate(bare, images(5), prior=histogram_prior(model))
    assert found.items.bits.per_dim is None
    for row in rows(found.items.table()):
        assert (row["decoder_bits"], row["bits_per_dim"]) == ("", "")
        assert float(row["code_bits"]) > 0


def item_bits(per_dim: list[float]) -> ItemBits:
    codes = torch.tensor(per_dim).double() * 2
    num = len(per_dim)
    return ItemBits(torch.full((num,), 2), None, torch.zeros(num).double(), codes, ())


def test_the_extremes_are_those_of_a_sort_and_no_item_is_both():
    bits = item_bits([3.0, 1.0, 2.0, 1.0, 5.0])
    assert bits.extremes(2) == ([1, 3], [4, 0])
    assert bits.extremes(9) == ([1, 3], [4, 0])
    assert item_bits([3.0]).extremes(2) == ([], [])


def test_the_page_shows_the_most_and_the_least_likely_images_with_their_figures(tmp_path: Path):
    model = fitted()
    found = evaluate(model, images(NUM), prior=histogram_prior(model))
    assert len(found.items.most) == len(found.items.least) == 8
    for place, index in enumerate((*found.items.most, *found.items.least)):
        assert torch.equal(found.items.pictures[place], images(NUM).example(index).x)
    text = write_report(tmp_path, found, title="t").read_text(encoding="utf-8")
    assert "Likely and unlikely images" in text
    assert "at most" not in text
    assert "&lt;b&gt;" in text


class Bounded(UniformPrior):
    exact = False


def test_a_prior_that_has_only_a_bound_is_said_to_cost_at_most_so_much(tmp_path: Path):
    model = fitted()
    exact = evaluate(model, images(NUM), prior=histogram_prior(model)).metrics
    assert exact["prior_exact"] is True
    specs = evaluate(model, images(NUM)).specs
    found = evaluate(model, images(NUM), prior=Bounded(specs))
    assert found.metrics["prior_exact"] is False
    text = write_report(tmp_path, found, title="t").read_text(encoding="utf-8")
    assert "given prior, at most" in text
    assert "nats/token at most" in text
    assert "bits/dim at most" in text
    assert "has a bound and no exact probability" in text
    assert "lossless copy of an image costs at most" in text


def each_item(folder: Path) -> tuple[list[float], tuple[str | None, ...]]:
    model, prior = fitted(), Prior.from_pretrained(folder)
    found = evaluate(model, images(NUM), prior=prior, batch_size=4).items
    one = evaluate(model, images(1)).items  # a rank without any item
    return [*found.bits.codes.tolist(), *one.bits.codes.tolist()], found.labels


@pytest.mark.slow
def test_two_processes_find_each_item_in_order(tmp_path: Path):
    histogram_prior(fitted()).save_pretrained(tmp_path / "prior")
    codes, labels = each_item(tmp_path / "prior")
    for found in run_pair(each_item, tmp_path, tmp_path / "prior"):
        assert found[0] == pytest.approx(codes, rel=1e-9)
        assert found[1] == labels
