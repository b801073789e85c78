"""Training of a prior."""

from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from vqkit import distributed
from vqkit.codes import Codes
from vqkit.data.batch import Batch
from vqkit.data.example import Examples
from vqkit.data.loader import in_order
from vqkit.priors import Conditioning, HistogramPrior, Prior
from vqkit.training.runtime import Runtime
from vqkit.training.task import StepOutput, Task


class PriorTask(Task):
    """Learns how likely codes are.

    Args:
        model: The prior; batches hold flat codes (B, L) int64.
    """

    model: Prior

    def forward(self, batch: Batch, measure: bool = False) -> StepOutput:
        return StepOutput(self.model.loss(self._codes(batch), self._given(batch)))

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return self.model.counts(self._codes(batch))

    def _codes(self, batch: Batch) -> Codes:
        return codes_of(self.model, batch)

    def _given(self, batch: Batch) -> Conditioning | None:
        if self.model.num_classes is None or batch.labels is None:
            return None
        return Conditioning(labels=batch.labels)

    def describe(self) -> Any:
        from vqkit.priors import PriorConfig

        return TypeAdapter(PriorConfig).dump_python(self.model.config, mode="json")

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)


def codes_of(prior: Prior, batch: Batch) -> Codes:
    """The codes that a batch of flat ones stands for."""
    return Codes.from_flat(batch.x.long(), prior.specs, batch.mask)


@torch.no_grad()
def count(prior: HistogramPrior, examples: Examples, batch_size: int, runtime: Runtime) -> None:
    """One pass over all examples, for a prior that is counted and not optimised."""
    rank, world = distributed.rank(), distributed.world_size()
    num_batches = -(-len(examples) // (batch_size * world))
    for number in range(num_batches):
        first = (number * world + rank) * batch_size
        mine = range(min(first, len(examples)), min(first + batch_size, len(examples)))
        batches = list(in_order(examples, batch_size, indices=mine))
        prior.count(codes_of(prior, batches[0].to(runtime.device)) if batches else _none(prior))


def _none(prior: Prior) -> Codes:
    length = sum(spec.num_tokens for spec in prior.specs)
    empty = torch.zeros(0, length, dtype=torch.int64, device=prior.slot_sizes.device)
    return Codes.from_flat(empty, prior.specs)
