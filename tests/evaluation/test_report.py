"""What must hold for the report of an evaluation."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tokens.models import images, tokenizer

from vqkit.evaluation import Evaluation, Samples, evaluate, write_report
from vqkit.evaluation.captions import FONT
from vqkit.evaluation.codebook import CodebookStats
from vqkit.evaluation.history import read_baselines
from vqkit.evaluation.page import number
from vqkit.evaluation.report import triples
from vqkit.evaluation.run_sections import code_length
from vqkit.evaluation.sections import in_words
from vqkit.evaluation.style import STYLE
from vqkit.modalities.image import IMAGE

HOSTILE = '<script>alert("1")</script> & "ü"'


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails where a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(tokenizer(sizes=(16, 300)), images())


def samples() -> tuple[Samples, ...]:
    drawn = torch.rand(6, 1, 8, 12) * 2 - 1
    labels = ("a", "a", "<b>", "<b>", "ç", "ç")
    return Samples("Uniform prior", drawn, labels), Samples(HOSTILE, drawn, note="1 < 2 nats")


def test_the_page_needs_no_other_file_and_runs_nothing(tmp_path: Path, evaluation: Evaluation):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 2}\n{"step": 2, "loss": 1, "health": ["collapse <1>"]}\n'
    )
    path = write_report(tmp_path, evaluation, title=HOSTILE, samples=samples())
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    sources = [attrs[name] for _, attrs in page.tags for name in ("src", "href") if name in attrs]
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "url(" not in text
    assert "@import" not in text
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_names_are_shown_as_they_are_written(tmp_path: Path, evaluation: Evaluation):
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "health": ["collapse <1>"]}\n')
    path = write_report(tmp_path, evaluation, title=HOSTILE, samples=samples())
    page = Page(path.read_text(encoding="utf-8"))
    assert page.text.count(HOSTILE) >= 3  # page title, heading, name of a prior
    assert "collapse <1>" in page.text
    assert "1 < 2 nats" in page.text
    assert "<b>" in page.text
    assert "b" not in {tag for tag, _ in page.tags}


def test_every_figure_is_shown_with_the_number_of_images_and_vectors(
    tmp_path: Path, evaluation: Evaluation
):
    page = Page(write_report(tmp_path, evaluation, title="t").read_text(encoding="utf-8"))
    assert "23 images (evaluation split)" in page.text
    assert "over 690 vectors" in page.text  # 23 x (6 + 24)
    for counted in ("138", "552"):
        assert f"Vectors counted{counted}" in page.text


def test_figures_of_the_page_are_those_of_the_metrics(tmp_path: Path, evaluation: Evaluation):
    page = Page(write_report(tmp_path, evaluation, title="t").read_text(encoding="utf-8"))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == evaluation.metrics
    for name in ("psnr_db", "mse_over_variance", "ssim", "code_bits_uniform"):
        assert number(metrics[name]) in page.text
    for level in metrics["levels"]:
        assert f"Perplexity{number(level['codebooks'][0]['perplexity'], 4)}" in page.text


def test_images_of_the_page_and_of_the_files_are_the_ones_evaluated(
    tmp_path: Path, evaluation: Evaluation
):
    path = write_report(tmp_path, evaluation, title="t", samples=samples())
    sources = re.findall(r'base64,([^"]+)"', path.read_text(encoding="utf-8"))
    first = np.array(Image.open(io.BytesIO(base64.b64decode(sources[0]))))
    original = evaluation.shown.originals[0, 0]
    assert torch.equal(torch.from_numpy(first), original)
    files = {file.name for file in (tmp_path / "pictures").iterdir()}
    assert files == {
        "reconstructions.png",
        "levels.png",
        "entries-0-0.png",
        "entries-1-0.png",
        "usage-0-0.svg",
        "usage-1-0.svg",
        "samples-uniform-prior.png",
        "samples-script-alert-1-script.png",
    }
    sheet = np.array(Image.open(tmp_path / "pictures" / "reconstructions.png"))
    enlarged = original.repeat_interleave(8, 0).repeat_interleave(8, 1)
    below = FONT + 8  # the headings
    assert torch.equal(torch.from_numpy(sheet[below : below + 64, :96, 0].copy()), enlarged)


CODES = {
    "num_items": 20,
    "decoder_bits_per_dim": 3.0,
    **{"code_bits_uniform": 800.0, "nats_per_token_uniform": 4.0, "code_bits_prior": 400.0},
    **{"nats_per_token_prior": 2.0, "code_bits_per_dim_uniform": 2.0, "bits_per_dim_uniform": 5.0},
    **{"code_bits_per_dim_prior": 1.0, "bits_per_dim_prior": 4.0},
}
NATS = {"uniform": 4.0, "histogram": 3.0, "transformer": 2.00001}


def test_the_histogram_has_a_column_over_the_same_items():
    text = Page(code_length(CODES, IMAGE, (20, NATS))).text
    assert "uniform prior" + "histogram" + "given prior" in text
    for figures in ("800.0600.0400.0", "4.0003.0002.000", "2.0001.5001.000", "5.0004.5004.000"):
        assert figures in text


@pytest.mark.parametrize(("num_items", "learned"), [(21, 2.0), (20, 2.1)])
def test_over_other_items_the_baselines_stand_apart(num_items: int, learned: float):
    text = Page(code_length(CODES, IMAGE, (num_items, NATS | {"transformer": learned}))).text
    assert "uniform prior" + "given prior" in text
    assert f"{num_items} images held out in training" in text
    assert f"4.0003.000{number(learned, 4)}" in text


@pytest.mark.parametrize("written", [None, "", "[]", "{}", '{"num_items": 1}', '{"num_items"'])
def test_without_baselines_that_can_be_read_there_is_no_column(tmp_path: Path, written: str | None):
    if written is not None:
        (tmp_path / "priors.json").write_text(written)
    found = read_baselines(tmp_path / "priors.json")
    assert found == (0, {})
    assert "histogram" not in code_length(CODES, IMAGE, found)


@pytest.mark.parametrize("num", [1, 3, 18])
def test_the_picture_of_reconstructions_is_no_strip(evaluation: Evaluation, num: int):
    assert evaluation.shown is not None
    items = {key: torch.zeros(num, 3, 64, 64).byte() for key in ("originals", "reconstructions")}
    shown = replace(evaluation.shown, code_maps=(torch.zeros(num, 3, 16, 16).byte(),), **items)
    width, height = triples(shown).size
    assert 1 / 2 < width / height < 3


def test_equal_evaluations_give_equal_files(tmp_path: Path, evaluation: Evaluation):
    for name in ("a", "b"):
        write_report(tmp_path / name, evaluation, title="t")
    first, second = (
        {file.name: file.read_bytes() for file in (tmp_path / name).rglob("*") if file.is_file()}
        for name in ("a", "b")
    )
    assert first == second


def test_what_is_not_there_is_left_out(tmp_path: Path, evaluation: Evaluation):
    bare = replace(evaluation, shown=None, atlases=(), levels=None)
    page = Page(write_report(tmp_path, bare, title="t").read_text(encoding="utf-8"))
    for heading in ("Images and their codes", "Samples", "Training", "Health", "Entries"):
        assert ("h2", heading) not in page.tags
        assert heading not in page.text.replace("Entries used", "")
    assert "img" not in {tag for tag, _ in page.tags}


@pytest.mark.parametrize(
    ("counts", "sentences"),
    [
        ([10] * 16, ["All 16 entries are used; none is dead.", "The use is nearly even"]),
        ([200] + [0] * 15, ["15 of 16 entries are dead (94 %)", "The use is very uneven"]),
        ([20] * 15 + [0], ["1 of 16 entries is dead (6.2 %)", "as if 15.0 entries"]),
        ([1] * 8 + [0] * 8, ["With 0.5 vectors for each entry these are few to judge by"]),
        ([0] * 16, ["No vector was counted."]),
    ],
)
def test_the_use_of_a_codebook_is_put_into_words(counts: list[int], sentences: list[str]):
    words = " ".join(in_words(CodebookStats(16, torch.tensor(counts))))
    for sentence in sentences:
        assert sentence in words


@pytest.mark.parametrize(
    ("num_alike", "words"),
    [
        (32, "The use is nearly even"),
        (29, "The use is nearly even"),
        (24, "The use is somewhat uneven"),
        (16, "The use is uneven"),
        (2, "The use is very uneven"),
    ],
)
def test_use_is_called_even_only_when_nearly_all_entries_count_alike(num_alike: int, words: str):
    """So many of 32 entries used alike have this perplexity, and the words go by it alone."""
    counts = torch.zeros(32).long().index_fill(0, torch.arange(num_alike), 100)
    assert words in " ".join(in_words(CodebookStats(32, counts)))


def test_a_lone_chart_is_no_wider_than_one_of_three():
    """``auto-fit`` would give the room of the missing charts to it."""
    rule = re.search(r"\.charts {([^}]+)}", STYLE)
    assert rule is not None
    assert "auto-fill" in rule[1]
    assert "auto-fit" not in rule[1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (26.31921, "26.3"),
        (0.021115, "0.0211"),
        (0.5, "0.5"),
        (57, "57"),
        (245000, "245,000"),
        (1234.5, "1,234"),
        (96.0, "96.0"),
        (0.0, "0"),
        (0.00001234, "0.00001"),
        (99.96, "100"),
    ],
)
def test_figures_have_three_digits_that_matter(value: float, text: str):
    assert number(value) == text
