"""Bits per dimension: what an item costs given its codes, and what its codes cost."""

import math
from typing import Any

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.codes import Codes
from vqkit.data import Batch
from vqkit.distributed import all_gather, all_reduce, gather_rows
from vqkit.evaluation.items import ItemBits
from vqkit.nn.dropout import no_dropout
from vqkit.priors import Conditioning, Prior
from vqkit.tokens.rows import pad

PARTS = ("decoder", "uniform", "prior")


class Likelihood:
    """Adds up code lengths over a split, in bits.

    An item x with codes z costs -log2 p(x | z) - log2 p(z): a lossless code would be that long.

    Args:
        device: Where the codes are.
    """

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self.bits: dict[str, Tensor] = dict.fromkeys(PARTS, zero)
        self.counts = {
            name: zero.long() for name in ("items", "dims", "tokens", "decoder_dims", "prior_items")
        }
        self.rows: list[Tensor] = []

    @torch.no_grad()
    def add(
        self,
        codes: Codes,
        dims: Tensor,
        *,
        numbers: Tensor,
        labels: Tensor | None = None,
        decoder: Tensor | None = None,
        prior: Tensor | None = None,
        levels: Tensor | None = None,
    ) -> None:
        """Counts a batch in.

        Args:
            codes: Of B items.
            dims: Number of real values of each item. (B,) int64
            numbers: Place of each item in the split. (B,) int64
            labels: Class of each item; None without labels. (B,) int64
            decoder: log p(x | z) of each item in nats; None when no likelihood is claimed. (B,)
            prior: log p(z) of each item in nats; None without a prior. (B,)
            levels: The share of each level in it, where there are several and the prior tells;
                else None. (B, num_levels)
        """
        mask = codes.flat_mask()
        flat = codes.flat()
        self._count("items", torch.tensor(len(codes)))
        self._count("dims", dims.sum())
        self._count("tokens", torch.tensor(flat.numel()) if mask is None else mask.sum())
        uniform = uniform_bits(codes)
        self._add("uniform", uniform)
        if decoder is not None:
            self._add("decoder", to_bits(decoder))
            self._count("decoder_dims", dims.sum())
        if prior is not None:
            self._add("prior", to_bits(prior))
            self._count("prior_items", torch.tensor(len(codes)))
        own = uniform if prior is None else to_bits(prior)
        nothing = torch.full_like(own, torch.nan)
        columns = [numbers, nothing if labels is None else labels, dims]
        columns += [nothing if decoder is None else to_bits(decoder), own]
        columns += [] if levels is None else list(to_bits(levels).unbind(1))
        place = self.bits["uniform"].device
        self.rows.append(torch.stack([column.to(place).double() for column in columns], dim=1))

    def items(self) -> ItemBits:
        """The figures of each item of all ranks, in order; every rank must call it."""
        place = self.bits["uniform"].device
        own = torch.tensor(max((rows.shape[1] for rows in self.rows), default=0), device=place)
        width = int(all_gather(own).max())  # a rank may have no items
        none = torch.zeros(0, width, dtype=torch.float64, device=place)
        rows = gather_rows(torch.cat([none, *self.rows])).cpu()
        _, labels, dims, decoder, codes, *levels = rows[rows[:, 0].argsort()].unbind(1)
        return ItemBits(
            dims=dims.long(),
            labels=None if labels.isnan().any() else labels.long(),
            decoder=None if decoder.isnan().any() else decoder,
            codes=codes,
            levels=tuple(levels),
        )

    def _add(self, part: str, bits: Tensor) -> None:
        self.bits[part] = self.bits[part] + bits.sum()

    def _count(self, name: str, count: Tensor) -> None:
        self.counts[name] = self.counts[name] + count.to(self.counts[name].device)

    def results(self) -> dict[str, float]:
        """The figures over all batches of all ranks; every rank must call it.

        Returns:
            ``tokens_per_item`` and ``codes_per_dim``, means; ``code_bits_uniform`` and
            ``code_bits_prior``, bits of the codes of one item, mean; ``nats_per_token_uniform`` and
            ``nats_per_token_prior``; ``decoder_bits_per_dim``, ``code_bits_per_dim_uniform`` and
            ``..._prior``, and their sums ``bits_per_dim_uniform`` and ``bits_per_dim_prior``. What
            was not measured is left out.
        """
        bits = {part: float(all_reduce(value.clone())) for part, value in self.bits.items()}
        counts = {name: int(all_reduce(count.clone())) for name, count in self.counts.items()}
        if not counts["items"]:
            return {}
        each, rest = divmod(counts["tokens"], counts["items"])
        found: dict[str, float] = {
            "tokens_per_item": counts["tokens"] / counts["items"] if rest else each,
            "codes_per_dim": counts["tokens"] / max(counts["dims"], 1),
        }
        whole = counts["decoder_dims"] == counts["dims"]
        if whole:
            found["decoder_bits_per_dim"] = bits["decoder"] / max(counts["dims"], 1)
        for part in ("uniform", "prior") if counts["prior_items"] else ("uniform",):
            found[f"code_bits_{part}"] = bits[part] / counts["items"]
            found[f"nats_per_token_{part}"] = bits[part] * math.log(2) / max(counts["tokens"], 1)
            found[f"code_bits_per_dim_{part}"] = bits[part] / max(counts["dims"], 1)
            if whole:
                total = bits["decoder"] + bits[part]
                found[f"bits_per_dim_{part}"] = total / max(counts["dims"], 1)
        return found


def num_dims(model: VQVAE, batch: Batch) -> Tensor:
    """How many dimensions each item has: its real values, or what its modality says they are.

    A modality of which not every value is a dimension has a method ``num_dims(x)``.

    Args:
        model: Of the items.
        batch: Items x (B, C, *grid), maybe with holes.

    Returns:
        (B,) int64
    """
    own: Any = getattr(model.objective.modality, "num_dims", None)
    if own is not None:
        return own(batch.x)
    if batch.mask is not None:
        return batch.mask.flatten(1).sum(1) * batch.x.shape[1]
    return batch.x[0].numel() * torch.ones(len(batch), dtype=torch.int64)


def log_probs(prior: Prior, codes: Codes, given: Conditioning) -> tuple[Tensor, Tensor | None]:
    """The log-probability of each item, as ``prior.log_prob`` has it, and of each of its levels.

    Returns:
        (B,), and for each level given those before it (B, num_levels): None with one level, and
        from a prior that has a bound of the whole alone. float64
    """
    if prior.lengths is not None and codes.specs != prior.specs:
        codes = pad(codes, prior.specs)
    with no_dropout():
        nats = prior.nats(codes, given).double()
    whole = prior.log_prob_lengths(codes).to(nats) - nats.sum(1)
    if len(codes.levels) == 1 or not prior.exact:
        return whole, None
    parts = nats.split([spec.num_tokens for spec in codes.specs], dim=1)
    return whole, torch.stack([-part.sum(1) for part in parts], dim=1)


def to_bits(log_prob: Tensor) -> Tensor:
    """What is as improbable costs so many bits. (...) float64"""
    return -log_prob.double() / math.log(2)


def uniform_bits(codes: Codes) -> Tensor:
    """What each item costs in bits when all entries are equally likely. (B,) float64

    Masked positions cost nothing, nor do the codes of positions that have none.
    """
    total = torch.zeros(len(codes), dtype=torch.float64, device=codes.levels[0].indices.device)
    for level in codes.levels:
        for q, size in enumerate(level.codebook_sizes):
            real = level.real(q)
            if real is None:
                num = torch.tensor(math.prod(level.indices.shape[1:-1]), device=total.device)
            else:
                num = real.flatten(1).sum(1)
            total += num.double() * math.log2(size)
    return total
