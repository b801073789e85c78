"""Recall, collisions and purity of codes of vectors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.pair import run_pair
from torch import Tensor, nn

from vqkit import distributed
from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.evaluation import measure_search
from vqkit.evaluation.search import recall
from vqkit.modalities.vector import IdentityConfig, SquaredErrorObjective, VectorModelConfig
from vqkit.quantizers import EMAConfig, EMAVectorQuantizer, ProductConfig, Residual

DIM = 4


def data(num: int, seed: int) -> Tensor:
    return torch.randn(num, DIM, generator=torch.Generator().manual_seed(seed))


def model() -> VQVAE:
    quantizer = ProductConfig(quantizer=EMAConfig(codebook_size=32), parts=2)
    config = VectorModelConfig(columns=DIM, network=IdentityConfig(), quantizer=quantizer)
    made = VQVAE.from_config(config)
    half = 300 // distributed.world_size()
    made.initialize([data(300, 0)[distributed.rank() * half :][:half]], seed=0)
    return made.eval()


def labelled(x: Tensor, labels: Tensor) -> TensorExamples:
    return TensorExamples(list(zip(x, labels.tolist(), strict=True)))


def by_loops(model: VQVAE, database: Tensor, queries: Tensor, depth: int) -> float:
    """recall@depth in float64, a query at a time."""
    decoded, hits = model.decode(model.encode(database)).double().numpy(), 0
    for query in queries.double().numpy():
        true = ((database.double().numpy() - query) ** 2).sum(1)
        seeming = ((decoded - query) ** 2).sum(1)
        found = np.argsort(seeming, kind="stable")[:depth]
        hits += bool((true[found] <= true.min() * (1 + 1e-9)).any())
    return hits / len(queries)


def test_recall_is_that_of_loops_over_all_vectors():
    database, queries = data(300, 1), data(40, 2)
    found = measure_search(model(), TensorExamples(list(database)), TensorExamples(list(queries)))
    for depth in (1, 10, 100):
        expected = by_loops(model(), database, queries, depth)
        assert found[f"recall_at_{depth}"] == pytest.approx(expected, abs=0.026)  # of equal codes
    assert 0 < found["recall_at_1"] < found["recall_at_10"] <= found["recall_at_100"]
    assert (found["num_searched"], found["num_queries"]) == (300, 40)
    assert "prefix_purity" not in found


def test_behind_a_network_the_decoded_vectors_are_searched():
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(DIM, 8), nn.Tanh(), nn.Linear(8, DIM))
    stages = Residual([EMAVectorQuantizer(DIM, 32) for _ in range(2)])
    network = VQVAE(nn.Identity(), stages, decoder, SquaredErrorObjective(DIM))
    network.initialize([data(300, 0)], seed=0)
    network.eval()
    database, queries = data(300, 1), data(40, 2)
    found = measure_search(network, TensorExamples(list(database)), TensorExamples(list(queries)))
    expected = by_loops(network, database, queries, 100)
    assert found["recall_at_100"] == pytest.approx(expected, abs=0.1)  # equal codes are ties


def test_a_copy_of_the_nearest_counts_as_the_nearest():
    vectors = torch.tensor([[5.0, 5], [1, 1], [1, 1], [9, 9]])
    queries = torch.tensor([[1.1, 1], [9, 8]])
    assert recall(vectors, queries, torch.tensor([[2], [0]])).tolist() == [1, 1, 1]
    assert recall(vectors, queries, torch.tensor([[2], [3]])).tolist() == [2, 2, 2]


def test_collisions_groups_and_purity_are_those_of_counting():
    database = data(200, 1)
    labels = (database[:, 0] > 0).long()
    found = measure_search(model(), labelled(database, labels), TensorExamples(list(data(5, 2))))
    codes = model().encode(database).flat().tolist()
    counts: dict[tuple, list[int]] = {}
    for row, label in zip(codes, labels.tolist(), strict=True):
        counts.setdefault(tuple(row), []).append(label)
    shared = sum(len(group) for group in counts.values() if len(group) > 1)
    assert found["collision_rate"] == pytest.approx(shared / 200)
    assert found["prefix_groups"] == [len({row[0] for row in codes}), len(counts)]
    pure = sum(max(group.count(0), group.count(1)) for group in counts.values())
    assert found["prefix_purity"][1] == pytest.approx(pure / 200)


def measured() -> dict[str, Any]:
    database, queries = TensorExamples(list(data(300, 1))), TensorExamples(list(data(41, 2)))
    return measure_search(model(), database, queries)


def test_two_processes_share_the_queries(tmp_path: Path):
    alone = measured()
    for found in run_pair(measured, tmp_path):
        assert found.keys() == alone.keys()
        assert all(found[name] == pytest.approx(value) for name, value in alone.items())
