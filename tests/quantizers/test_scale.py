"""What codebooks of 262,144 entries may cost, each in a process of its own."""

import subprocess
import sys

import pytest
import torch

from vqkit.quantizers import kmeans as module
from vqkit.quantizers.kmeans import kmeans

SIZE, DIM, MB = 2**18, 16, 2**20
TABLE = SIZE * DIM * 4 / MB
SCORES = 2**20 * 4 / MB  # of the vectors that are weighed at a time
CODE = """
import sys, torch
from tests.quantizers.watching import peak_mb
from vqkit.quantizers import *

def step(layer, num):
    z_e = torch.randn(num, layer.dim, requires_grad=True)
    out = layer(z_e)
    (out.z_q.sum() + out.loss).backward()

torch.set_num_threads(1)
make, small, num = eval(sys.argv[1]), eval(sys.argv[2]), int(sys.argv[3])
step(small, 64)
before = peak_mb()
step(make, num)
step(make, num)
make.eval().encode(torch.randn(num, make.dim))
print(peak_mb() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "small", "num", "most"),
    [
        ("EMAVectorQuantizer(16, {})", SIZE, 64, 4096, 6 * TABLE),
        ("VectorQuantizer(16, {})", SIZE, 64, 4096, 6 * TABLE),
        ("SimVQuantizer(16, {})", SIZE, 64, 4096, 6 * TABLE),
        ("GumbelQuantizer(16, {})", SIZE, 64, 512, 8 * TABLE + 64 * SCORES),
        ("IndexBackpropQuantizer(16, {})", SIZE, 64, 512, 8 * TABLE + 48 * SCORES),
        ("FiniteScalarQuantizer([8] * {})", 6, 2, 4096, 64),
        ("LookupFreeQuantizer({})", 18, 6, 4096, 64),
        ("BinarySphericalQuantizer({})", 18, 6, 4096, 64),
    ],
)
def test_a_step_and_encoding_need_a_few_tables_and_never_vectors_times_entries(
    name: str, size: int, small: int, num: int, most: float
):
    command = [sys.executable, "-c", CODE, name.format(size), name.format(small), str(num)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) < most < num * SIZE * 4 / MB


@pytest.mark.parametrize(("num", "steps"), [(59, 1), (120, 2), (2000, 10)])
def test_a_large_codebook_takes_no_more_lloyd_steps_than_it_has_vectors_an_entry(
    monkeypatch: pytest.MonkeyPatch, num: int, steps: int
):
    calls, step = [], module.lloyd_step

    def spy(*arguments: torch.Tensor) -> torch.Tensor:
        calls.append(True)
        return step(*arguments)  # pyright: ignore

    monkeypatch.setattr(module, "lloyd_step", spy)
    monkeypatch.setattr(module, "MAX_SEQUENTIAL", 40)
    kmeans(torch.randn(num, 3), 50, seed=0)
    assert len(calls) == steps
    calls.clear()
    kmeans(torch.randn(num, 3), 40, seed=0)
    assert len(calls) == 10
