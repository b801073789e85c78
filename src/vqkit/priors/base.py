"""The contract every prior keeps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from vqkit import storage
from vqkit.codes import Codes, LevelSpec
from vqkit.means import Mean
from vqkit.nn.dropout import no_dropout
from vqkit.priors.conditioning import Conditioning
from vqkit.priors.sampling import draw
from vqkit.priors.slots import describe, slots_of

if TYPE_CHECKING:
    from vqkit.priors import PriorConfig

KIND = "prior"
SPECS = TypeAdapter(tuple[LevelSpec, ...])


class Prior(nn.Module, ABC):
    """A distribution over codes: tells how likely codes are, and draws new ones.

    It sees codes alone: any number of levels, codebooks and positions. A masked position has no
    part in any probability or count, whatever it holds; samples have no masks.

    Args:
        specs: The shapes of the levels, coarsest first.
        num_classes: Number of classes of labels; None when there are none.

    Raises:
        ValueError: If there are no levels or no classes.
    """

    slot_sizes: Tensor
    """Number of entries that each slot of ``Codes.flat`` chooses from. (L,) int64"""

    def __init__(self, specs: Sequence[LevelSpec], num_classes: int | None = None) -> None:
        super().__init__()
        if not specs:
            raise ValueError("specs is empty; give the shape of at least one level")
        if num_classes is not None and num_classes < 1:
            raise ValueError(
                f"num_classes is {num_classes}; give at least 1, or None for no labels"
            )
        self.specs = tuple(specs)
        self.num_classes = num_classes
        self.slots = slots_of(specs)
        sizes = torch.zeros(sum(spec.num_tokens for spec in specs), dtype=torch.int64)
        for slots in self.slots:
            sizes[slots.where] = slots.size
        self.register_buffer("slot_sizes", sizes, persistent=False)

    @property
    @abstractmethod
    def config(self) -> "PriorConfig":
        """The config that builds this prior."""

    @abstractmethod
    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        """Minus the log-probability of each integer after those before it; 0 where masked.

        Args:
            codes: Of the levels of ``specs``. B items
            given: What is known of the items.

        Returns:
            Nats, in the order of ``Codes.flat``. (B, L)
        """

    @abstractmethod
    def next_logits(
        self, num: int, given: Conditioning | None = None
    ) -> Callable[[int, Tensor], Tensor]:
        """Begins to draw, integer by integer in the order of ``Codes.flat``.

        Args:
            num: Number of items B.
            given: What the items shall be, one label per item.

        Returns:
            A function to be called with slot 0, 1, ... and the integers of the slot before it, at
            slot 0 anything (B,) int64; it gives the logits of the slot, up to a constant (B, K).

        Raises:
            ValueError: If labels do not fit, or are missing that are needed.
        """

    def log_prob(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        """The log-probability of each item, without dropout whatever the mode.

        Args:
            codes: Of the levels of ``specs``. B items
            given: What is known of the items.

        Returns:
            Nats. (B,) float64

        Raises:
            ValueError: If codes or labels do not fit.
        """
        with no_dropout():
            return -self.nats(codes, given).double().sum(1)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        given: Conditioning | None = None,
        *,
        seed: int,
        first: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Codes:
        """Draws new codes; item i depends on (seed, first + i) only.

        Args:
            num: Number of items.
            given: What the items shall be, one label per item.
            seed: Of all draws.
            first: Number of the first item: draw many in parts by it.
            temperature: Divides the logits: below 1 more typical, above 1 more varied.
            top_k: Only the k most probable entries are drawn from; None for all.
            top_p: Only the fewest most probable entries that sum up to p; None for all.

        Returns:
            Codes without masks, on the device of the prior. num items

        Raises:
            ValueError: If an argument is out of range, or labels are missing that are needed.
        """
        if num < 0:
            raise ValueError(f"num is {num}; give the number of items to draw")
        return draw(
            self.next_logits(num, given),
            self.specs,
            torch.arange(first, first + num, device=self.slot_sizes.device),
            seed=seed,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
        )

    def loss(self, codes: Codes, given: Conditioning | None = None) -> dict[str, Mean]:
        """What training makes smaller: nats per integer, by name; arguments as ``log_prob``."""
        total = self.nats(codes, given).sum()
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
        if codes.specs != self.specs:
            shapes = f"{describe(codes.specs)}, the prior is for {describe(self.specs)}"
            raise ValueError(f"codes have levels {shapes}; use those of the same tokenizer")
        flat, mask = codes.flat(), codes.flat_mask()
        if mask is not None:
            flat = flat.masked_fill(~mask, 0)
        wrong = (flat < 0) | (flat >= self.slot_sizes)
        if wrong.any():
            row, slot = wrong.nonzero()[0].tolist()
            size = int(self.slot_sizes[slot])
            raise ValueError(
                f"codes hold index {int(flat[row, slot])} at item {row}, slot {slot}; "
                f"its codebook has entries 0 to {size - 1}"
            )
        return flat

    def check_labels(self, given: Conditioning | None, num: int) -> Tensor | None:
        """The labels of ``num`` items on the device of the prior, or None. (B,) int64

        Raises:
            ValueError: If they do not fit the prior's classes or the number of items.
        """
        labels = None if given is None else given.labels
        if labels is None:
            return None
        if self.num_classes is None:
            raise ValueError("labels were given to a prior without classes; leave them out")
        if labels.shape != (num,) or labels.is_floating_point() or labels.dtype == torch.bool:
            found = f"shape {tuple(labels.shape)}, {labels.dtype}"
            raise ValueError(f"labels have {found}; give one integer for each of {num} items")
        if ((labels < 0) | (labels >= self.num_classes)).any():
            found = f"{int(labels.min())} to {int(labels.max())}"
            raise ValueError(f"labels are {found}; the classes are 0 to {self.num_classes - 1}")
        return labels.to(self.slot_sizes.device, torch.int64)

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes weights and config into a folder, made when missing."""
        from vqkit.priors import PriorConfig

        config = TypeAdapter(PriorConfig).dump_python(self.config, mode="json")
        specs = SPECS.dump_python(self.specs, mode="json")
        description = {"prior": config, "specs": specs, "num_classes": self.num_classes}
        storage.save_model(Path(folder), self, {"kind": KIND, **description})

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
        from vqkit.priors import PriorConfig

        stored = storage.load_config(Path(folder))
        if stored.get("kind") != KIND:
            kind = stored.get("kind")
            raise ValueError(f"{folder} holds a model of kind {kind}; give the folder of a prior")
        try:
            config = TypeAdapter(PriorConfig).validate_python(stored.get("prior"))
            prior = config.build(SPECS.validate_python(stored.get("specs")), stored["num_classes"])
        except (ValueError, TypeError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{folder}: the config is damaged ({reason}); save it anew") from None
        if not isinstance(prior, cls):
            name = type(prior).__name__
            raise ValueError(f"{folder} holds a {name}, not a {cls.__name__}; open it as Prior")
        storage.load_weights(Path(folder), prior)
        return prior.to(device).eval()
