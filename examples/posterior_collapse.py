"""A strong decoder ignores a Gaussian latent, and not codes. Run me: it takes two minutes."""

import torch
from gaussian_vae import GaussianVAE
from sklearn.neural_network import MLPClassifier

from vqkit.autoencoder import VQVAE
from vqkit.codes import Codes
from vqkit.data.digits import read_digits
from vqkit.modalities import image
from vqkit.priors import TransformerConfig
from vqkit.quantizers import EMAConfig

LN2 = torch.tensor(2.0).log()
x, NUM, rows = torch.from_numpy(read_digits()).unsqueeze(1) / 127.5 - 1, 1500, {}
PARTS = {"channels": 1, "network": image.ConvConfig(hidden=32, residual_hidden=16, dim=8)}
PARTS |= {"quantizer": EMAConfig(codebook_size=16), "objective": image.LogisticMixtureConfig()}


def train(model, loss, data):  # the last 297 digits are held out
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(1000):
        optimizer.zero_grad()
        loss(data[torch.randint(NUM, (64,))]).mean().backward()
        optimizer.step()


def report(name, says, z, drawn, nats, features):  # latents of all digits, and drawn ones
    own, other = (says(z[NUM:].roll(shift, 0)).log_prob(x[NUM:]) for shift in (0, 148))
    both = torch.stack([features(z), features(drawn)], dim=1).flatten(0, 1)
    truth, network = [0, 1] * len(z), MLPClassifier(64, early_stopping=True, random_state=0)
    right = network.fit(both[: 2 * NUM], truth[: 2 * NUM]).score(both[2 * NUM :], truth[2 * NUM :])
    found = ((nats[NUM:] - own) / 64, (own - other) / 64, nats[NUM:])
    rows[name] = [(part.mean() / LN2).item() for part in found] + [right]
    text = "{:.2f} bits/dim, {:.3f} saved by the own latent of {:.2f} bits, told apart: {:.0%}"
    print(f"{name:<18}", text.format(*rows[name]), flush=True)


def compare(name, config):
    vae, model = GaussianVAE(VQVAE.from_config(config), 8), VQVAE.from_config(config)
    train(vae, lambda x: vae.nats(x) / 64, x)
    z, kl = (part.detach() for part in vae.encode(x))
    report(name + ", Gaussian", vae.distribution, z, torch.randn_like(z), kl, torch.nn.Flatten())
    model.initialize(x[:NUM].split(250), seed=0)
    train(model, lambda x: model(x).loss, x)
    codes = model.eval().encode(x)
    prior = TransformerConfig(layers=2, width=64, dropout=0).build(codes.specs)
    train(prior, lambda flat: prior.nats(Codes.from_flat(flat, codes.specs)).sum(1), codes.flat())
    drawn, nats = prior.sample(len(x), seed=0).flat(), prior.nats(codes).sum(1)

    def says(flat):
        return model.distribution(Codes.from_flat(flat, codes.specs))

    report(name + ", codes", says, codes.flat(), drawn, nats, lambda z: torch.eye(16)[z].flatten(1))


torch.manual_seed(0)
compare("conv", image.ImageModelConfig(**PARTS))
pixelcnn = image.PixelCNNDecoderConfig(width=24, layers=3)
compare("PixelCNN", image.ImageModelConfig(**PARTS, decoder=pixelcnn))
