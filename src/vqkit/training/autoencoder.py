"""Training of an autoencoder."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from vqkit.autoencoder import VQVAE, ModelConfig, Output
from vqkit.autoencoder.config import ADAPTER
from vqkit.codes import Level
from vqkit.data.batch import Batch
from vqkit.evaluation.levels import exchanged
from vqkit.means import Mean
from vqkit.nn import AutoregressiveDecoder
from vqkit.quantizers import Codebook, Quantizer
from vqkit.training.config import TrainConfig
from vqkit.training.health import EXCHANGED, Settings
from vqkit.training.task import StepOutput, Task


class AutoencoderTask(Task):
    """Learns to reconstruct items through codes.

    Args:
        model: The autoencoder.
    """

    model: VQVAE

    def __init__(self, model: VQVAE) -> None:
        super().__init__(model)
        num = len(model.quantizers)
        levels = ["codebook"] if num == 1 else [f"level {number}" for number in range(num)]
        self.layers = dict(zip(levels, model.quantizers, strict=True))
        self.names = {level: codebook_names(level, layer) for level, layer in self.layers.items()}
        self.channels_last = False

    def forward(self, batch: Batch, measure: bool = False) -> StepOutput:
        x = batch.x
        if self.channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.seen(self.model(x, batch.mask), x, batch.mask, measure)

    def seen(self, out: Output, x: Tensor, mask: Tensor | None, measure: bool) -> StepOutput:
        """What the engine is told of a forward pass."""
        terms = {name: Mean(mean.total.detach(), mean.count) for name, mean in out.terms.items()}
        usage: dict[str, Tensor] = {}
        for names, level, coded in zip(
            self.names.values(), out.codes.levels, out.coded, strict=True
        ):
            usage |= dict(zip(names, usage_of(level, coded), strict=True))
        measures = self._measure(out, x, mask) if measure else {}
        return StepOutput(out.objectives, terms, usage, measures)

    @torch.no_grad()
    def _measure(self, out: Output, x: Tensor, mask: Tensor | None) -> dict[str, Mean]:
        measures = self._measure_items(out, x, mask)
        for name, z_e, real in zip(self.names, out.z_e, out.masks, strict=True):
            norms = z_e.detach().to(torch.promote_types(z_e.dtype, torch.float32)).norm(dim=-1)
            measures[f"z_e_norm/{name}"] = Mean.over(norms, real)
        compared = len(self.layers) > 1 and len(x) > 1 and mask is None and not self.training
        if compared and "mse" in measures:
            measures |= self._exchanged(out, x)
        return measures

    def _exchanged(self, out: Output, x: Tensor) -> dict[str, Mean]:
        """The error where each item of the batch has one level's codes of the item before it."""
        others, found = out.codes.map(lambda tensor: tensor.roll(1, 0)), {}
        for number, name in enumerate(self.layers):
            reconstruction = self.model.decode(exchanged(out.codes, others, number))
            error = (reconstruction - self.model.objective.normalize(x)).square()
            found[f"{EXCHANGED}/{name}"] = Mean.over(error)
        return found

    def _measure_items(self, out: Output, x: Tensor, mask: Tensor | None) -> dict[str, Mean]:
        if isinstance(self.model.decoder, AutoregressiveDecoder):
            # To draw the items would take a pass for each position; their loss is in nats.
            own = len(out.objectives) - len(self.model.quantizers)
            nats = [mean.total.detach() for mean in list(out.objectives.values())[:own]]
            count = next(iter(out.objectives.values())).count
            return {"bits_per_dim": Mean(torch.stack(nats).sum() / math.log(2), count)}
        normalize = self.model.objective.normalize
        own: Any = getattr(self.model.objective, "measures", None)
        if own is not None:  # whatever squares of differences mean nothing for
            return own(out.reconstruction, normalize(x), mask)
        error = (normalize(out.reconstruction) - normalize(x)).square()
        real = None if mask is None else mask.unsqueeze(1).expand_as(error)
        return {"mse": Mean.over(error, real)}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        kind = self.model.objective.modality
        self.unit = kind.items if kind.name != "image" or batch.x.dim() == 4 else "items"
        return self.model.counts(batch.x, batch.mask)

    @property
    def codebooks(self) -> dict[str, Codebook]:
        found = {}
        for level, layer in self.layers.items():
            named = layer.named_codebooks()
            if not named.keys() <= set(layer.codebook_names):  # several share one axis of the codes
                named = dict(zip(layer.codebook_names, layer.codebooks(), strict=False))
            found |= {f"{level} {name}".strip(): book for name, book in named.items()}
        return found

    @property
    def settings(self) -> dict[str, Settings]:
        config, found = self.model.config, {}
        for number, (level, names) in enumerate(self.names.items() if config else ()):
            found |= dict.fromkeys([level, *names], settings_of(config, number))
        return found

    @property
    def has_psnr(self) -> bool:
        return self.model.objective.modality.name in ("image", "video")

    @property
    def only_starts(self) -> bool:
        books = self.codebooks.values()
        waits = not books or not all(book.is_initialized for book in books)
        networks = self.model.encoder, *self.model.top_down, self.model.decoder
        frozen = any(True for network in networks for _ in network.parameters())
        return waits and not frozen and not any(p.requires_grad for p in self.model.parameters())

    def initialize(self, batches: Sequence[Batch], seed: int) -> None:
        pairs = [(batch.x, batch.mask) for batch in batches]
        self.model.initialize(pairs, seed=seed, keep_started=True)

    def commit(self) -> None:
        self.model.commit()

    def calibrate(self, batches: Iterable[Batch]) -> None:
        self.model.calibrate((batch.x, batch.mask) for batch in batches)

    def describe(self) -> Any:
        if self.model.config is None:
            return described(self.model)
        return ADAPTER.dump_python(self.model.config, mode="json")

    def upgraded(self, described: Any) -> Any:
        if self.model.config is None:
            return described
        kind = ADAPTER
        with suppress(ValidationError):  # then it is another model, and said to be
            return kind.dump_python(kind.validate_python(described), mode="json")
        return described

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)

    @contextmanager
    def attached(self, config: TrainConfig) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(led_by_engine(self.model))
            if config.channels_last:
                stack.enter_context(laid_out_channels_last(self.model))
            if config.compile:
                networks = (self.model.encoder, *self.model.top_down, self.model.decoder)
                stack.enter_context(compiled(networks))
            self.channels_last = config.channels_last
            yield


def settings_of(config: ModelConfig | None, level: int) -> Settings:
    """What a config sets of the quantizer of a level, and where."""
    if config is None:
        return Settings()
    return Settings(asdict(config.level_quantizers[level]), config.quantizer_key(level))


def described(model: nn.Module) -> dict[str, str]:
    """What each module says of itself, such as ``Conv2d(3, 64, kernel_size=(4, 4))``, by name."""
    return {
        name or "self": f"{type(module).__name__}({module.extra_repr()})"
        for name, module in model.named_modules()
    }


@contextmanager
def led_by_engine(model: nn.Module) -> Iterator[None]:
    """Inside, a forward pass moves no codebook: the engine does, once per optimizer step.

    Nor does a forward pass refuse numbers that are not finite: one rank alone would stop. The
    engine stops all when it sees the loss.
    """
    layers = [module for module in model.modules() if isinstance(module, Quantizer)]
    before = [(layer.commit_in_forward, layer.refuse_not_finite) for layer in layers]
    for layer in layers:
        layer.commit_in_forward = layer.refuse_not_finite = False
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.commit_in_forward, layer.refuse_not_finite = own


@contextmanager
def laid_out_channels_last(model: nn.Module) -> Iterator[None]:
    """Convolution weights with channels last in memory; as they were afterwards.

    The layout decides over the last bits, and a model that was trained must give the same codes
    as the same model opened from its folder.
    """
    lay_out(model, torch.channels_last)
    try:
        yield
    finally:
        lay_out(model, torch.contiguous_format)


@torch.no_grad()
def lay_out(model: nn.Module, memory_format: torch.memory_format) -> None:
    """Changes the order in memory, not the values, of all parameters that have four axes."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)


@contextmanager
def compiled(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Modules that run by torch.compile inside, and by themselves afterwards."""
    modules = list(networks)
    for module in modules:
        module.compile()
    try:
        yield
    finally:
        for module in modules:
            module._compiled_call_impl = None


def codebook_names(level: str, layer: Quantizer) -> tuple[str, ...]:
    """Names for the codebooks of a level, such as ``level 1 stage 0``."""
    return tuple(f"{level} {name}".strip() for name in layer.codebook_names)


@torch.no_grad()
def usage_of(level: Level, coded: Tensor | None = None) -> list[Tensor]:
    """How often each entry of each codebook of a level was used.

    Args:
        level: The codes.
        coded: Which integers stand for something; None: all of real positions. (B, *grid, Q) bool

    Returns:
        Each (K,) int64
    """
    found = []
    for q, (size, indices) in enumerate(
        zip(level.codebook_sizes, level.indices.unbind(-1), strict=True)
    ):
        real = level.real(q)
        weights = torch.ones_like(indices) if real is None else real.long()
        weights = weights if coded is None else weights * coded[..., q]
        # Not bincount, for which a GPU would have to be waited.
        found.append(weights.new_zeros(size).index_add_(0, indices.flatten(), weights.flatten()))
    return found
