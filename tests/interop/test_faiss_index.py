"""An index of Faiss finds what the model's own codes find."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.interop import faiss_index, to_faiss
from vqkit.modalities.vector import IdentityConfig, MLPConfig, VectorModelConfig
from vqkit.modalities.vector.objective import SquaredErrorConfig
from vqkit.quantizers import (
    AdditiveConfig,
    EMAConfig,
    ProductConfig,
    QuantizerConfig,
    ResidualConfig,
    RotatedConfig,
)

faiss = faiss_index.library()
DIM = 6


def ema(size: int) -> EMAConfig:
    return EMAConfig(codebook_size=size)


def data(num: int, seed: int = 0) -> Tensor:
    x = torch.randn(num, DIM, generator=torch.Generator().manual_seed(seed))
    return x * torch.arange(1, DIM + 1) + 50


def model(quantizer: QuantizerConfig, standardize: str, network=None) -> VQVAE:
    torch.manual_seed(0)
    objective = SquaredErrorConfig(standardize=standardize)  # pyright: ignore
    config = VectorModelConfig(
        columns=DIM, network=network or IdentityConfig(), quantizer=quantizer, objective=objective
    )
    made = VQVAE.from_config(config)
    made.initialize([data(600)], seed=0)
    return made.eval()


CASES = {
    "product": (ProductConfig(quantizer=ema(16), parts=3), "IndexPQ"),
    "product of 5 entries": (ProductConfig(quantizer=ema(5), parts=2), "IndexPQ"),
    "one codebook": (ema(64), "IndexPQ"),
    "product of 300 entries": (ProductConfig(quantizer=ema(300), parts=2), "IndexPQ"),
    "rotated": (
        RotatedConfig(quantizer=ProductConfig(quantizer=ema(16), parts=3), iterations=4),
        "IndexResidualQuantizer",
    ),
    "residual": (ResidualConfig(quantizer=ema(16), stages=3), "IndexResidualQuantizer"),
    "additive": (
        AdditiveConfig(quantizer=ema(16), stages=3, beams=4, rounds=3),
        "IndexResidualQuantizer",
    ),
}


@pytest.mark.parametrize("standardize", ["columns", "all", "none"])
@pytest.mark.parametrize("name", CASES)
def test_an_index_decodes_and_finds_what_the_codes_do(name: str, standardize: str):
    quantizer, kind = CASES[name]
    made = model(quantizer, standardize)
    codes = made.encode(data(200, 1))
    index = to_faiss(made, codes)
    assert type(faiss.downcast_index(index)).__name__ == kind
    assert index.ntotal == 200
    decoded = made.decode(codes)
    found = torch.from_numpy(index.reconstruct_n(0, 200))
    assert_close(found, decoded, rtol=1e-5, atol=1e-4)
    wanted = data(10, 2)
    distances, _ = index.search(wanted.numpy(), 5)
    squares = (wanted.double().unsqueeze(1) - decoded.double()).square().sum(-1)
    expected = squares.sort(1).values[:, :5]
    assert_close(torch.from_numpy(distances).double(), expected, rtol=1e-3, atol=1e-2)


def test_an_index_is_written_and_read_and_takes_more_vectors(tmp_path: Path):
    made = model(ProductConfig(quantizer=ema(16), parts=3), "all")
    index = to_faiss(made, made.encode(data(50, 1)))
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    again = faiss.read_index(str(tmp_path / "x.faiss"))
    again.add(data(70, 3).numpy())
    assert again.ntotal == 120
    own = made.decode(made.encode(data(70, 3)))
    assert_close(torch.from_numpy(again.reconstruct_n(50, 70)), own, rtol=1e-5, atol=1e-4)


def test_what_is_no_sum_of_entries_is_refused():
    network = MLPConfig(hidden=(8,), dim=4)
    made = model(ResidualConfig(quantizer=ema(16), stages=2), "all", network)
    with pytest.raises(ValueError, match="they come out of a network"):
        to_faiss(made, made.encode(data(20)))


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ImportError, match=r'pip install "vqkit\[faiss\]"'):
        faiss_index.library()
