"""A Gaussian VAE of the parts of a VQ-VAE: the latent is drawn around a mean, and costs nats."""

import torch
from torch import nn

from vqkit.autoencoder.autoregressive import Decoded


class GaussianVAE(nn.Module):
    """Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114, appendix B.

    Args:
        parts: A VQ-VAE, whose encoder, decoder and objective are used, and not its quantizer.
        dim: Channels D of the latent.
    """

    def __init__(self, parts, dim):
        super().__init__()
        self.encoder, self.decoder, self.objective = parts.encoder, parts.decoder, parts.objective
        self.head = nn.Conv2d(dim, 2 * dim, 1)  # to means, and to logs of the deviations

    def encode(self, x):
        """A latent (B, D, h, w) of each image, and its divergence from N(0, 1) in nats (B,)."""
        mean, log_deviation = self.head(self.encoder(x)).chunk(2, dim=1)
        kl = (mean.square() + (2 * log_deviation).exp() - 1) / 2 - log_deviation
        z = mean + log_deviation.exp() * torch.randn_like(mean)
        return z, kl.flatten(1).sum(1)

    def distribution(self, z):
        """What the decoder says of the images that have these latents."""
        return Decoded(self.decoder, self.objective, self.decoder(z)).distribution()

    def nats(self, x):
        """The bound that training lowers: what an image and its latent cost. (B,)"""
        z, kl = self.encode(x)
        return kl - self.distribution(z).log_prob(x)
