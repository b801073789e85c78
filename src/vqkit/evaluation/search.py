"""How well codes of vectors serve search, and which items share them."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.codes import Codes
from vqkit.data import Examples, in_order
from vqkit.distributed import all_reduce, rank, world_size
from vqkit.evaluation.evaluation import Evaluation
from vqkit.modalities.vector.search import CodeIndex, Tables, nearest_vectors
from vqkit.nn.evaluating import device_of
from vqkit.tokens.prefixes import collision_rate, prefix_groups, purity

DEPTHS = (1, 10, 100)
MOST_VECTORS, MOST_QUERIES = 2**18, 2**13
CANDIDATES = 8  # in single precision, among which double precision finds the nearest
QUERIES = 64  # whose neighbours are compared at a time
SAME = 1e-9  # relative: distances that differ by less are equal but for rounding


@torch.no_grad()
def measure_search(
    model: VQVAE, database: Examples, queries: Examples, *, batch_size: int = 256
) -> dict[str, Any]:
    """Search for the nearest vectors by codes, and collisions; ranks share the queries.

    Args:
        model: Of vectors.
        database: What is kept as codes, and searched; evenly spread ones of very many.
        queries: Vectors that are not coded; evenly spread ones of very many.
        batch_size: Vectors encoded at once.

    Returns:
        ``recall_at_1``, ``recall_at_10`` and ``recall_at_100``: the share of queries of which a
        nearest vector is among so many that are found; ``num_searched`` and ``num_queries``;
        ``collision_rate`` of the searched vectors, ``prefix_groups``, the number of different
        first codes, first two and so on, and with labels ``prefix_purity``.
    """
    vectors, labels = read(database, MOST_VECTORS, batch_size)
    wanted, _ = read(queries, MOST_QUERIES, batch_size)
    device, parts = device_of(model), vectors.split(batch_size)
    codes = Codes.cat([model.encode(part.to(device)).to("cpu") for part in parts])
    mine = wanted[rank() :: world_size()]
    hits = recall(vectors, mine, found_by_codes(model, codes, mine))
    shares = (all_reduce(hits.to(device)) / len(wanted)).tolist()
    return {
        **{f"recall_at_{depth}": share for depth, share in zip(DEPTHS, shares, strict=True)},
        "num_searched": len(vectors),
        "num_queries": len(wanted),
        **shared_codes(codes, labels),
    }


def with_search(
    found: Evaluation, model: VQVAE, database: Examples, queries: Examples
) -> Evaluation:
    """What an evaluation of vectors found, and how well their codes serve search."""
    figures = measure_search(model, database, queries)
    return replace(found, metrics={**found.metrics, **figures})


def found_by_codes(model: VQVAE, codes: Codes, queries: Tensor) -> Tensor:
    """The numbers of the vectors that seem nearest, the nearest first: by table lookup, or among
    decoded vectors where they come out of a network. (B, D) -> (B, 100) int64"""
    (spec,) = codes.specs
    device = device_of(model)

    def decode(indices: Tensor) -> Tensor:
        part = Codes.from_flat(indices, [spec]).to(device)
        return model.decode(part).float().cpu()

    indices = codes.flat()
    try:
        index = CodeIndex(Tables.of(decode, spec.codebook_sizes))
    except ValueError:
        decoded = torch.cat([decode(part) for part in indices.split(2**12)])
        return nearest_vectors(decoded, queries, DEPTHS[-1])[1]
    index.add(indices)
    return index.search(queries, DEPTHS[-1])[1]


def recall(vectors: Tensor, queries: Tensor, found: Tensor) -> Tensor:
    """How many queries have a nearest vector among the first 1, 10 and 100 that were found.

    Vectors that are equally near are all nearest; distances are compared in float64.

    Args:
        vectors: All that were searched. (N, D)
        queries: (B, D)
        found: Numbers of vectors for each query, the nearest first. (B, k) int64

    Returns:
        (3,) float64
    """
    _, first = nearest_vectors(vectors, queries, CANDIDATES)
    hits = torch.zeros(len(DEPTHS), dtype=torch.float64)
    for some in torch.arange(len(queries)).split(QUERIES):
        query = queries[some].double().unsqueeze(1)
        least = (vectors[first[some]].double() - query).square().sum(-1).amin(1, keepdim=True)
        own = (vectors[found[some]].double() - query).square().sum(-1)
        near = own <= least * (1 + SAME)
        hits += torch.stack([near[:, :depth].any(1).sum() for depth in DEPTHS])
    return hits


def shared_codes(codes: Codes, labels: Tensor | None) -> dict[str, Any]:
    """Collisions, and how pure the groups of equal first codes are, where items have labels."""
    sizes = [size for spec in codes.specs for size in spec.codebook_sizes]
    groups = prefix_groups(codes.flat(), sizes)
    found: dict[str, Any] = {
        "collision_rate": collision_rate(groups[-1]),
        "prefix_groups": [int(group.max()) + 1 for group in groups],
    }
    if labels is not None:
        found["prefix_purity"] = [purity(group, labels) for group in groups]
    return found


def read(examples: Examples, most: int, batch_size: int) -> tuple[Tensor, Tensor | None]:
    """Vectors (N, D), and their labels (N,) if they have any, at most so many, evenly spread."""
    num = min(len(examples), most)
    chosen = [i * len(examples) // num for i in range(num)]
    batches = list(in_order(examples, batch_size, indices=chosen))
    labels = [batch.labels for batch in batches if batch.labels is not None]
    return torch.cat([batch.x for batch in batches]), torch.cat(labels) if labels else None
