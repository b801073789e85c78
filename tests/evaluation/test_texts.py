"""What must hold for the figures and the page of texts, which have any length."""

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from tests.modalities.text import texts

from vqkit.autoencoder import VQVAE, Autoregressive
from vqkit.codes import Codes, Level
from vqkit.data import Example, TensorExamples
from vqkit.evaluation import Samples, code_reliance, evaluate, write_report
from vqkit.evaluation.reliance import partners_in
from vqkit.modalities.text import BYTES, TEXT
from vqkit.priors import Lengths, TransformerConfig, TransformerPrior
from vqkit.tokens.rows import pad

NUM = 17
BOTH = pytest.mark.parametrize("decoder", ["parallel", "autoregressive"])


@cache
def model(decoder: str) -> VQVAE:
    return texts.model(decoder).double().eval()


def flat_codes(one: VQVAE) -> tuple[Codes, ...]:
    examples = texts.many(NUM)
    return tuple(one.encode(examples.example(i).x.unsqueeze(0)) for i in range(NUM))


def prior(one: VQVAE) -> TransformerPrior:
    """With a model of lengths."""
    codes = flat_codes(one)
    longest = max(codes, key=lambda each: each.specs[0].grid).specs
    rows = [pad(each, longest) for each in codes]
    flat = [Example(each.flat()[0], None, each.flat_mask()[0]) for each in rows]

    class Rows(TensorExamples):
        def example(self, index: int, seed: int | None = None) -> Example:
            return flat[index]

    lengths = Lengths.of(Rows([each.x for each in flat]), longest)
    torch.manual_seed(1)
    return TransformerConfig(layers=1, width=16, heads=2).build(longest, None, lengths).double()


@BOTH
@torch.no_grad()
def test_figures_equal_a_loop_over_all_texts(decoder: str):
    one, examples, own = model(decoder), texts.many(NUM), prior(model(decoder))
    num = right = ends = right_ends = exact = tokens = 0
    nats, code_nats = 0.0, 0.0
    for i, codes in enumerate(flat_codes(one)):
        x = examples.example(i).x
        said = one.distribution(codes)
        assert isinstance(said, Autoregressive) == (decoder == "autoregressive")
        found = said.mode()[0]
        real = x != 0
        num, right = num + int(real.sum()), right + int((real & (found == x)).sum())
        ends, right_ends = ends + int((~real).sum()), right_ends + int((~real & (found == x)).sum())
        exact += bool((found == x).all())
        tokens += codes.specs[0].num_tokens
        nats -= float(said.log_prob(x.unsqueeze(0)))
        code_nats -= float(own.log_prob(pad(codes, own.specs)))
    for batch_size in (1, 5, 64):
        metrics = evaluate(one, examples, prior=own, batch_size=batch_size).metrics
        expected = {
            "byte_accuracy": right / num,
            "end_accuracy": right_ends / ends,
            "exact_match": exact / NUM,
            "bytes_per_item": num / NUM,
            "tokens_per_item": tokens / NUM,
            "codes_per_dim": tokens / num,
            "decoder_bits_per_dim": nats / math.log(2) / num,
            "code_bits_per_dim_prior": code_nats / math.log(2) / num,
            "code_bits_per_dim_uniform": 4 * tokens / num,
            "bits_per_dim_prior": (nats + code_nats) / math.log(2) / num,
        }
        assert {key: metrics[key] for key in expected} == pytest.approx(expected, rel=1e-6)


@BOTH
@torch.no_grad()
def test_reliance_is_against_the_codes_of_a_text_of_the_same_length(decoder: str):
    one, examples, nats, num = model(decoder), texts.many(NUM), 0.0, 0
    shifted = partners_in(examples, range(NUM))
    assert sorted(shifted) == list(range(NUM))
    for i, j in enumerate(shifted):
        x, y = (examples.example(k).x.unsqueeze(0) for k in (i, j))
        assert x.shape == y.shape
        assert (i == j) == (examples.lengths.count(x.shape[2]) == 1)
        if i != j:
            own, other = (one.distribution(one.encode(z)).log_prob(x) for z in (x, y))
            nats, num = nats + float(own - other), num + int((x != 0).sum())
    assert num > 0
    expected = nats / math.log(2) / num
    for batch_size in (1, 5, 64):
        found = code_reliance(one, examples, batch_size=batch_size)
        assert found == pytest.approx(expected, rel=1e-6)
        metrics = evaluate(one, examples, batch_size=batch_size, num_shown=0).metrics
        assert metrics["code_reliance_bits_per_dim"] == pytest.approx(expected, rel=1e-6)


def test_codes_longer_than_the_priors_are_refused_in_one_line():
    level = Level(torch.zeros(1, 5, 1, dtype=torch.int64), (16,))
    short = Level(torch.zeros(1, 4, 1, dtype=torch.int64), (16,))
    with pytest.raises(ValueError, match=r"an item has \(5,\) codes, more than \(4,\); leave"):
        pad(Codes((level,)), Codes((short,)).specs)


def test_the_page_shows_texts_with_their_errors_and_new_ones(tmp_path: Path):
    one = model("parallel")
    found = evaluate(one, texts.many(NUM), prior=prior(one))
    assert found.shown is not None
    assert found.shown.originals is None
    assert len(found.items.media) == len(found.items.most) + len(found.items.least)
    drawn = [TEXT.media(texts.items()[0]), TEXT.media(BYTES.item([1 + ord("<")], 2))]
    samples = [Samples("learned", None, media=tuple(drawn))]
    page = write_report(tmp_path, found, title="t", samples=samples).read_text(encoding="utf-8")
    assert page.count("<mark>") > 5
    assert "what differs is marked" in page
    assert "Likely and unlikely texts" in page
    assert "&lt;" in page
    assert "A dimension is one byte" in page
    assert not list((tmp_path / "pictures").glob("*.png"))
