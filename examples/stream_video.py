"""A film coded frame by frame while it comes in, with the same codes as of the whole.

The clips are windows that wander over the two photographs that scikit-learn ships.
Run: python examples/stream_video.py
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images

from vqkit.autoencoder import VQVAE, StreamDecoder, StreamEncoder
from vqkit.data import TensorExamples
from vqkit.modalities.video import CausalVideoConfig, VideoMetrics, VideoModelConfig
from vqkit.quantizers import EMAConfig
from vqkit.training import TrainConfig, fit

torch.manual_seed(0)
photos = torch.stack([torch.from_numpy(p.copy()) for p in load_sample_images().images])
photos = F.interpolate(photos.movedim(3, 1), (107, 160), mode="bicubic", antialias=True)


def clip(photo: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """17 windows of 32 x 32, from left or right of some columns. (3, 17, 32, 32) uint8"""
    places = torch.tensor([first, 0]) + torch.rand(2) * torch.tensor([last - first - 32, 75])
    steps = (torch.rand(2) - 0.5) * 4
    found = []
    for _ in range(17):
        x, y = places.round().long().clamp(torch.tensor([first, 0]), torch.tensor([last - 32, 75]))
        found.append(photo[:, y : y + 32, x : x + 32])
        places = places + steps
    return torch.stack(found, dim=1)


train = torch.stack([clip(photos[i % 2], 0, 120) for i in range(400)])
x = torch.stack([clip(photos[i % 2], 120, 160) for i in range(8)])  # of what was not seen

network = CausalVideoConfig(strides=((2, 2), (2, 1)), hidden=32, depth=1, dim=32)
config = VideoModelConfig(network=network, quantizer=EMAConfig(codebook_size=256))
model = VQVAE.from_config(config)
recipe = TrainConfig(
    steps=180, learning_rate=2e-3, warmup_steps=20, batch_size=8, clip_norm=1.0, progress="none"
)
fit(model, TensorExamples(train), recipe)

encoder, decoder = StreamEncoder(model), StreamDecoder(model)
pieces, seen = [], []
for frame in x.split(1, dim=2):  # as from a camera
    pieces.append(encoder.push(frame))
    seen.append(decoder.push(pieces[-1]))
y = torch.cat(seen, dim=2)

streamed = torch.cat([piece.levels[0].indices for piece in pieces], dim=1)
whole, metrics = model.encode(x).levels[0].indices, VideoMetrics()
metrics.add(x, y)
print(f"frames seen after each that came: {[part.shape[2] for part in seen]}")
differ = int((streamed != whole).sum())
print(f"codes that differ from those of the whole: {differ} of {whole.numel()}")
print(f"PSNR of unseen clips, streamed: {metrics.results()['psnr_db']:.1f} dB")
