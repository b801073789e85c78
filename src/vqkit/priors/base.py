"""The contract every prior keeps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from vqkit.codes import Codes, LevelSpec
from vqkit.means import Mean
from vqkit.nn.dropout import no_dropout
from vqkit.priors import saving
from vqkit.priors.checks import check_drawing, checked_codes, checked_integers
from vqkit.priors.conditioning import Conditioning, ConditioningSpec, check_conditioning
from vqkit.priors.known import Known
from vqkit.priors.lengths import Lengths
from vqkit.priors.sampling import Decoding
from vqkit.priors.slots import slots_of
from vqkit.priors.trie import Trie

if TYPE_CHECKING:
    from vqkit.priors import PriorConfig

LENGTH_STREAM = -1
"""The word that keeps the numbers of lengths apart from those of slots."""


class Prior(nn.Module, ABC):
    """A distribution over codes: tells how likely codes are, and draws new ones.

    It sees codes alone: any number of levels, codebooks and positions. A masked position has no
    part in any probability of integers, whatever it holds. Where items are of unequal length, a
    prior built with ``lengths`` also says how probable the length is, and draws it; without,
    its probabilities are those of the integers given the mask, and its samples have no masks.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What it is told of the items.
        lengths: How long items are; None when all are as long.

    Raises:
        ValueError: If there are no levels.
        TypeError: If ``conditioning`` is something else.
    """

    exact: bool = True
    """Whether ``log_prob`` is the log-probability; else it estimates a lower bound of it."""
    completes_any: bool = False
    """Whether ``sample`` completes any known integers, or only those that come first."""
    in_steps: bool = False
    """Whether ``sample`` draws many integers at once, in a number of steps."""

    slot_sizes: Tensor
    """Number of entries that each slot of ``Codes.flat`` chooses from. (L,) int64"""

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> None:
        super().__init__()
        if not specs:
            raise ValueError("specs is empty; give the shape of at least one level")
        if not isinstance(conditioning, ConditioningSpec | None):
            raise TypeError(
                f"conditioning is {conditioning}; give a ConditioningSpec, such as "
                "ConditioningSpec(num_classes=10)"
            )
        if lengths is not None:
            lengths.check(specs)
        self.specs = tuple(specs)
        self.conditioning = conditioning or ConditioningSpec()
        self.lengths = lengths
        self.slots = slots_of(specs)
        sizes = torch.zeros(sum(spec.num_tokens for spec in specs), dtype=torch.int64)
        for slots in self.slots:
            sizes[slots.where] = slots.size
        self.register_buffer("slot_sizes", sizes, persistent=False)

    @property
    @abstractmethod
    def config(self) -> "PriorConfig":
        """The config that builds this prior."""

    @property
    def needs_conditioning(self) -> bool:
        """Whether all that it is told has to be there; else it may be left out."""
        return False

    @property
    def num_classes(self) -> int | None:
        """Number of classes of labels; None when it is told no labels."""
        return self.conditioning.num_classes

    @abstractmethod
    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        """What each integer costs; 0 where masked.

        Minus the log-probability of each after those before it in the prior's order; of a prior
        that is not exact, parts whose sum over the item is at least that in expectation.

        Args:
            codes: Of the levels of ``specs``. B items
            given: What is known of the items.

        Returns:
            Nats, in the order of ``Codes.flat``. (B, L)
        """

    @abstractmethod
    def draw(
        self, known: Known, given: Conditioning, decoding: Decoding, mask: Tensor | None
    ) -> Tensor:
        """Draws what is not known; called without dropout.

        Args:
            known: Integers that are given. B items
            given: What the items shall be; checked.
            decoding: How to draw.
            mask: Which integers are real; None when all are. (B, L) bool

        Returns:
            Integers in the order of ``Codes.flat``, 0 where not real. (B, L) int64
        """

    def tree(self, valid: Codes) -> Trie:
        """What may follow what in samples that keep to valid codes."""
        raise ValueError("valid is for priors that draw one integer after another; leave it out")

    def check_steps(self, steps: int) -> None:
        """Raises ValueError if samples cannot be drawn in so many steps."""
        if not self.in_steps:
            raise ValueError(
                f"steps is {steps}, but this prior draws one integer after another; leave it out"
            )

    def log_prob(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        """The log-probability of each item, without dropout whatever the mode.

        An estimate of a lower bound of it where ``exact`` is False. With ``lengths`` it includes
        that of the item's length.

        Args:
            codes: Of the levels of ``specs``. B items
            given: What is known of the items.

        Returns:
            Nats. (B,) float64

        Raises:
            ValueError: If codes or conditioning do not fit.
        """
        with no_dropout():
            nats = self.nats(codes, given).double().sum(1)
        return self.log_prob_lengths(codes).to(nats) - nats

    def log_prob_lengths(self, codes: Codes) -> Tensor:
        """The log-probability of the length of each item; 0 without ``lengths``. (B,) float64

        Raises:
            ValueError: If an item has holes.
        """
        if self.lengths is None:
            return torch.zeros(len(codes), dtype=torch.float64)
        return self.lengths.log_prob(codes.flat_mask(), self.specs, len(codes))

    @torch.no_grad()
    def sample(
        self,
        num: int,
        given: Conditioning | None = None,
        *,
        seed: int,
        first: int = 0,
        known: Codes | None = None,
        valid: Codes | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance: float = 1.0,
        steps: int | None = None,
    ) -> Codes:
        """Draws new codes; item i depends on (seed, first + i) only.

        Args:
            num: Number of items.
            given: What the items shall be.
            seed: Of all draws.
            first: Number of the first item: draw many in parts by it.
            known: Codes to complete, with masks that are True where a position is known. A prior
                with ``lengths`` draws the length first, of those that hold what is known.
            valid: The codes that items may have, any number of them; None for all.
            temperature: Divides the logits: below 1 more typical, above 1 more varied.
            top_k: Only the k most probable entries are drawn from; None for all.
            top_p: Only the fewest most probable that sum up to p; 0: the best alone, None: all.
            guidance: How much more the conditioning counts: 1 as trained, 2 to 4 more, 0 not.
            steps: In how many steps a prior draws that draws many integers at once.

        Returns:
            Codes on the device of the prior, with masks if it has ``lengths``. num items

        Raises:
            ValueError: If an argument is out of range, does not fit, or conditioning is missing.
        """
        for name, number in (("num", num), ("first", first)):
            if not isinstance(number, Integral) or number < 0:
                raise ValueError(f"{name} is {number!r}; give an integer of at least 0")
        decoding = Decoding(
            seed=seed,
            items=torch.arange(first, first + num, device=self.slot_sizes.device),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            guidance=guidance,
            steps=steps,
            valid=None if valid is None else self.tree(valid),
        )
        check_drawing(self, decoding)
        return self._complete(known, self.check_given(given, num), decoding)

    def _complete(self, known: Codes | None, given: Conditioning, decoding: Decoding) -> Codes:
        """Draws what is not known: the lengths, and then the integers."""
        num, device = len(decoding.items), self.slot_sizes.device
        fixed = Known.nothing(num, len(self.slot_sizes), device)
        if known is not None:
            fixed = Known.of(known.to(device), self.specs, num)
            fixed = Known(checked_integers(fixed.flat, self.slot_sizes), fixed.mask)
        mask = None
        if self.lengths is not None:
            u = decoding.uniform(LENGTH_STREAM, torch.arange(2, device=device))
            mask = self.lengths.sample(u, self.specs, fixed.mask)
        # In the type of the weights: a step is too small for a cast of its weights to pay.
        whole = torch.autocast(device.type, enabled=False)
        with whole, no_dropout():
            flat = self.draw(fixed, given.to(device), decoding, mask)
        return Codes.from_flat(flat, self.specs, mask)

    def loss(self, codes: Codes, given: Conditioning | None = None) -> dict[str, Mean]:
        """What training makes smaller: nats per integer, by name; arguments as ``log_prob``."""
        total = self.nats(codes, given).sum()
        if self.lengths is not None:
            total = total - self.log_prob_lengths(codes).sum().to(total)
        return {name: Mean(total, count) for name, count in self.counts(codes).items()}

    def counts(self, codes: Codes) -> dict[str, Tensor]:
        """The counts of ``loss``, known without computing it. Each () int64"""
        mask, flat = codes.flat_mask(), codes.flat()
        count = torch.tensor(flat.numel(), device=flat.device) if mask is None else mask.sum()
        return {"nats_per_token": count}

    def check_codes(self, codes: Codes) -> Tensor:
        """Their integers in a row, 0 where masked.

        Returns:
            Integers, in the order of ``Codes.flat``. (B, L) int64

        Raises:
            ValueError: If the levels are others than those of ``specs``, or an index is no entry.
        """
        return checked_codes(codes, self.specs, self.slot_sizes)

    def check_given(self, given: Conditioning | None, num: int) -> Conditioning:
        """What is known of ``num`` items; raises ValueError if it does not fit or is missing."""
        return check_conditioning(given, self.conditioning, num, needed=self.needs_conditioning)

    def resize(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Makes room for what was saved, where that depends on what was counted.

        Args:
            shapes: Of the saved tensors, by name.
        """

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes weights and config into a folder, made when missing."""
        saving.save(self, folder)

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: torch.device | str = "cpu") -> Self:
        """Opens what ``save_pretrained`` wrote; the class is that of what was saved.

        Args:
            folder: On this machine.
            device: Where to put the prior.

        Returns:
            The prior, in evaluation mode.

        Raises:
            FileNotFoundError: If the folder does not hold a saved model.
            ValueError: If it holds another kind of model, or was damaged.
        """
        prior = saving.load(folder)
        if not isinstance(prior, cls):
            name = type(prior).__name__
            raise ValueError(f"{folder} holds a {name}, not a {cls.__name__}; open it as Prior")
        return prior.to(device).eval()
