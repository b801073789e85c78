"""Training of a prior."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqkit import distributed, storage
from vqkit.codes import Codes
from vqkit.data.batch import Batch
from vqkit.data.example import Examples
from vqkit.data.loader import in_order
from vqkit.priors import Conditioning, CountedPrior, Prior, saving
from vqkit.training.config import TrainConfig
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
        return given_in(self.model, batch)

    def describe(self) -> Any:
        return saving.describe(self.model)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        self.model.resize(storage.saved_shapes(folder))
        super().load(folder)

    @contextmanager
    def attached(self, config: TrainConfig) -> Iterator[None]:
        if config.compile:
            raise ValueError("train.compile is true, but priors cannot be compiled; leave it false")
        yield


def codes_of(prior: Prior, batch: Batch) -> Codes:
    """The codes that a batch of flat ones stands for."""
    return Codes.from_flat(batch.x.long(), prior.specs, batch.mask)


def given_in(prior: Prior, batch: Batch) -> Conditioning | None:
    """What a batch tells the prior; labels that it does not know of are not for it."""
    return None if prior.num_classes is None else Conditioning(labels=batch.labels)


@torch.no_grad()
def count(prior: CountedPrior, examples: Examples, batch_size: int, runtime: Runtime) -> None:
    """Counts all examples, in one pass: for a prior that is not optimised.

    Args:
        prior: Counted anew.
        examples: Whose x are flat codes.
        batch_size: Items that are read at once, over all processes.
        runtime: Where.
    """
    prior.start_counting()
    rank, world = distributed.rank(), runtime.world_size
    size = max(1, batch_size // world)
    rounds = -(-len(examples) // (size * world))
    batches = in_order(examples, size, indices=_share(len(examples), size, rank, world))
    for _ in range(rounds):
        batch = next(batches, None)  # every rank counts equally often, the last ones perhaps none
        batch = _none(prior) if batch is None else batch.to(runtime.device)
        prior.count(codes_of(prior, batch), given_in(prior, batch))
    prior.end_counting()


def _share(num: int, size: int, rank: int, world: int) -> list[int]:
    """Every ``world``-th batch of the items, beginning with batch number ``rank``."""
    starts = range(rank * size, num, size * world)
    return [i for start in starts for i in range(start, min(start + size, num))]


def _none(prior: Prior) -> Batch:
    """A batch of no items."""
    empty = prior.slot_sizes.new_zeros(0, len(prior.slot_sizes))
    return Batch(empty, None, empty.sum(1), empty.sum(1))
