"""Sound coded while it comes in: 4 ms at a time, and the same codes as of the whole.

Run: python examples/stream_sound.py
"""

import torch

from vqkit.autoencoder import VQVAE, StreamDecoder, StreamEncoder
from vqkit.data import TensorExamples
from vqkit.modalities.audio import AudioModelConfig, CausalConfig, SpectralConfig
from vqkit.quantizers import EMAConfig, ResidualConfig
from vqkit.training import TrainConfig, fit

RATE = 8000
torch.manual_seed(0)
time = torch.arange(RATE // 8) / RATE
hertz, loud, phase = torch.rand(3, 512, 1, 1)
tones = loud * torch.sin(2 * torch.pi * ((100 + 200 * hertz) * time + phase))  # (512, 1, 1000)

config = AudioModelConfig(
    sample_rate=RATE,
    network=CausalConfig(patch=4, strides=(8,), hidden=32, depth=1, dim=16, activation="silu"),
    quantizer=ResidualConfig(quantizer=EMAConfig(codebook_size=64), stages=4, dropout=0.5),
    objective=SpectralConfig(waveform=0, sdr=1, stft=0, mel=0),
)
model = VQVAE.from_config(config)
train = TrainConfig(steps=300, learning_rate=5e-3, warmup_steps=20, batch_size=16, progress="none")
fit(model, TensorExamples(tones[:480]), train)

x = tones[480:481]
encoder, decoder = StreamEncoder(model), StreamDecoder(model)
pieces, heard = [], []
for chunk in x.split(encoder.hop, dim=2):  # as from a microphone
    pieces.append(encoder.push(chunk))
    heard.append(decoder.push(pieces[-1]))
pieces.append(encoder.end())
heard.append(decoder.push(pieces[-1]))
y = torch.cat(heard, dim=2)[..., : x.shape[2]]

streamed = torch.cat([piece.levels[0].indices for piece in pieces], dim=1)
whole = model.encode(x).levels[0].indices
kept, lost = x.square().sum(), (x - y).square().sum()
print(f"one code for {encoder.hop} samples, heard {1000 * encoder.latency / RATE:.0f} ms later")
print(f"codes that differ from those of the whole: {int((streamed != whole).sum())}")
print(f"signal-to-noise ratio of the stream: {10 * float((kept / lost).log10()):.1f} dB")
