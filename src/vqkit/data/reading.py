"""One batch by its number, or why it cannot be had."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset

from vqkit.data.batch import Batch, collate
from vqkit.data.example import Examples
from vqkit.data.sampler import Draw


@dataclass(frozen=True, slots=True)
class Failure:
    """An error while reading, which can be sent to the process that trains.

    Attributes:
        message: One line that names the item.
        note: Where in the code it was raised, for errors that nobody foresaw.
    """

    message: str
    note: str | None


class Reading(Dataset[Batch | Failure]):
    """Batches by number.

    Args:
        examples: What is read.
        draws: Gives the places of the batch with a number.
    """

    def __init__(self, examples: Examples, draws: Callable[[int], Sequence[Draw]]) -> None:
        self._examples = examples
        self._draws = draws

    def __getitem__(self, index: int) -> Batch | Failure:
        draws = self._draws(index)
        items = []
        for draw in draws:
            try:
                items.append(self._examples.example(draw.index, draw.seed))
            except Exception as error:  # a user's examples may raise anything
                return _failure(self._name(draw.index), error)
        try:
            return collate(items, [draw.position for draw in draws])
        except ValueError as error:
            return _failure(f"the batch with {self._name(draws[0].index)}", error)

    def warm_up(self, index: int) -> None:
        """Reads the first item of a batch, so that what is read once is there before a fork."""
        self._examples.example(self._draws(index)[0].index)

    def _name(self, index: int) -> str:
        describe: Callable[[int], str] | None = getattr(self._examples, "describe", None)
        return f"item {index}" if describe is None else f"item {index} ({describe(index)})"


def _failure(where: str, error: Exception) -> Failure:
    reason = " ".join(str(error).split())
    if isinstance(error, ValueError | OSError):
        return Failure(f"{where}: {reason}", None)
    return Failure(f"{where}: {type(error).__name__}: {reason}", traceback.format_exc())
