"""Images decoded and scaled once, and kept in memory where there is room."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from vqkit.data import Source
from vqkit.data.cache import SharedCache
from vqkit.modalities.image.fit import Framing, fit
from vqkit.modalities.image.pixels import decode, image_size


class Canvases:
    """The images of a source, decoded and scaled: numbers in, (C, h, w) uint8 out.

    Args:
        source: What is read.
        framing: What is made of each image.
        cache_mb: They are kept where all of them fit into so many MiB; 0 keeps none.
        shapes: Height and width of every item of the source; empty for unreadable ones. Where they
            are not known, only canvases that are all of one size are kept.
    """

    def __init__(
        self,
        source: Source,
        framing: Framing,
        cache_mb: int,
        shapes: Sequence[tuple[int, ...]] | None = None,
    ) -> None:
        self.source = source
        self.framing = framing
        self._sizes = self._plan(shapes)
        self._cache_bytes = cache_mb * 2**20
        self._cache = self._make_cache()

    def _plan(self, shapes: Sequence[tuple[int, ...]] | None) -> list[tuple[int, int]] | None:
        """Height and width of each canvas, where they are known."""
        frame = self.framing
        if frame.window is not None and not frame.slack:
            return [frame.window] * len(self.source)
        if shapes is None and self.source.item_shape is not None:
            shapes = [self._array_size(self.source.item_shape)] * len(self.source)
        if shapes is None:
            return None
        sizes = {shape: frame.canvas_size(shape[0], shape[1]) for shape in set(shapes) if shape}
        return [sizes.get(shape, (0, 0)) for shape in shapes]

    def _array_size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        try:
            return image_size(shape)
        except ValueError as error:
            raise ValueError(f"{self.source.describe(0)} {error}") from None

    @property
    def planned(self) -> bool:
        """Whether the sizes of all canvases are known, as the cache needs."""
        return self._sizes is not None

    def _make_cache(self) -> SharedCache | None:
        if self._sizes is None:
            return None
        channels = self.framing.channels
        if sum(channels * height * width for height, width in self._sizes) > self._cache_bytes:
            return None
        return SharedCache([(channels, height, width) for height, width in self._sizes])

    def read(self, index: int) -> np.ndarray:
        """One canvas, not to be written to. (C, h, w) uint8

        Raises:
            ValueError: If the image cannot be decoded.
            OSError: If its file cannot be read.
        """
        if self._cache is not None and (kept := self._cache.get(index)) is not None:
            return kept
        with warnings.catch_warnings():  # Pillow warns of oddities that leave the pixels whole
            warnings.simplefilter("ignore")
            return self._make(index)[1]

    def measure(self, index: int) -> tuple[int, int]:
        """Height and width of the image as it is stored; keeps its canvas, as it is made anyway."""
        return self._make(index)[0]

    def _make(self, index: int) -> tuple[tuple[int, int], np.ndarray]:
        """The image's own size, and its canvas."""
        frame = self.framing
        decoded = decode(self.source[index].value, frame.channels, enough=frame.enough)
        canvas = fit(decoded.pixels, frame)
        if self._cache is not None:
            self._cache.put(index, canvas)
        return decoded.size, canvas

    def __getstate__(self) -> dict[str, Any]:
        # A process that is not forked cannot share the memory, and fills its own.
        return {name: value for name, value in vars(self).items() if name != "_cache"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._cache = self._make_cache()
