"""A quantizer in a network that is not vqkit's. Run: python examples/foreign_network.py"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.quantizers import EMAVectorQuantizer


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 16, 4, 2, 1))
        self.quantizer = EMAVectorQuantizer(dim=16, codebook_size=128)
        up = nn.ConvTranspose2d(16, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1)
        self.up = nn.Sequential(*up)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.quantizer(self.down(x).movedim(1, -1))  # channels last for the quantizer
        return self.up(out.z_q.movedim(-1, 1)), out.loss


torch.manual_seed(0)
places = torch.rand(1024, 2, 1, 1) * 16  # the data: images of a round spot somewhere
along = torch.arange(16.0)
images = torch.exp(-((along[:, None] - places[:, :1]) ** 2 + (along - places[:, 1:]) ** 2) / 8)

model = Autoencoder()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for _ in range(300):
    x = images[torch.randint(len(images), (64,))]
    reconstruction, loss = model(x)
    error = F.mse_loss(reconstruction, x) / images.var()
    optimizer.zero_grad()
    (error + loss).backward()
    optimizer.step()
usage = model.quantizer.codebook.usage()
print(f"error / variance {error:.3f}, {usage.used} of {usage.size} entries in use")
