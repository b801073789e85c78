"""What the training engine trains: any module that turns a batch into means."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vqkit import storage
from vqkit.data.batch import Batch
from vqkit.means import Mean
from vqkit.quantizers import Codebook
from vqkit.training.config import TrainConfig
from vqkit.training.health import Settings


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a task computes for one micro-batch.

    Attributes:
        objectives: By name, what is minimised: the sum of their values. Means with gradients.
        terms: By name, parts of the objectives that are logged beside them, without gradients.
        usage: By name, how often each entry of each codebook was used. Each (K,) int64
        measures: By name, what is only computed when asked for: "mse", or "bits_per_dim" where the
            decoder is autoregressive, "z_e_norm/NAME" for the mean norm of what the codebooks of
            that level see, and "exchanged_mse/NAME" for the error with its codes of other items.
            Without gradients.
    """

    objectives: dict[str, Mean]
    terms: dict[str, Mean] = field(default_factory=dict)
    usage: dict[str, Tensor] = field(default_factory=dict)
    measures: dict[str, Mean] = field(default_factory=dict)


class Task(nn.Module, ABC):
    """One kind of training. A subclass says what a batch costs, the engine does the rest.

    Args:
        model: What is trained, saved and returned.
    """

    unit: str = "items"
    """What the items are called in messages."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @property
    def trained(self) -> nn.Module:
        """Whatever is trained: the model, and what is trained beside it and not saved with it."""
        return self.model

    @abstractmethod
    def forward(self, batch: Batch, measure: bool = False) -> StepOutput:
        """The objectives of a micro-batch.

        Args:
            batch: Examples, on the device of the model.
            measure: Whether to compute ``measures``, too.
        """

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """The counts that the objectives of ``forward`` will have, without computing them. Each ()

        The engine adds them over ranks and micro-batches before the first backward pass, so that
        the gradient is that of the joined batch whatever the masks.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes the model where ``from_pretrained`` finds it."""

    def load(self, folder: Path) -> None:
        """Reads the weights that ``save`` wrote."""
        storage.load_weights(folder, self.model)

    @property
    def codebooks(self) -> dict[str, Codebook]:
        """The learned codebooks, by the names of ``StepOutput.usage``."""
        return {}

    @property
    def settings(self) -> dict[str, Settings]:
        """What is set of the quantizers, by the names of codebooks and levels; none if unknown."""
        return {}

    @property
    def has_psnr(self) -> bool:
        """Whether items are of values in [-1, 1], so that an error has a PSNR."""
        return True

    @property
    def only_starts(self) -> bool:
        """Whether there is nothing that an optimizer moves, and something that starts from data."""
        return False

    def initialize(self, batches: Sequence[Batch], seed: int) -> None:
        """Sets what is taken from data before step 0; every rank gives its share of the batches."""

    def commit(self) -> None:
        """Moves what moves once per optimizer step, after it."""

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Fits after training what is fitted then; every rank gives its share of the batches."""

    def describe(self) -> Any:
        """What a resumed run must have in common with this one, as JSON values."""
        return None

    def upgraded(self, described: Any) -> Any:
        """What an earlier version gave as ``describe``, as this one would have given it."""
        return described

    @contextmanager
    def attached(self, config: TrainConfig) -> Iterator[None]:
        """The time of training: what is changed for its sake is changed back afterwards."""
        yield
