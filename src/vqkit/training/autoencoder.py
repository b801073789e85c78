"""Training of an autoencoder."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from vqkit.autoencoder import VQVAE, Output
from vqkit.codes import Level
from vqkit.data.batch import Batch
from vqkit.means import Mean
from vqkit.quantizers import Quantizer
from vqkit.training.config import TrainConfig
from vqkit.training.task import StepOutput, Task


class AutoencoderTask(Task):
    """Learns to reconstruct items through codes.

    Args:
        model: The autoencoder.
    """

    model: VQVAE

    def __init__(self, model: VQVAE) -> None:
        super().__init__(model)
        self.levels = [cast(Quantizer, layer) for layer in model.quantizers]
        self.level_names = [
            "codebook" if len(self.levels) == 1 else f"level {number}"
            for number in range(len(self.levels))
        ]
        pairs = zip(self.level_names, self.levels, strict=True)
        self.books = {name: codebook_names(name, layer) for name, layer in pairs}
        self.usage_names = tuple(name for names in self.books.values() for name in names)
        self.measured = ("mse", *(f"z_e_norm/{name}" for name in self.level_names))
        self.channels_last = False

    def forward(self, batch: Batch, measure: bool = False) -> StepOutput:
        x = batch.x
        if self.channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        out = self.model(x, batch.mask)
        logs = {name: Mean(mean.total.detach(), mean.count) for name, mean in out.terms.items()}
        if measure:
            logs |= self._measure(out, x, batch.mask)
        usage = tuple(counts for level in out.codes.levels for counts in usage_of(level))
        return StepOutput(out.objectives, logs, usage)

    @torch.no_grad()
    def _measure(self, out: Output, x: Tensor, mask: Tensor | None) -> dict[str, Mean]:
        error = (out.reconstruction - self.model.objective.normalize(x)).square()
        logs = {"mse": Mean.over(error, None if mask is None else spread(mask, error))}
        for name, z_e, level in zip(self.level_names, out.z_e, out.codes.levels, strict=True):
            logs[f"z_e_norm/{name}"] = Mean.over(z_e.detach().float().norm(dim=-1), level.mask)
        return logs

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return self.model.counts(batch.x, batch.mask)

    @property
    def codebooks(self) -> dict[str, nn.Module]:
        return {
            name: book
            for names, layer in zip(self.books.values(), self.levels, strict=True)
            for name, book in zip(names, layer.codebooks(), strict=False)
        }

    @property
    def networks(self) -> Sequence[nn.Module]:
        return (self.model.encoder, *self.model.top_down, self.model.decoder)

    def initialize(self, batches: Sequence[Batch], seed: int) -> None:
        books = [book for layer in self.levels for book in layer.codebooks()]
        if books and all(book.is_initialized for book in books):
            return  # a trained model is trained further
        self.model.initialize([(batch.x, batch.mask) for batch in batches], seed=seed)

    def commit(self) -> None:
        self.model.commit()

    def calibrate(self, batches: Iterable[Batch]) -> None:
        self.model.objective.calibrate(self._outputs(batches))

    def _outputs(self, batches: Iterable[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
        """What the decoder gives, and what it should; (B, ..., *grid) each, or (N, ...) if masked.

        A hook reads the decoder's outputs, which leave the model only as a distribution.
        """
        seen: list[Tensor] = []
        hook = self.model.decoder.register_forward_hook(lambda module, args, out: seen.append(out))
        try:
            for batch in batches:
                self(batch)
                x = self.model.objective.normalize(batch.x)
                outputs = seen.pop().to(torch.promote_types(x.dtype, torch.float32))
                yield real_values(outputs, batch.mask), real_values(x, batch.mask)
        finally:
            hook.remove()

    def describe(self) -> Any:
        if self.model.config is None:
            return None
        return TypeAdapter(type(self.model.config)).dump_python(self.model.config, mode="json")

    @contextmanager
    def attached(self, config: TrainConfig) -> Iterator[None]:
        before = [layer.commit_in_forward for layer in self.levels]
        for layer in self.levels:
            layer.commit_in_forward = False
        if config.channels_last:
            self.channels_last = True
            self.model.to(memory_format=torch.channels_last)
        try:
            yield
        finally:
            for layer, committed in zip(self.levels, before, strict=True):
                layer.commit_in_forward = committed
            if config.channels_last:
                self.model.to(memory_format=torch.contiguous_format)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)


def codebook_names(level: str, layer: Quantizer) -> tuple[str, ...]:
    """Names for the codebooks of a level, such as ``level 1 stage 0``."""
    num = len(layer.codebook_sizes)
    if num == 1:
        return (level,)
    word = "stage" if layer.structure == "residual" else "part"
    return tuple(f"{level} {word} {q}" for q in range(num))


@torch.no_grad()
def usage_of(level: Level) -> list[Tensor]:
    """How often each entry of each codebook of a level was used. Each (K,) int64"""
    shape = level.indices.shape[:-1]
    real = level.indices.new_ones(shape) if level.mask is None else level.mask.long()
    return [
        # Not bincount, for which a GPU would have to be waited.
        real.new_zeros(size).index_add_(0, indices.flatten(), real.flatten())
        for size, indices in zip(level.codebook_sizes, level.indices.unbind(-1), strict=True)
    ]


def real_values(x: Tensor, mask: Tensor | None) -> Tensor:
    """Items (B, C, *grid) as they are, or their real positions (N, C) alone."""
    return x if mask is None else x.movedim(1, -1)[mask]


def spread(mask: Tensor, x: Tensor) -> Tensor:
    """A mask (B, *grid) for every value of x (B, C, *grid). (B, C, *grid) bool"""
    return mask.unsqueeze(1).expand_as(x) if mask.dim() < x.dim() else mask
