"""What must hold for the start from data."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.autoencoder.models import images, levels, small, with_scales
from torch import distributed as dist
from torch import multiprocessing
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from vqkit.autoencoder import VQVAE, start
from vqkit.modalities.image import GaussianObjective
from vqkit.quantizers import EMAConfig, EMAVectorQuantizer


def test_the_codebook_starts_from_the_vectors_of_all_batches():
    model = small(EMAConfig(codebook_size=16))
    batches = [images(4, seed=seed) for seed in range(5)]
    model.initialize(batches, seed=3)
    out = model.eval()(torch.cat(batches))
    assert len(out.codes.flat().unique()) == 16
    errors = out.terms["commitment"].value
    assert errors < 0.3 * out.z_e[0].flatten(0, -2).var(dim=0).mean()


def test_the_start_is_a_function_of_weights_batches_and_seed():
    first, second, other = (small(EMAConfig(codebook_size=16)) for _ in range(3))
    for model, seed in ((first, 3), (second, 3), (other, 4)):
        model.train()
        model.initialize([images(8), images(8, seed=1)], seed=seed)
    assert_close(dict(first.state_dict()), dict(second.state_dict()), rtol=0, atol=0)
    assert first.fingerprint() != other.fingerprint()
    assert first.training


def test_padding_has_no_part_in_the_start():
    x, mask = images(8), torch.zeros(8, 16, 16, dtype=torch.bool)
    mask[:, :8, :12] = True
    models = [small(EMAConfig(codebook_size=16)) for _ in range(2)]
    for model, filler in zip(models, (0, 255), strict=True):
        model.initialize([(x.masked_fill(~mask.unsqueeze(1), filler), mask), images(2)], seed=0)
    assert_close(dict(models[0].state_dict()), dict(models[1].state_dict()), rtol=0, atol=0)
    real = models[0].eval()(x, mask).codes.levels[0].mask
    seen: list[torch.Tensor] = []
    models[0].quantizers[0].initialize = lambda z_e, *_, **__: seen.append(z_e)
    models[0].initialize([(x, mask)], seed=0)
    assert torch.equal(seen[0], models[0](x, mask).z_e[0][real])
    values = torch.cat([x[:, :, :8, :12].flatten(), images(2).flatten()]).double() / 127.5 - 1
    variance = models[1].objective.variance.double()
    assert_close(variance, values.var(correction=0), rtol=1e-6, atol=0)


def test_the_lists_that_a_loader_makes_are_batches():
    x, mask = images(8), torch.rand(8, 16, 16) < 0.8
    cut = list(zip(x.split(4), mask.split(4), strict=True))
    found = []
    for batches in (cut, list(DataLoader(TensorDataset(x, mask), batch_size=4))):
        model = small(EMAConfig(codebook_size=16))
        model.initialize(batches, seed=0)
        model.calibrate(batches)
        found.append((model.refit(batches, passes=2), model.state_dict()))
    assert found[0][0] == found[1][0]
    assert_close(dict(found[0][1]), dict(found[1][1]), rtol=0, atol=0)
    with pytest.raises(TypeError, match="a batch is of dict; give a tensor, or"):
        small(EMAConfig(codebook_size=16)).initialize([{"x": x}], seed=0)  # pyright: ignore


def test_too_many_vectors_are_thinned_out_evenly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(start, "MAX_VECTORS", 600)
    batches = [torch.arange(n, dtype=torch.float32).unsqueeze(1) for n in (1000, 100, 5000)]
    kept = start.joined_vectors(batches, 3, seed=0)
    assert len(kept) == 200 + 100 + 200
    assert torch.equal(kept[200:300], batches[1])
    assert (kept[:200].diff(dim=0) > 0).all()  # in order, none twice
    assert 430 < kept[:200].mean() < 570  # an even spread over 0 to 1000
    assert torch.equal(kept, start.joined_vectors(batches, 3, seed=0))
    assert not torch.equal(kept, start.joined_vectors(batches, 3, seed=1))


def test_more_entries_than_vectors_are_refused_by_name_and_number():
    model = small(EMAConfig(codebook_size=16))
    mask = torch.ones(1, 16, 16, dtype=torch.bool)
    mask[:, :4, :4] = False
    with pytest.raises(ValueError, match="codebook_size is 16, but there are 15 vectors"):
        model.initialize([(images(1), mask)], seed=0)


def test_a_start_from_nothing_is_refused():
    with pytest.raises(ValueError, match="no batches"):
        small().initialize([], seed=0)


def two_levels() -> VQVAE:
    return levels(2)


def start_share(rank: int, folder: Path, build: Callable[[], VQVAE]) -> None:
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    model = build().double()
    shares = [images(6, 1, seed=seed) for seed in range(3)]
    model.initialize([share[:2] if rank == 0 else share[2:] for share in shares], seed=5)
    model.calibrate([share[:2] if rank == 0 else share[2:] for share in shares])
    torch.save(model.state_dict(), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("build", [two_levels, with_scales])
def test_two_processes_start_as_one_does_from_the_joined_batches(
    tmp_path: Path, build: Callable[[], VQVAE]
):
    multiprocessing.spawn(start_share, (tmp_path, build), nprocs=2)
    model = build().double()
    model.initialize([images(6, 1, seed=seed) for seed in range(3)], seed=5)
    model.calibrate([images(6, 1, seed=seed) for seed in range(3)])
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert_close(states[0], states[1], rtol=0, atol=0)
    assert_close(states[0], dict(model.state_dict()), rtol=0, atol=1e-9)


def test_a_quantizer_without_a_codebook_needs_no_vectors():
    class Rounding(EMAVectorQuantizer):
        def codebooks(self):
            return ()

        def initialize(self, z_e, mask=None, *, seed, keep_started=False):
            pass

    model = VQVAE(torch.nn.Identity(), Rounding(4, 64), torch.nn.Identity(), GaussianObjective())
    model.initialize([torch.rand(3, 4)], seed=0)
