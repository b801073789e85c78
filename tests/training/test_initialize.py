"""The reservoir from which a run starts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training import tiny
from torch import Tensor
from torch.testing import assert_close

from vqkit.training import fit
from vqkit.training.autoencoder import AutoencoderTask
from vqkit.training.initialize import MAX_VECTORS, initialize, num_items
from vqkit.training.runtime import open_runtime


def test_the_reservoir_has_64_vectors_for_each_entry_and_at_least_8_batches():
    assert num_items([(512, 64.0)], 8) == 512
    assert num_items([(512, 64.0)], 128) == 8 * 128
    assert num_items([(512, 64.0), (512, 16.0)], 8) == 2048
    assert num_items([(65_536, 64.0)], 8) == MAX_VECTORS // 64
    assert num_items([], 8) == num_items([(512, 0.0)], 8) == 64


def start(examples=None, **keys: Any) -> tuple[dict[str, Tensor], list[int]]:
    """The state of a model after the start, and the sizes of the batches it saw."""
    model, sizes = tiny.model().double(), []
    model_start = model.initialize
    task = AutoencoderTask(model)

    def seen(batches, *, seed: int, keep_started: bool) -> None:
        sizes.extend(len(x) for x, _ in batches)
        model_start(batches, seed=seed, keep_started=keep_started)

    model.initialize = seen
    config = tiny.config(**keys)
    with open_runtime(config, None) as runtime:
        initialize(task, examples or tiny.series(dtype=torch.float64), config, runtime)
    return tiny.state(model), sizes


def test_the_start_is_a_pure_function_of_the_seed():
    first, sizes = start()
    assert sizes == [8] * 12  # all the data there is, less than 64 vectors an entry
    assert_close(start()[0], first, rtol=0, atol=0)
    other = start(seed=1)[0]["quantizers.0.codebook.entries"]
    assert not torch.equal(other, first["quantizers.0.codebook.entries"])


def test_the_start_is_that_of_the_joined_batches_however_they_are_split():
    whole, _ = start()
    split, sizes = start(micro_batches=4)
    assert sizes == [2] * 48
    assert_close(split, whole, rtol=0, atol=1e-9)


def test_fewer_examples_than_a_batch_make_one_small_batch():
    _, sizes = start(tiny.series(5, dtype=torch.float64))
    assert sizes == [5]


@pytest.mark.parametrize("kind", ["vq", "ema"])
def test_a_run_starts_with_an_entry_for_each_part_of_the_data(tmp_path: Path, kind: str):
    model = tiny.model(kind)
    fit(model, tiny.series(), tiny.config(steps=1, log_every=1), folder=tmp_path)
    assert tiny.lines(tmp_path)[0]["usage"][0] > 0.7
