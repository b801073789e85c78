"""Index backpropagation: the gradient reaches all entries through the choice of one."""

from typing import Literal

import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.means import Mean
from vqkit.quantizers.base import Quantized, detached_at_padding, squared_errors
from vqkit.quantizers.codebook import Codebook, Metric
from vqkit.quantizers.gradients import exactly
from vqkit.quantizers.learned import CodebookOptions, at_least_zero, own_codebook
from vqkit.quantizers.revival import DEAD_AFTER
from vqkit.quantizers.soft import SoftQuantizer, weigh
from vqkit.quantizers.start import Start
from vqkit.schema import STRICT, AtLeastZero


@dataclass(frozen=True, kw_only=True, config=STRICT)
class IBQConfig(CodebookOptions):
    """Nearest entry, with a gradient for all entries through the choice."""

    type: Literal["ibq"] = "ibq"
    commitment: AtLeastZero = 0.25
    """Weight of the loss that pulls the encoder toward its entry."""

    def build(self, dim: int) -> "IndexBackpropQuantizer":
        """The quantizer for vectors of length ``dim``."""
        return IndexBackpropQuantizer(dim, self.codebook_size, **self.options())


class IndexBackpropQuantizer(SoftQuantizer):
    """Replaces each vector by its nearest entry; the choice has the gradient of a softmax.

    Taming Scalable Visual Tokenizer for Autoregressive Image Generation, equations 3 and 4,
    https://arxiv.org/abs/2412.02692, with logits by distance: all entries move in each step.

    Args:
        dim: Length D of each vector.
        codebook_size: Number of entries K.
        commitment: Weight of the loss that pulls the encoder toward its entry.
        metric: "euclidean", or "cosine" for vectors and entries of length 1.
        start: What the entries begin with: "kmeans", the centres of the first vectors; "data",
            some of these vectors; "normal", random numbers of their mean and spread.
        revive: Whether entries that nobody uses are replaced by vectors that fit badly.
        dead_after: Nobody uses an entry when it had no hit while uniform use would have given it
            so many.
        commit_in_forward: Whether each training forward ends with ``commit``.
        codebook: Entries shared with another quantizer; its own when None.
    """

    error_terms = ("codebook", "commitment")

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        commitment: float = 0.25,
        metric: Metric = "euclidean",
        start: Start = "kmeans",
        revive: bool = True,
        dead_after: float = DEAD_AFTER,
        commit_in_forward: bool = True,
        codebook: Codebook | None = None,
    ) -> None:
        commitment = at_least_zero(commitment)
        super().__init__(
            dim,
            own_codebook(codebook, codebook_size, dim, metric, start),
            revive=revive,
            dead_after=dead_after,
            commit_in_forward=commit_in_forward,
        )
        self.commitment = commitment

    @property
    def error_weight(self) -> float:
        return 1 + self.commitment

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.prepared(z_e, mask)
        indices = self.chosen(z_e, mask)
        table = self.table_of_pass()
        chosen = F.embedding(indices, table)
        # The index is one-hot - sg(p) + p.
        z_q = exactly(chosen, chosen + self._average(z_e, table))
        errors = squared_errors(z_q, z_e.detach())
        codebook = Mean.over(errors, mask)
        commitment = Mean.over(squared_errors(z_e, chosen.detach()), mask)
        self.follow(z_e, indices, errors, mask)
        return Quantized(
            z_q=detached_at_padding(z_q, mask),
            indices=indices.unsqueeze(-1),
            objective=Mean(codebook.total + self.commitment * commitment.total, codebook.count),
            terms={"codebook": codebook, "commitment": commitment},
        )

    def _average(self, z_e: Tensor, table: Tensor) -> Tensor:
        """The entries' average, with a gradient through the weights only. (..., D)"""
        rows = (z_e if self.passes_gradient else z_e.detach()).reshape(-1, self.dim)
        table = table.clone()  # a commit moves it before the backward pass reads it
        rows, precision = rows.to(table.dtype), self.precision(table)
        return weigh(rows, table, precision, values=table.detach()).average.view(z_e.shape)
