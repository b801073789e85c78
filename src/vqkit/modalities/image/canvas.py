"""Images decoded and scaled once, and kept in memory while there is room."""

import warnings

import numpy as np

from vqkit.data import Source
from vqkit.data.cache import KeptItems
from vqkit.modalities.image.fit import Framing, fit
from vqkit.modalities.image.pixels import decode


class Canvases(KeptItems):
    """The images of a source, decoded and scaled: numbers in, (C, h, w) uint8 out.

    Args:
        source: What is read.
        framing: What is made of each image.
        cache_mb: So many MiB of them are kept in memory; 0 keeps none.
    """

    def __init__(self, source: Source, framing: Framing, cache_mb: int) -> None:
        super().__init__(source, cache_mb)
        self.framing = framing

    def read(self, index: int) -> np.ndarray:
        """One canvas, not to be written to. (C, h, w) uint8

        Raises:
            ValueError: If the image cannot be decoded.
            OSError: If its file cannot be read.
        """
        if (kept := self.kept(index)) is not None:
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
        self.keep(index, canvas)
        return decoded.size, canvas
