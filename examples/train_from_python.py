"""Trains a tokenizer of your own networks on your own data; run it twice, and it goes on.

Run: python examples/train_from_python.py [FOLDER]
"""

import sys

import torch
from torch import nn

from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.modalities.image import GaussianObjective
from vqkit.quantizers import EMAVectorQuantizer
from vqkit.training import TrainConfig, fit

torch.manual_seed(0)
time = torch.arange(64) / 64
pitch, phase = torch.rand(2, 2048, 1, 1)  # the data: sine waves (N, 1, 64) in [-1, 1]
waves = torch.sin(2 * torch.pi * ((1 + 3 * pitch) * time + phase))

encoder = nn.Sequential(nn.Conv1d(1, 32, 8, 4, 2), nn.ReLU(), nn.Conv1d(32, 16, 3, padding=1))
decoder = nn.Sequential(
    nn.Conv1d(16, 32, 3, padding=1), nn.ReLU(), nn.ConvTranspose1d(32, 1, 8, 4, 2)
)
model = VQVAE(encoder, EMAVectorQuantizer(16, codebook_size=64), decoder, GaussianObjective())

config = TrainConfig(steps=500, batch_size=32, checkpoint_every=250)
train, held_out = TensorExamples(waves[:1920]), TensorExamples(waves[1920:])
fit(model, train, config, folder=sys.argv[1] if len(sys.argv) > 1 else None, eval_examples=held_out)

codes = model.encode(waves[:4])
print("codes of the first wave:", codes.levels[0].indices[0, :, 0].tolist())
print("mean squared error:", (model.decode(codes) - waves[:4]).square().mean().item())
