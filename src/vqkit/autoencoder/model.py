"""The autoencoder with discrete codes: encoder, quantizers, decoder and objective in one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from vqkit.autoencoder import care, counts, hub, saving, start
from vqkit.autoencoder.autoregressive import Decoded
from vqkit.autoencoder.distribution import Distribution, Objective
from vqkit.autoencoder.framing import called, code_mask, cut, whole
from vqkit.autoencoder.hierarchy import Hierarchy, padding_of, without_hidden
from vqkit.autoencoder.output import Output
from vqkit.codes import Codes
from vqkit.means import Mean
from vqkit.nn.evaluating import dtype_of, evaluating
from vqkit.quantizers.base import Quantizer
from vqkit.quantizers.checks import Batch, checked_batch
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.refit import Batches

if TYPE_CHECKING:
    from vqkit.autoencoder.config import ModelConfig


class VQVAE(nn.Module):
    """Learns discrete codes of items, and items back from codes.

    Neural Discrete Representation Learning, https://arxiv.org/abs/1711.00937; with several levels,
    VQ-VAE-2, https://arxiv.org/abs/1906.00446

    Args:
        encoder: From items (B, C, *grid) to features (B, D, *grid), or to a tuple of them, one for
            each level, coarsest first. See ``framing`` for items of any length.
        quantizers: One, or one for each level, coarsest first.
        decoder: From the quantized vectors of each level, (B, D, *grid) each, to what the
            objective reads, (B, O, *grid); or an ``AutoregressiveDecoder``.
        objective: What the decoder is trained for, a module.
        top_down: For several levels, see ``Hierarchy``.
        config: What built the parts, saved with the weights; None if something else built them.

    Raises:
        ValueError: If there are no quantizers, or not one top-down module for each finer level.
    """

    def __init__(
        self,
        encoder: nn.Module,
        quantizers: Quantizer | Sequence[Quantizer],
        decoder: nn.Module,
        objective: Objective,
        *,
        top_down: Sequence[nn.Module] = (),
        config: ModelConfig | None = None,
    ) -> None:
        super().__init__()
        levels = [quantizers] if isinstance(quantizers, Quantizer) else list(quantizers)
        if not levels:
            raise ValueError("quantizers are none; give one for each level of codes")
        if len(top_down) not in (0, len(levels) - 1):
            have = f"top_down has {len(top_down)} modules for {len(levels)} levels"
            raise ValueError(f"{have}; give {len(levels) - 1}, or none")
        self.encoder = encoder
        self.quantizers = cast(Sequence[Quantizer], nn.ModuleList(levels))
        self.top_down = nn.ModuleList(top_down)
        self.decoder = decoder
        self.objective = objective
        self.config = config
        self.layouts: dict[torch.Size, counts.Layout] = {}  # of the counts, by an item's shape

    @classmethod
    def from_config(cls, config: ModelConfig) -> VQVAE:
        """The model of a config, with new weights drawn from torch's global generator."""
        parts = config.parts()
        objective = cast(Objective, parts.objective)
        built = parts.encoder, parts.quantizers, parts.decoder, objective
        return cls(*built, top_down=parts.top_down, config=config)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Output:
        """Everything that training needs.

        Args:
            x: Items as the data give them. (B, C, *grid)
            mask: True where x is real; None when all is. (B, *grid) bool

        Raises:
            ValueError: If x or the mask has a shape or values that do not fit.
        """
        grid, real = tuple(x.shape[2:]), mask
        x, mask = self._normalized(x, mask)
        levels, z_q = self._hierarchy.forward(self._features(x, mask), mask)
        h = called(self.decoder, *z_q, mask=levels[0].mask)
        decoded = Decoded(self.decoder, self.objective, h)
        outputs = cut(without_hidden(decoded.outputs(x), levels, self.encoder), grid)
        x, mask = cut(x, grid), real
        objectives, terms = dict(self.objective.loss(outputs, x, mask)), dict[str, Mean]()
        for number, level in enumerate(levels):
            objectives[self._name("quantizer", number)] = level.quantized.objective
            for name, mean in level.quantized.terms.items():
                terms[self._name(name, number)] = mean
        z_e, masks = tuple(level.z_e for level in levels), tuple(level.mask for level in levels)
        codes = self._hierarchy.codes((level.quantized.indices for level in levels), masks)
        coded = tuple(level.quantized.coded for level in levels)
        return Output(decoded.distribution(outputs), codes, objectives, terms, z_e, masks, coded)

    @torch.no_grad()
    def encode(self, x: Tensor, mask: Tensor | None = None) -> Codes:
        """The codes of items, the same in training and evaluation.

        Args:
            x: Items as the data give them. (B, C, *grid)
            mask: True where x is real; None when all is. (B, *grid) bool

        Raises:
            ValueError: If x or the mask has a shape or values that do not fit.
        """
        with evaluating(self):
            x, mask = self._normalized(x, mask)
            return self._hierarchy.encode(self._features(x, mask), mask)

    def decode(self, codes: Codes) -> Tensor:
        """The mode of ``distribution``, and raises what that does. (B, C, *grid)"""
        return self.distribution(codes).mode()

    @torch.no_grad()
    def distribution(self, codes: Codes, num_levels: int | None = None) -> Distribution:
        """What the decoder says of the items that have these codes, or so many coarsest levels.

        Raises:
            ValueError: If the codes are another tokenizer's, or out of range.
        """
        with evaluating(self):
            return self._decoded(codes, num_levels).distribution()

    @torch.no_grad()
    def counts(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """The counts of the forward's objectives, without its cost once a shape was seen.

        Args:
            x: Items as the data give them. (B, C, *grid)
            mask: True where x is real; None when all is. (B, *grid) bool

        Returns:
            By the names of ``Output.objectives``. Each () int64
        """
        return counts.of(self, x, mask)

    @torch.no_grad()
    def initialize(
        self,
        batches: Sequence[Batch],
        *,
        seed: int,
        keep_started: bool = False,
    ) -> None:
        """Starts the objective and the codebooks from data; every rank must call it.

        Args:
            batches: Items as the data give them, (B, C, *grid), alone or with their masks; as many
                on every rank.
            seed: What every random choice depends on.
            keep_started: Whether what was given, or started before, stays.

        Raises:
            ValueError: If a codebook has more entries than there are vectors in the batches.
        """
        pairs = [checked_batch(batch) for batch in batches]
        start.start_model(self, pairs, seed=seed, keep_started=keep_started)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Fits after training what makes a likelihood of reconstructions; every rank must call it.

        Args:
            batches: Items as the data give them, (B, C, *grid), alone or with their masks.
        """

        def both(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
            real, _ = self._normalized(x, mask)
            with evaluating(self):
                outputs = self._decoded(self.encode(x, mask)).outputs(real)
            pair = (cut(values, tuple(x.shape[2:])) for values in (outputs, real))
            first, second = (start.real_values(values, mask) for values in pair)
            return first, second

        self.objective.calibrate(both(*checked_batch(batch)) for batch in batches)

    @torch.no_grad()
    def inputs(
        self, x: Tensor, mask: Tensor | None = None, *, level: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """What a level quantizes (B, *grid, D), and its mask; x and mask as for ``encode``."""
        with evaluating(self):
            x, mask = self._normalized(x, mask)
            features = self._features(x, mask)[: level + 1]
            return self._hierarchy.inputs(features, mask)

    def refit(self, batches: Batches, *, passes: int = 10) -> dict[str, tuple[float, ...]]:
        """Moves the entries to the means of their vectors over a data set; see ``care.refit``."""
        return care.refit(self, batches, passes)

    def prune(self, used: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Removes entries that nobody uses, and gives the new indices; see ``care.prune``."""
        return care.prune(self, used)

    def commit(self) -> None:
        """Moves the codebooks by all that the forwards since the last commit collected."""
        for quantizer in self.quantizers:
            quantizer.commit()

    def codebooks(self) -> dict[str, Codebook]:
        """The learned codebooks by name: ``quantizer``, ``quantizer_1 stage 0`` and the like."""
        return {
            f"{self._name('quantizer', level)} {name}".strip(): book
            for level, quantizer in enumerate(self.quantizers)
            for name, book in quantizer.named_codebooks().items()
        }

    def fingerprint(self) -> str:
        """A name for all that determines codes and reconstructions. Hexadecimal"""
        return saving.fingerprint(self)

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes weights and config into a folder, made when missing; other files in it stay."""
        saving.save(self, folder)

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, model: VQVAE | None = None, device: torch.device | str = "cpu"
    ) -> VQVAE:
        """Opens a saved model, in evaluation mode.

        Args:
            folder: What ``save_pretrained`` wrote, or a finished run.
            model: Of your own parts, to load the weights into; None if vqkit built it.
            device: Where to put the model.

        Raises:
            FileNotFoundError: If the folder holds no saved model.
            ValueError: If it holds something else, is damaged, or does not fit ``model``.
        """
        return saving.load(folder, model, device)

    @classmethod
    def from_hub(cls, repo_id: str, model: VQVAE | None = None) -> VQVAE:
        """Opens a model that is on the hub under ``owner/name``; see ``from_pretrained``."""
        return saving.load(hub.download(repo_id), model, "cpu")

    def push_to_hub(self, repo_id: str, *, private: bool = True) -> None:
        """Saves the model on the hub under ``owner/name``."""
        hub.upload(self.save_pretrained, repo_id, private=private)

    @property
    def _hierarchy(self) -> Hierarchy:
        modules = cast(Sequence[nn.Module], self.top_down)
        mask_of = partial(code_mask, self.encoder)
        return Hierarchy(self.quantizers, modules, dtype_of(self.decoder), mask_of)

    def _normalized(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Items as the encoder reads them, padded to a size that it takes, and their mask.

        0 wherever nothing is real. (B, C, *grid), (B, *grid) bool or None
        """
        if mask is not None:
            padding_of(x, mask)  # for its checks
        x, mask = whole(self.encoder, x, mask)
        if mask is None:
            return self.objective.normalize(x), None
        padding = padding_of(x, mask)
        # Before, since padding may hold anything; after, since 0 must not depend on the type.
        x = self.objective.normalize(x.masked_fill(padding, 0)).masked_fill(padding, 0)
        return x, mask

    def _features(self, x: Tensor, mask: Tensor | None) -> Sequence[Tensor]:
        """What the encoder makes of normalised items, for each level. Each (B, D, *grid)"""
        x = x.to(dtype_of(self.encoder)) if x.is_floating_point() else x
        features = called(self.encoder, x, mask=mask)
        features = [features] if isinstance(features, Tensor) else features
        if len(features) != len(self.quantizers):
            have = f"the encoder gave {len(features)} levels, there are {len(self.quantizers)}"
            raise ValueError(f"{have} quantizers; give one quantizer for each")
        return features

    def _decoded(self, codes: Codes, num_levels: int | None = None) -> Decoded:
        """What the decoder makes of codes."""
        z_q = self._hierarchy.decode(codes, num_levels)
        h = called(self.decoder, *z_q, mask=codes.levels[0].mask)
        return Decoded(self.decoder, self.objective, h)

    def _name(self, name: str, level: int) -> str:
        """A name, numbered when there are several levels."""
        return name if len(self.quantizers) == 1 else f"{name}_{level}"
