"""Running means between two log lines."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vqkit import distributed
from vqkit.evaluation.codebook import CodebookStats
from vqkit.means import Mean
from vqkit.training.task import StepOutput

OBJECTIVE, TERM, MEASURE = "objective", "term", "measure"


class Meters:
    """Means and histograms, added up on the device, and read only when they are logged."""

    def __init__(self) -> None:
        self.groups: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}
        self.usage: dict[str, Tensor] = {}

    def add(self, out: StepOutput) -> None:
        """Adds all that a task computed for a micro-batch."""
        parts = {OBJECTIVE: out.objectives, TERM: out.terms}
        self.add_means(
            {f"{kind}/{n}": m for kind, means in parts.items() for n, m in means.items()}
        )
        self.add_means({f"{MEASURE}/{name}": mean for name, mean in out.measures.items()})
        for name, counts in out.usage.items():
            before = self.usage.get(name)
            self.usage[name] = counts.clone() if before is None else before + counts

    @torch.no_grad()
    def add_means(self, means: Mapping[str, Mean]) -> None:
        """Adds means; those that come together are kept together, for one addition in all."""
        if not means:
            return
        totals = torch.stack([mean.total.detach().double() for mean in means.values()])
        counts = torch.stack([mean.count for mean in means.values()])
        before = self.groups.get(tuple(means))
        if before is not None:
            totals, counts = totals + before[0], counts + before[1]
        self.groups[tuple(means)] = (totals, counts)

    def join(self) -> None:
        """Moves what all ranks added to rank 0; every rank must call it."""
        share = 1 if distributed.is_main() else 0
        for names, (totals, counts) in self.groups.items():
            totals, counts = distributed.all_reduce(totals), distributed.all_reduce(counts)
            self.groups[names] = (totals * share, counts * share)
        for name, counts in self.usage.items():
            self.usage[name] = distributed.all_reduce(counts) * share

    def means(self) -> dict[str, float]:
        """The values of all means that counted something, on rank 0 after ``join``."""
        values = {}
        for names, (totals, counts) in self.groups.items():
            pairs = zip(names, totals.tolist(), counts.tolist(), strict=True)
            values |= {name: total / count for name, total, count in pairs if count}
        return values

    def stats(self) -> dict[str, CodebookStats]:
        """The use of each codebook by name, on rank 0 after ``join``."""
        return {name: CodebookStats(len(c), c.cpu()) for name, c in self.usage.items()}

    def clear(self) -> None:
        """Begins a new interval."""
        self.groups.clear()
        self.usage.clear()

    def tensors(self) -> dict[str, Tensor]:
        """All that was added, for a checkpoint."""
        saved = {f"usage/{name}": counts for name, counts in self.usage.items()}
        for names, (totals, counts) in self.groups.items():
            key = ",".join(names)
            saved |= {f"totals/{key}": totals, f"counts/{key}": counts}
        return saved

    def load(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """The inverse of ``tensors``; what was added on all ranks is then on rank 0."""
        self.clear()
        share = 1 if distributed.is_main() else 0
        for full, tensor in tensors.items():
            kind, _, key = full.partition("/")
            if kind == "usage":
                self.usage[key] = tensor.to(device) * share
            elif kind == "totals":
                counts = tensors[f"counts/{key}"]
                pair = (tensor.to(device) * share, counts.to(device) * share)
                self.groups[tuple(key.split(","))] = pair


def named(kind: str, means: Mapping[str, Mean]) -> dict[str, Mean]:
    """Means by names that say of what kind they are."""
    return {f"{kind}/{name}": mean for name, mean in means.items()}


def report(meters: Meters, *, has_psnr: bool = True) -> dict[str, Any]:
    """Running means as metrics.jsonl says them, on rank 0 after ``join``.

    Args:
        meters: What was added up.
        has_psnr: Whether values are in [-1, 1], so that the error has a PSNR.

    Returns:
        The loss; its terms by name; ``mse``, ``psnr`` in dB for values in [-1, 1] (None for a
        perfect copy) or ``bits_per_dim``, norms and, for the codebooks in their order, lists of
        what is known of their use, where the task measures them.
    """
    kinds: dict[str, dict[str, float]] = {OBJECTIVE: {}, TERM: {}, MEASURE: {}}
    for full, value in meters.means().items():
        kind, _, name = full.partition("/")
        kinds[kind][name] = value
    objectives, measures = kinds[OBJECTIVE], kinds[MEASURE]
    values: dict[str, Any] = {"loss": sum(objectives.values()), "terms": objectives | kinds[TERM]}
    norms = {}
    for name, value in measures.items():
        kind, _, level = name.partition("/")
        if level:
            norms.setdefault(kind, []).append(value)
        else:
            values[name] = value
    if "mse" in measures and has_psnr:
        mse = measures["mse"]
        values["psnr"] = 10 * math.log10(4 / mse) if mse > 0 else None
    return values | norms | _usage(meters.stats())


def _usage(stats: Mapping[str, CodebookStats]) -> dict[str, list]:
    if not stats:
        return {}
    each = list(stats.values())
    return {
        "perplexity": [s.perplexity for s in each],
        "usage": [s.usage for s in each],
        "kl_to_uniform_nats": [s.kl_to_uniform_nats for s in each],
        "dead": [s.dead for s in each],
        "num_vectors": [s.num_vectors for s in each],
    }
