"""Codes of what is still coming in, and what codes stand for as they come in: chunk by chunk."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.autoencoder.model import VQVAE
from vqkit.codes import Codes, Level
from vqkit.nn.causal import Past, fold
from vqkit.nn.evaluating import dtype_of
from vqkit.quantizers import Quantizer


class StreamEncoder:
    """Encodes items in pieces of any length along time, the first axis of their grid.

    The codes are those of the whole item (ARCHITECTURE, seam 7): bit for bit where it comes in one
    piece of more than 128 codes, else equal wherever two entries are not as near to within
    rounding. It works on with the weights that the model has when it is made.

    Args:
        model: With one level, and an encoder that streams: causal, with ``hop`` and ``delay``. It
            may have ``first``, where the first code stands for another number of positions;
            ``side``, how many a code stands for along each other axis; and ``holds_last``, true
            where the last position stays at the end, in place of silence.

    Raises:
        ValueError: If the model has several levels, or an encoder that needs the whole item.

    Attributes:
        hop: Positions in time that one code stands for.
        latency: Positions that come in from one on, itself among them, until its code is out.
    """

    def __init__(self, model: VQVAE) -> None:
        self.hop, self.delay = check_streams(model)
        self.latency = self.hop * (1 + self.delay)
        self.encoder, self.quantizer, self.objective = frozen(
            model.encoder, model.quantizers[0], model.objective
        )
        self.first, self.side = (
            getattr(self.encoder, name, own) for name, own in (("first", self.hop), ("side", 1))
        )
        self._past: Past = {}
        self._rest: Tensor | None = None
        self._early = self.delay  # features that are left out

    @torch.no_grad()
    def push(self, x: Tensor) -> Codes:
        """The codes of all whole hops that have come in, and that were not given before.

        Args:
            x: What comes next. (B, C, t, ...)

        Returns:
            Perhaps of no positions.
        """
        return self._push(self.objective.normalize(x).to(dtype_of(self.encoder)))

    def _push(self, x: Tensor) -> Codes:
        """The same of normalised items."""
        x = x if self._rest is None else torch.cat([self._rest, x], dim=2)
        whole = self._whole(x.shape[2])
        self._rest = x[:, :, whole:]
        beyond = [-length % self.side for length in x.shape[3:]]
        if not whole:
            sides = (
                (length + more) // self.side
                for length, more in zip(x.shape[3:], beyond, strict=True)
            )
            return self._codes(x.new_zeros(len(x), 0, *sides, self.quantizer.dim))
        if any(beyond):
            x = F.pad(x, [amount for more in reversed(beyond) for amount in (0, more)])
        z_e = self.encoder(x[:, :, :whole], past=self._past).movedim(1, -1)
        early = min(self._early, z_e.shape[1])
        self._early -= early
        return self._codes(z_e[:, early:])

    @torch.no_grad()
    def end(self) -> Codes:
        """The codes of what is left, as if silence followed.

        Raises:
            ValueError: If nothing has come in.
        """
        if self._rest is None:
            raise ValueError("nothing has come in; push something first")
        rest = self._rest
        lacking = self._lacking(rest.shape[2]) + self.delay * self.hop
        after = rest.new_zeros(*rest.shape[:2], lacking, *rest.shape[3:])
        if rest.shape[2] and getattr(self.encoder, "holds_last", False):
            after = rest[:, :, -1:].expand_as(after)
        codes = self._push(after)
        self._past, self._rest, self._early = {}, None, self.delay
        return codes

    def _whole(self, length: int) -> int:
        """How many of so many positions can be encoded by now."""
        own = self.hop if self._past else self.first
        return 0 if length < own else own + (length - own) // self.hop * self.hop

    def _lacking(self, length: int) -> int:
        """How many positions are missing to whole codes."""
        own = self.hop if self._past else self.first
        return own - length if 0 < length < own else (own - length) % self.hop * (length > 0)

    def _codes(self, z_e: Tensor) -> Codes:
        """The codes of vectors (B, L, ..., D)."""
        quantizer = self.quantizer
        if z_e.shape[1]:
            indices = quantizer.encode(z_e)
        else:
            sizes = (*z_e.shape[:-1], len(quantizer.codebook_sizes))
            indices = torch.zeros(sizes, dtype=torch.int64, device=z_e.device)
        return Codes((Level(indices, quantizer.codebook_sizes, quantizer.structure),))


class StreamDecoder:
    """Decodes codes in pieces of any length along time; see ``StreamEncoder``.

    Args:
        model: As for ``StreamEncoder``.
    """

    def __init__(self, model: VQVAE) -> None:
        check_streams(model)
        self.decoder, self.quantizer, self.objective = frozen(
            model.decoder, model.quantizers[0], model.objective
        )
        self._past: Past = {}

    @torch.no_grad()
    def push(self, codes: Codes) -> Tensor:
        """What the codes stand for, given those before them.

        Args:
            codes: What comes next, of one level; perhaps of no positions.

        Returns:
            (B, C, t, ...)
        """
        (level,) = codes.levels
        z_q = self.quantizer.decode(level.indices).contiguous().movedim(-1, 1)
        y = self.decoder(z_q.to(dtype_of(self.decoder)), past=self._past)
        return self.objective.distribution(y).mode()

    def end(self) -> None:
        """Forgets what came before: the next codes begin another item."""
        self._past = {}


def check_streams(model: VQVAE) -> tuple[int, int]:
    """The hop and the delay of a model.

    Raises:
        ValueError: If it has several levels, or networks that need the whole item.
    """
    hop, delay = (getattr(model.encoder, name, None) for name in ("hop", "delay"))
    if len(model.quantizers) > 1 or hop is None or delay is None:
        raise ValueError(
            "the model does not stream; take one of one level whose networks are causal, such as "
            "those of sound and clips"
        )
    return hop, delay


def frozen(*modules: Any) -> list[Any]:
    """Copies in evaluation mode that nobody trains any more."""
    found: list[nn.Module] = [copy.deepcopy(module).eval() for module in modules]
    for module in found:
        fold(module)
        for book in module.codebooks() if isinstance(module, Quantizer) else ():
            book.fold()
    return found
