"""Token sets of codes that have another grid than the vectors: scales in a row."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tests.tokens.models import images, tokenizer
from torch import nn

from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.data.example import Example
from vqkit.evaluation import evaluate, write_report
from vqkit.modalities.image import GaussianObjective
from vqkit.modalities.image.pictures import to_uint8
from vqkit.quantizers import EMAVectorQuantizer, MultiScaleResidual
from vqkit.tokens import TokenSet, decode_dataset, encode_dataset

NUM = 9


class Holed(TensorExamples):
    """Every second item lacks its last corner, so that the last of its codes is not real."""

    def example(self, index: int, seed: int | None = None) -> Example:
        x = super().example(index, seed).x
        mask = torch.ones(x.shape[1:], dtype=torch.bool)
        mask[4:, 8:] = index % 2 == 0
        return Example(x, None, mask)


def scaled() -> VQVAE:
    """A tokenizer of images of 8 x 12 whose codes are 1, then 2 x 3."""
    plain = tokenizer()
    quantizer = MultiScaleResidual([EMAVectorQuantizer(4, 16)] * 2, [(1, 1), (2, 3)])
    assert isinstance(plain.encoder, nn.Module)
    model = VQVAE(plain.encoder, quantizer, plain.decoder, GaussianObjective())
    model.initialize([images(40, seed=3).example(i).x.unsqueeze(0) for i in range(40)], seed=0)
    return model.eval()


def test_codes_with_holes_come_back_whole_and_decode_to_the_models_own_images(tmp_path: Path):
    model, examples = scaled(), Holed([images().example(i).x for i in range(NUM)])
    encode_dataset(model, examples, tmp_path / "tokens", batch_size=4, shard_size=5)
    tokens = TokenSet.open(tmp_path / "tokens")
    decode_dataset(model, tokens, tmp_path / "out", batch_size=1)
    assert [spec.grid for spec in tokens.specs] == [(7,)]
    for i in range(NUM):
        example = examples.example(i)
        alone = model.encode(example.x.unsqueeze(0), example.mask.unsqueeze(0))
        assert tokens.codes(i).specs == alone.specs
        assert torch.equal(tokens.codes(i).flat(), alone.flat())
        mask = tokens.codes(i).flat_mask()
        assert (mask is None) == (i % 2 == 0)
        assert mask is None or mask.tolist() == [[True] * 6 + [False]]
        with Image.open(tmp_path / "out" / f"{tokens.id(i)}.png") as image:
            expected = to_uint8(model.decode(alone))[0, 0].numpy()
            np.testing.assert_array_equal(np.asarray(image), expected)


def test_an_evaluation_counts_every_scales_codes_and_shows_what_places_became(tmp_path: Path):
    model, examples = scaled(), images(NUM)
    found = evaluate(model, examples, num_shown=4)
    assert found.metrics["tokens_per_item"] == 7
    assert found.metrics["code_bits_uniform"] == 7 * 4
    assert found.stats[0][0].num_vectors == 7 * NUM
    (colors,) = found.shown.code_maps
    assert colors.shape == (4, 3, 2, 3)
    (atlas,) = found.atlases
    entry = torch.full((1, 7, 1), atlas.entries[0])
    whole = model.quantizers[0].decode(entry).movedim(-1, 1)
    assert torch.equal(atlas.images[0], to_uint8(model.decoder(whole))[0, :, 2:6, 3:9])
    page = write_report(tmp_path, found, title="scales").read_text()
    assert "each turned into 7 codes and back" in page
