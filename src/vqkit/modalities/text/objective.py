"""How probable each symbol is, and the loss that follows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass as config_dataclass
from torch import Tensor, nn

from vqkit import random
from vqkit.means import Mean
from vqkit.modalities.text.modality import TextModality
from vqkit.modalities.text.symbols import BYTES, Symbols
from vqkit.schema import STRICT

INTEGERS = (torch.uint8, torch.int16, torch.int32, torch.int64)


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class CategoricalConfig:
    """Likelihood of each symbol, among all that there are."""

    type: Literal["categorical"] = "categorical"

    def build(self, symbols: Symbols = BYTES) -> "CategoricalObjective":
        """The objective of texts of such symbols."""
        return CategoricalObjective(symbols)


@dataclass(frozen=True, slots=True)
class Categorical:
    """A probability for each symbol at each place, one place independent of the others.

    Attributes:
        logits: Log-probabilities up to a constant. (B, V, L)
    """

    logits: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of each item, in nats: an exact one.

        Args:
            x: Symbols. (B, 1, L) integers

        Returns:
            Sums over the symbols of an item. (B,) float64
        """
        nats = F.cross_entropy(self.logits.double(), x.squeeze(1).long(), reduction="none")
        return -nats.sum(1)

    def mode(self) -> Tensor:
        """The most probable symbol of each place, the lowest on ties. (B, 1, L) int64"""
        return self.logits.argmax(1, keepdim=True)

    def drawn(self, choose: "Callable[[Categorical, int], Tensor]") -> Tensor:
        """What is chosen from what is said of all places, from number 0 on. (B, 1, L)"""
        return choose(self, 0)

    def sample(self, seed: int, first: int = 0) -> Tensor:
        """Items, of which item i depends on (seed, first + i).

        Args:
            seed: Any integer.
            first: Number of the first item: draw many in parts by it.

        Returns:
            Symbols. (B, 1, L) int64
        """
        items, _, length = self.logits.shape
        device = self.logits.device
        numbers = torch.arange(first, first + items, device=device).unsqueeze(1)
        u = random.uniform(seed, numbers, torch.arange(length, device=device))
        cumulative = self.logits.double().softmax(1).cumsum(1)
        reached = cumulative > (u * cumulative[:, -1]).unsqueeze(1)
        return reached.byte().argmax(1, keepdim=True)


class CategoricalObjective(nn.Module):
    """Negative log-likelihood of the symbols.

    Args:
        symbols: What there is to choose from.
    """

    claims_likelihood = True
    table: Tensor
    lengths: Tensor

    def __init__(self, symbols: Symbols = BYTES) -> None:
        super().__init__()
        self.num_symbols = len(symbols)
        self._symbols: Symbols | None = symbols
        if symbols is not BYTES:
            self.register_buffer("table", torch.tensor([*symbols.joined], dtype=torch.uint8))
            self.register_buffer("lengths", symbols.lengths.clone())
            self.register_load_state_dict_pre_hook(take_table)

    @property
    def symbols(self) -> Symbols:
        """What each integer stands for; saved with the model."""
        if self._symbols is None:
            self._symbols = Symbols.of(self.table, self.lengths)
        return self._symbols

    @property
    def modality(self) -> TextModality:
        """Texts of these symbols."""
        return TextModality(self.symbols)

    def num_outputs(self, channels: int) -> int:
        """Outputs for each place: one for each symbol."""
        return self.num_symbols

    def normalize(self, x: Tensor) -> Tensor:
        """Symbols as the networks read them. (B, 1, L) int64

        Raises:
            TypeError: If they are no integers.
            ValueError: If they have several channels, or there are no such symbols.
        """
        if x.dtype not in INTEGERS:
            raise TypeError(f"texts are {x.dtype}; give symbols as integers, such as int16")
        if x.dim() != 3 or x.shape[1] != 1:
            raise ValueError(f"texts have shape {tuple(x.shape)}; give symbols (B, 1, L)")
        if x.numel() and not torch.compiler.is_compiling():
            low, high = int(x.min()), int(x.max())
            if low < 0 or high >= self.num_symbols:
                raise ValueError(
                    f"texts have symbols from {low} to {high}; the model knows 0 (the end) to "
                    f"{self.num_symbols - 1}"
                )
        return x.long()

    def distribution(self, outputs: Tensor) -> Categorical:
        """What the decoder's outputs (B, V, L) mean."""
        return Categorical(outputs.to(torch.promote_types(outputs.dtype, torch.float32)))

    def loss(self, outputs: Tensor, x: Tensor, mask: Tensor | None = None) -> dict[str, Mean]:
        """The negative log-likelihood in nats, a mean over real symbols, ends included.

        Args:
            outputs: What the decoder gave. (B, V, L)
            x: Symbols. (B, 1, L) int64
            mask: True where they are real; None when all are. (B, L) bool
        """
        logits = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        nats = F.cross_entropy(logits, x.squeeze(1), reduction="none")
        return {"reconstruction": Mean.over(nats, mask)}

    def measures(self, found: Tensor, x: Tensor, mask: Tensor | None) -> dict[str, Mean]:
        """What training logs of reconstructions: the share of symbols that are right.

        Args:
            found: Reconstructions. (B, 1, L) int64
            x: Symbols. (B, 1, L) int64
            mask: True where they are real; None when all are. (B, L) bool
        """
        return {"accuracy": Mean.over((found == x).squeeze(1).float(), mask)}

    def observe(self, batches: Iterable[Tensor]) -> None:
        """Does nothing: the likelihood needs no scale of the data."""

    def calibrate(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Does nothing: the likelihood is what is trained."""


def take_table(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Makes room for a saved table of symbols, whose file may not be at hand any more."""
    assert isinstance(module, CategoricalObjective)
    saved = state.get(f"{prefix}table")
    if saved is not None:
        module.table = module.table.new_empty(saved.shape)
        module._symbols = None
