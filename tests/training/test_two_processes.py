"""Two processes with half the batch each do what one process does, codebooks included."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.training import tiny
from torch import Tensor
from torch.testing import assert_close

from vqkit import distributed
from vqkit.quantizers import Codebook
from vqkit.training import fit

PRECISIONS = {
    "float64, Adam": (torch.float64, "adam", 1e-9),
    "float32, SGD": (torch.float32, "sgd", 1e-5),
}


def train(kind: str, dtype: torch.dtype, optimizer: str) -> dict[str, Tensor]:
    """The weights after 20 steps, and how many entries were revived on the way."""
    revived = torch.zeros((), dtype=torch.int64)
    revive = Codebook.revive

    def counted(book: Codebook, *args: Any, **keys: Any) -> None:
        unused = book.unused_for > 0
        revive(book, *args, **keys)
        revived.add_((unused & (book.unused_for == 0)).sum())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Codebook, "revive", counted)
        model = tiny.model(kind, size=32).to(dtype)
        rate = 0.05 if optimizer == "sgd" else 0.02
        config = tiny.config(optimizer=optimizer, learning_rate=rate, micro_batches=2)
        fit(model, tiny.series(dtype=dtype), config)
    return tiny.state(model) | {"revived": revived}


def half(folder: Path, kind: str, dtype: torch.dtype, optimizer: str) -> None:
    save_file(train(kind, dtype, optimizer), folder / f"{distributed.rank()}.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vq", "ema"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_processes_with_half_the_batch_equal_one(tmp_path: Path, kind: str, precision: str):
    dtype, optimizer, tolerance = PRECISIONS[precision]
    assert tiny.run_pair(half, tmp_path / "store", tmp_path, kind, dtype, optimizer) == [0, 0]
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert_close(first, second, rtol=0, atol=0)
    alone = train(kind, dtype, optimizer)
    assert alone["revived"] > 0
    assert first["revived"] == alone["revived"]
    assert_close(first, alone, rtol=0, atol=tolerance)
