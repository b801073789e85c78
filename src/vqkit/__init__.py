"""vqkit: discrete codes for any data, priors over them, and generation."""

__version__ = "0.1.0"
