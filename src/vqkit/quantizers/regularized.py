"""Losses beside a quantizer's own: for entries at right angles, and for even and sure choices."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.means import Mean
from vqkit.quantizers.base import Quantized, Quantizer, mask_out, num_real
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.composite import WrappedQuantizer, dims, without_parts
from vqkit.quantizers.learned import above_zero, at_least_zero
from vqkit.quantizers.regularizers import AverageChances, chances, squared_cosines
from vqkit.quantizers.residual import Residual
from vqkit.quantizers.vector import VQConfig
from vqkit.schema import STRICT, AtLeastZero, Divisor

if TYPE_CHECKING:
    from vqkit.quantizers import QuantizerConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RegularizedConfig:
    """Any quantizer with codebooks, and losses on its entries and on who chooses them."""

    type: Literal["regularized"] = "regularized"
    # Field, because a class that is rebuilt loses docstrings under fields before Python 3.13.
    quantizer: Annotated[
        "QuantizerConfig", Field(description="Any quantizer that has codebooks.")
    ] = VQConfig()
    orthogonality: Annotated[
        AtLeastZero,
        Field(
            description="Weight of the loss that turns entries away from each other; not for an "
            "ema codebook, on which it would have no effect."
        ),
    ] = 0.0
    diversity: Annotated[
        AtLeastZero, Field(description="Weight of the loss that spreads use over all entries.")
    ] = 0.0
    certainty: Annotated[
        AtLeastZero,
        Field(description="Weight of the loss that makes the choice of each vector less doubtful."),
    ] = 0.0
    temperature: Annotated[
        Divisor,
        Field(
            description="What squared distances are divided by where diversity and certainty ask "
            "how likely each entry is."
        ),
    ] = 1.0

    def build(self, dim: int) -> "Regularized":
        """The quantizer for vectors of length ``dim``."""
        return Regularized(
            self.quantizer.build(dim),
            orthogonality=self.orthogonality,
            diversity=self.diversity,
            certainty=self.certainty,
            temperature=self.temperature,
        )


class Regularized(WrappedQuantizer):
    """Adds losses to those of any quantizer with codebooks; codes and values stay its own.

    *Orthogonality*, ``squared_cosines`` of the entries, a mean over codebooks: Exploration into
    Translation-Equivariant Image Quantization, equation 2, https://arxiv.org/abs/2112.00384. It
    moves entries alone.

    *Certainty* and *diversity*: Language Model Beats Diffusion, equation 5,
    https://arxiv.org/abs/2310.05737, with the probabilities softmax(-|z - e|^2 / temperature) over
    all entries e, those of ``Sampled``. Certainty is the entropy of each vector's probabilities,
    made small; diversity that of the mean of all vectors', made large, both in nats. Diversity is
    computed as the cross-entropy with a running average of the probabilities, whose gradient is the
    same, so that micro-batches and ranks add up. Both move the encoder, and entries that gradients
    move. A composition weighs them, codebook by codebook, as it weighs the quantizers' own losses.

    With all weights 0 it is what it holds.

    Args:
        quantizer: Any quantizer; with a weight above 0 one whose parts all have codebooks. Wherever
            else it is used, certainty and diversity are added to its losses too.
        orthogonality: Weight of the loss on the entries, which gradients have to move.
        diversity: Weight of the entropy of all vectors' probabilities, which is made large.
        certainty: Weight of the entropy of each vector's probabilities.
        temperature: What squared distances, sums over the coordinates, are divided by.

    Raises:
        ValueError: If a weight is negative, the temperature is not above 0, or a weight could have
            no effect on a part of the quantizer.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        *,
        orthogonality: float = 0.0,
        diversity: float = 0.0,
        certainty: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        (dim,) = dims([quantizer])
        options = {"orthogonality": orthogonality, "diversity": diversity, "certainty": certainty}
        weights = {name: at_least_zero(weight, name) for name, weight in options.items()}
        above_zero(temperature, "temperature")
        check_codebooks(quantizer, {name: weight for name, weight in weights.items() if weight > 0})
        super().__init__(dim, quantizer)
        self.orthogonality, self.diversity, self.certainty = orthogonality, diversity, certainty
        self.temperature = temperature
        books = dict.fromkeys(quantizer.codebooks()) if diversity > 0 else ()
        self.averages = nn.ModuleList(AverageChances(book.size) for book in books)
        self.register_state_dict_pre_hook(follow_sizes)
        if diversity > 0 or certainty > 0:
            for part in without_parts(quantizer):
                part.register_forward_hook(self._regularize, with_kwargs=True)
            for part in quantizer.modules():
                if isinstance(part, Residual) and part.beams > 1:
                    part.register_forward_hook(self._regularize_search, with_kwargs=True)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        out = self.quantizer(z_e, mask)
        if self.orthogonality > 0:
            out = self._with(out, {"orthogonality": self._orthogonality(num_real(z_e, mask))})
        self.finish()
        return out

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.quantizer.encode(z_e, mask)

    def decode(self, indices: Tensor) -> Tensor:
        return self.quantizer.decode(indices)

    def start_parts(
        self, z_e: Tensor, mask: Tensor | None, *, seed: int, keep_started: bool
    ) -> None:
        self.quantizer.initialize(z_e, mask, seed=seed, keep_started=keep_started)

    def seen(self, z_e: Tensor, mask: Tensor | None = None) -> Iterator[tuple[Codebook, Tensor]]:
        return self.quantizer.seen(z_e, mask)

    def commit(self) -> None:
        """Commits inside, and takes the probabilities since the last commit into the averages."""
        super().commit()
        for average in self.averages:
            average.commit()  # pyright: ignore

    def _weights(self) -> dict[str, float]:
        """The weights that are not 0, by the names of their terms."""
        names = ("orthogonality", "diversity", "certainty")
        return {name: getattr(self, name) for name in names if getattr(self, name) > 0}

    def _with(self, out: Quantized, terms: Mapping[str, Mean]) -> Quantized:
        """An output with terms more, weighed and counted for as many vectors as the others."""
        total, count = out.objective.total, out.objective.count
        for name, term in terms.items():
            weight = getattr(self, name)
            total = total + (-weight if name == "diversity" else weight) * term.value * count
        return replace(out, objective=Mean(total, count), terms={**out.terms, **terms})

    def _orthogonality(self, count: Tensor) -> Mean:
        """The mean of the codebooks' own, as if each of so many vectors had it."""
        books = dict.fromkeys(self.codebooks())
        found = [squared_cosines(self._table(book)) for book in books]
        return Mean(sum(found[1:], found[0]) / len(found) * count, count)

    def _table(self, book: Codebook) -> Tensor:
        """A copy: a commit writes to the entries before a backward pass has read them. (K, D)"""
        return (book.table_of_pass() if self.training else book.table).clone()

    def _regularize(
        self, part: Quantizer, args: tuple[Any, ...], kwargs: dict[str, Any], out: Quantized
    ) -> Quantized:
        """The output of a quantizer inside, with the terms of what it was given."""
        z_e, mask = given(*args, **kwargs)
        seen = part.seen(mask_out(z_e, mask))  # padding too, since to leave it out is to wait
        return self._with(out, self._terms(seen, part.code_mask(mask)))

    def _regularize_search(
        self, part: Residual, args: tuple[Any, ...], kwargs: dict[str, Any], out: Quantized
    ) -> Quantized:
        """The same for stages that a beam search in evaluation does not call."""
        return out if part.training else self._regularize(part, args, kwargs, out)

    def _terms(
        self, seen: Iterable[tuple[Codebook, Tensor]], mask: Tensor | None
    ) -> dict[str, Mean]:
        """Diversity and certainty, where asked for, over all that codebooks see.

        Args:
            seen: Codebooks, and what they see of a pass. (N, D) each
            mask: True where that is real; None when all is. (...) bool, N in all
        """
        books = list(dict.fromkeys(self.codebooks()))
        found: dict[str, Mean] = {}
        real = None if mask is None else mask.flatten()
        for book, rows in seen:
            table = self._table(book)
            average = self.averages[books.index(book)] if self.diversity > 0 else None
            prices = table.new_zeros(book.size)
            if isinstance(average, AverageChances):
                prices = average.prices(book.size)
            made = chances(rows, table, self.temperature, prices, real)
            if isinstance(average, AverageChances):
                add(found, "diversity", Mean.over(made.price, real))
                if self.learns:
                    average.collect(made.taken)
            if self.certainty > 0:
                add(found, "certainty", Mean.over(made.entropy, real))
        return found


def follow_sizes(layer: nn.Module, *_: object) -> None:
    """Starts the averages anew of codebooks that have got another size, before they are saved."""
    assert isinstance(layer, Regularized)
    for average, book in zip(layer.averages, dict.fromkeys(layer.codebooks()), strict=False):
        average.follow(book.size)  # pyright: ignore


def given(z_e: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """What a forward was called with."""
    return z_e, mask


def add(terms: dict[str, Mean], name: str, mean: Mean) -> None:
    """Adds a mean to that of its name."""
    terms[name] = terms[name] + mean if name in terms else mean


def check_codebooks(quantizer: Quantizer, weights: Mapping[str, float]) -> None:
    """Raises ValueError if a weight could have no effect on a part of the quantizer."""
    if any(isinstance(module, Regularized) for module in quantizer.modules()):
        raise ValueError("quantizer holds Regularized already; give all the weights to one")
    for name, weight in weights.items():
        for part in without_parts(quantizer):
            kind = type(part).__name__
            if not part.codebooks():
                raise ValueError(
                    f"{name} is {weight}, but {kind} has no codebook that is learned; leave it 0 "
                    "there (quantizers of signs have diversity and certainty of their own), and "
                    "put Regularized around the other parts"
                )
            movers = {book.moved_by for book in part.codebooks()}
            if name == "orthogonality" and movers != {"gradients"}:
                raise ValueError(
                    f"orthogonality is {weight}, but in {kind} averages overwrite the entries at "
                    "every step, and no gradient for them has an effect; take a quantizer whose "
                    "entries gradients move, such as VectorQuantizer, or leave it 0"
                )
