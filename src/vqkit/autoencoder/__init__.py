"""Autoencoders with discrete codes."""

from vqkit.autoencoder.autoregressive import Autoregressive, new_items
from vqkit.autoencoder.config import ModelConfig
from vqkit.autoencoder.distribution import Distribution, Objective
from vqkit.autoencoder.model import VQVAE
from vqkit.autoencoder.output import Output
from vqkit.autoencoder.streaming import StreamDecoder, StreamEncoder

__all__ = [
    "VQVAE",
    "Autoregressive",
    "Distribution",
    "ModelConfig",
    "Objective",
    "Output",
    "StreamDecoder",
    "StreamEncoder",
    "new_items",
]
