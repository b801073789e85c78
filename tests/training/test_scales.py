"""What must hold for training with codes that have another grid than their vectors."""

import torch
from tests.training import tiny
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.data.batch import Batch
from vqkit.data.example import Example
from vqkit.modalities.image import GaussianObjective
from vqkit.quantizers import EMAVectorQuantizer, MultiScaleResidual
from vqkit.training import fit
from vqkit.training.autoencoder import AutoencoderTask


class Holed(TensorExamples):
    """Time series (2, 6) that lack some of their positions."""

    def example(self, index: int, seed: int | None = None) -> Example:
        mask = torch.rand(6, generator=torch.Generator().manual_seed(index)) > 0.3
        return Example(super().example(index, seed).x, None, mask)


def model() -> VQVAE:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv1d(2, 8, 1), nn.Tanh(), nn.Conv1d(8, 4, 1))
    decoder = nn.Sequential(nn.Conv1d(4, 8, 1), nn.Tanh(), nn.Conv1d(8, 2, 1))
    parts = [EMAVectorQuantizer(4, 16, decay=0.8) for _ in range(3)]
    quantizer = MultiScaleResidual(parts, [(1,), (2,), (6,)])
    return VQVAE(encoder, quantizer, decoder, GaussianObjective()).double()


def series() -> Holed:
    generator = torch.Generator().manual_seed(0)
    return Holed(2 * torch.rand(48, 2, 6, generator=generator, dtype=torch.float64) - 1)


def trained(**keys: int) -> dict[str, Tensor]:
    made = model()
    fit(made, series(), tiny.config(steps=8, **keys))
    return tiny.state(made)


def test_micro_batches_of_unequal_masks_equal_the_whole_batch():
    assert_close(trained(micro_batches=4), trained(), rtol=0, atol=1e-9)


def test_norms_of_encoder_outputs_are_over_the_real_vectors():
    task, examples = AutoencoderTask(model()), series()
    items = [examples.example(i) for i in range(6)]
    mask = torch.stack([item.mask for item in items])  # pyright: ignore[reportArgumentType]
    x = torch.stack([item.x for item in items])
    found = task(Batch(x, mask, None, torch.arange(6)), measure=True).measures["z_e_norm/codebook"]
    z_e = task.model.encoder(x.masked_fill(~mask.unsqueeze(1), 0)).movedim(1, -1)
    assert_close(found.value, z_e[mask].norm(dim=-1).mean())
    assert found.count == mask.sum()
