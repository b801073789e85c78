"""A whole VQ-VAE in one file: pictures to discrete codes, and codes back to pictures.

Neural Discrete Representation Learning, https://arxiv.org/abs/1711.00937

Run: python examples/minimal.py    (some seconds; it learns the handwritten digits of scikit-learn)
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN, RESIDUAL = 64, 16  # channels of the convolutions, and inside the residual blocks
DIM, CODEBOOK_SIZE = 16, 64  # vectors of length D become one of K entries: a number from 0 to 63
COMMITMENT, DECAY = 0.25, 0.99  # the paper's beta and gamma


class ResidualBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(HIDDEN, RESIDUAL, 3, padding=1)
        self.narrow = nn.Conv2d(RESIDUAL, HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(F.relu(self.wide(F.relu(x))))


def make_encoder() -> nn.Module:
    """Pictures (B, 1, 2h, 2w) to one vector for each square of 2 x 2 pixels, (B, D, h, w)."""
    return nn.Sequential(
        nn.Conv2d(1, HIDDEN // 2, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(HIDDEN // 2, HIDDEN, 3, padding=1),
        nn.ReLU(),
        ResidualBlock(),
        ResidualBlock(),
        nn.ReLU(),
        nn.Conv2d(HIDDEN, DIM, 1),
    )


def make_decoder() -> nn.Module:
    """The mirror image: vectors (B, D, h, w) to pictures (B, 1, 2h, 2w)."""
    return nn.Sequential(
        nn.Conv2d(DIM, HIDDEN, 3, padding=1),
        ResidualBlock(),
        ResidualBlock(),
        nn.ReLU(),
        nn.ConvTranspose2d(HIDDEN, 1, 4, stride=2, padding=1),
    )


class Quantizer(nn.Module):
    """Replaces each vector by the nearest of K entries; the code is the number of the entry.

    No gradient moves the entries: each is the running average of the vectors that it replaced
    (appendix A.1 of the paper).
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("entries", torch.randn(CODEBOOK_SIZE, DIM))  # (K, D)
        self.register_buffer("counts", torch.zeros(CODEBOOK_SIZE))  # vectors per entry and step
        self.register_buffer("sums", torch.zeros(CODEBOOK_SIZE, DIM))  # and the sum of those

    def start(self, z_e: Tensor) -> None:
        """Puts the entries among the vectors, or most would be far from all and never be used."""
        vectors = z_e.movedim(1, -1).flatten(0, 2)
        self.entries.copy_(vectors[torch.randperm(len(vectors))[:CODEBOOK_SIZE]])

    def forward(self, z_e: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, D, h, w) to quantized vectors (B, D, h, w) and codes (B, h, w)."""
        vectors = z_e.movedim(1, -1)
        codes = torch.cdist(vectors, self.entries[None]).argmin(-1)
        return self.entries[codes].movedim(-1, 1), codes

    @torch.no_grad()
    def update(self, z_e: Tensor, codes: Tensor) -> None:
        """Moves each entry that was used toward the mean of the vectors that it replaced."""
        vectors, codes = z_e.movedim(1, -1).flatten(0, 2), codes.flatten()
        counts = torch.bincount(codes, minlength=CODEBOOK_SIZE)
        sums = torch.zeros_like(self.sums).index_add_(0, codes, vectors)
        self.counts.lerp_(counts.to(self.counts), 1 - DECAY)
        self.sums.lerp_(sums, 1 - DECAY)
        used = counts > 0
        self.entries[used] = self.sums[used] / self.counts[used, None]


class VQVAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.quantizer, self.decoder = make_encoder(), Quantizer(), make_decoder()

    def forward(self, x: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures to reconstructions (B, 1, H, W), loss (), z_e (B, D, h, w), codes (B, h, w)."""
        z_e = self.encoder(x)
        z_q, codes = self.quantizer(z_e)
        # Quantizing has no gradient. Straight through: what the decoder asks of z_q, the encoder
        # gets for z_e, as if z_q were z_e plus a constant.
        outputs = self.decoder(z_q + (z_e - z_e.detach()))
        reconstruction = (outputs - x).square().mean() / variance  # moves decoder and encoder
        commitment = (z_e - z_q).square().mean()  # keeps the encoder close to the entries
        return outputs, reconstruction + COMMITMENT * commitment, z_e, codes


def train_step(
    model: VQVAE, optimizer: torch.optim.Optimizer, x: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """One step on pictures (B, 1, H, W); their loss () and codes (B, h, w) before it."""
    _, loss, z_e, codes = model(x, variance)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    model.quantizer.update(z_e, codes)
    return loss, codes


def show(before: Tensor, after: Tensor, codes: Tensor) -> None:
    """Prints a picture (H, W), its reconstruction (H, W) and its codes (h, w) side by side."""
    for row, inks in enumerate((torch.stack([before, after], 1).clamp(-1, 1) * 2.49 + 2.5).int()):
        left, right = ("".join(" .:*#"[ink] for ink in line) for line in inks)
        numbers = " ".join(f"{code:2d}" for code in codes[row // 2]) if row % 2 == 0 else ""
        print(f"{left}    {right}    {numbers}")


def main() -> None:
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    digits = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 8 - 1  # 0..16 to [-1, 1]
    train, test, variance = digits[:1500], digits[1500:], digits[:1500].var()
    model = VQVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with torch.no_grad():
        model.quantizer.start(model.encoder(train[:256]))
    for step in range(1, 501):
        x = train[torch.randint(len(train), (64,))]
        loss, codes = train_step(model, optimizer, x, variance)
        if step % 100 == 0:
            share = codes.flatten().bincount(minlength=CODEBOOK_SIZE) / codes.numel()
            perplexity = torch.special.entr(share).sum().exp()  # as if so many were used alike
            print(f"step {step}: loss {loss:.3f}, perplexity {perplexity:.0f}")
    with torch.no_grad():
        outputs, _, _, codes = model(test, variance)
    print(f"new digits: error / variance {(outputs - test).square().mean() / variance:.3f}")
    for i in range(3):
        show(test[i, 0], outputs[i, 0], codes[i])


if __name__ == "__main__":
    main()
