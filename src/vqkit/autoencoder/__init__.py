"""Autoencoders with discrete codes."""

from vqkit.autoencoder.config import VQVAEConfig
from vqkit.autoencoder.distribution import Distribution, Objective
from vqkit.autoencoder.model import VQVAE
from vqkit.autoencoder.output import Output

__all__ = ["VQVAE", "Distribution", "Objective", "Output", "VQVAEConfig"]
