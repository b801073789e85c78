"""Sentences as codes, and any string back from its codes without loss.

Run: python examples/lossless_text.py [FILE.txt]
"""

import sys
import tempfile
from pathlib import Path

import torch

from vqkit.autoencoder import VQVAE
from vqkit.modalities.text import (
    TextDataConfig,
    TextModelConfig,
    TextNetworkConfig,
    corrections,
    restore,
)
from vqkit.quantizers import EMAConfig
from vqkit.training import TrainConfig, fit

STRINGS = ("You may reproduce the Work", "something else entirely", "ça, 文字, \U0001f600")

with tempfile.TemporaryDirectory() as folder:
    copy = Path(folder) / "licence.txt"
    copy.write_bytes((Path(__file__).parents[1] / "LICENSE").read_bytes())
    texts = TextDataConfig(path=sys.argv[1] if len(sys.argv) > 1 else str(copy), chunk=64).open()
    torch.manual_seed(0)
    network = TextNetworkConfig(symbol_width=16, width=32, heads=2, dim=16)
    config = TextModelConfig(network=network, quantizer=EMAConfig(codebook_size=256))
    model = VQVAE.from_config(config)
    train = TrainConfig(steps=200, batch_size=16, learning_rate=3e-3, progress="none", device="cpu")
    fit(model, texts.train, train, eval_examples=texts.evaluation)

for text in STRINGS:
    found = corrections(model, text)
    assert restore(model, found) == text
    size, num = len(text.encode()), found.codes.levels[0].indices.shape[1]
    print(
        f"{text}: {size} bytes, {num} codes of 8 bits, {len(found.positions)} corrections, "
        f"{found.bits / size:.2f} bits per byte given the codes"
    )
