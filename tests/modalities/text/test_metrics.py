"""What must hold for the figures of texts."""

import pytest
import torch
from tests.modalities.text.texts import collated, items

from vqkit.modalities.text import BYTES, Symbols, TextMetrics


def test_the_figures_are_those_of_a_loop_over_bytes_whatever_the_batches():
    torch.manual_seed(0)
    pairs = []
    for x in items(4):
        wrong = torch.where(torch.rand(x.shape) < 0.2, torch.randint(0, 257, x.shape), x.long())
        pairs.append((x, wrong))
    pairs.append((items(4)[0], items(4)[0].long()))
    right = total = ends = right_ends = exact = 0
    for x, y in pairs:
        for a, b in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True):
            if a:
                total, right = total + 1, right + (a == b)
            else:
                ends, right_ends = ends + 1, right_ends + (a == b)
        exact += BYTES.text(x) == BYTES.text(y) and bool((x == y).all())
    alone, together = TextMetrics(), TextMetrics()
    for x, y in pairs:
        alone.add(x.unsqueeze(0), y.unsqueeze(0))
    batch, other = collated([x for x, _ in pairs]), collated([y for _, y in pairs])
    together.add(batch.x, other.x, batch.mask)
    assert alone.results() == together.results()
    assert alone.results() == {
        "byte_accuracy": pytest.approx(right / total),
        "end_accuracy": pytest.approx(right_ends / ends),
        "exact_match": pytest.approx(exact / len(pairs)),
        "bytes_per_item": pytest.approx(total / len(pairs)),
    }
    assert 0 < exact < len(pairs)


def test_a_symbol_of_several_bytes_counts_for_as_many():
    metrics = TextMetrics(Symbols([b"", b"a", b"long"]))
    metrics.add(torch.tensor([[[1, 2]]]), torch.tensor([[[2, 2]]]))
    assert metrics.results()["byte_accuracy"] == pytest.approx(4 / 5)
    assert "end_accuracy" not in metrics.results()


def test_there_are_none_of_nothing():
    assert TextMetrics().results() == {}
