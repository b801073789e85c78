"""Images decoded and scaled once, and kept in memory while there is room."""

import warnings
from typing import Any

import numpy as np

from vqkit.data import Source
from vqkit.data.cache import SharedCache
from vqkit.modalities.image.fit import Framing, fit
from vqkit.modalities.image.pixels import decode


class Canvases:
    """The images of a source, decoded and scaled: numbers in, (C, h, w) uint8 out.

    Args:
        source: What is read.
        framing: What is made of each image.
        cache_mb: So many MiB of them are kept in memory; 0 keeps none.
    """

    def __init__(self, source: Source, framing: Framing, cache_mb: int) -> None:
        self.source = source
        self.framing = framing
        self._cache_mb = cache_mb
        self._cache = self._make_cache()

    def _make_cache(self) -> SharedCache | None:
        return SharedCache(len(self.source), self._cache_mb * 2**20) if self._cache_mb else None

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
        """Height and width of the image as it is stored; its canvas is kept for later."""
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
