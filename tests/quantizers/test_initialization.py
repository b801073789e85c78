"""What must hold for the start of a codebook from data."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.modalities.image import GaussianObjective
from vqkit.quantizers import (
    BinarySphericalQuantizer,
    Codebook,
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    GumbelQuantizer,
    LatentQuantizer,
    LookupFreeQuantizer,
    MultiScaleResidual,
    Normalized,
    NotFinite,
    Product,
    Quantizer,
    RandomProjectionQuantizer,
    Residual,
    Selective,
    VectorQuantizer,
)
from vqkit.quantizers.search import nearest

DECAY = 0.9


def test_a_start_is_as_if_its_vectors_had_been_committed_once():
    torch.manual_seed(0)
    z = torch.randn(400, 4)
    started = Codebook(16, 4)
    started.initialize(z, seed=0, decay=DECAY)
    committed = Codebook.from_entries(started.entries.data)
    committed.collect(z, committed.nearest(z))
    committed.commit(DECAY)
    counts = nearest(z, started.entries).bincount(minlength=16)
    assert_close(started.average_counts, (1 - DECAY) * counts)
    assert_close(started.average_counts, committed.average_counts)
    sums = torch.zeros(16, 4).index_add_(0, nearest(z, started.entries), z)
    assert (started.average_sums - (1 - DECAY) * sums).norm() < 0.05 * started.average_sums.norm()


def test_entry_sum_and_count_agree_after_a_start():
    codebook = Codebook(16, 4)
    codebook.initialize(torch.randn(400, 4), seed=0, decay=DECAY)
    means = codebook.average_sums / codebook.average_counts.unsqueeze(-1)
    assert_close(means, codebook.entries.data)


def test_the_first_step_after_a_start_does_not_shrink_the_codebook():
    torch.manual_seed(0)
    layer = EMAVectorQuantizer(4, 16, decay=DECAY)
    z_e = torch.randn(400, 4) + 10
    layer.initialize(z_e, seed=0)
    before = layer.codebook.entries.clone()
    layer(z_e)
    assert_close(layer.codebook.entries.data, before, rtol=0, atol=0.1)


def test_a_second_forward_does_not_start_again():
    torch.manual_seed(0)
    layer = VectorQuantizer(4, 16, revive=False)
    layer(torch.randn(400, 4))
    before = layer.codebook.entries.clone()
    layer(torch.randn(400, 4) + 100)
    assert torch.equal(layer.codebook.entries, before)


def test_a_reloaded_codebook_does_not_start_again():
    torch.manual_seed(0)
    layer, reloaded = (VectorQuantizer(4, 16, revive=False) for _ in range(2))
    layer(torch.randn(400, 4))
    reloaded.load_state_dict(layer.state_dict())
    reloaded(torch.randn(400, 4) + 100)
    assert torch.equal(reloaded.codebook.entries, layer.codebook.entries)


def test_a_codebook_started_by_the_engine_ignores_the_first_batch():
    torch.manual_seed(0)
    layer = VectorQuantizer(4, 16, revive=False)
    layer.initialize(torch.randn(400, 4), seed=0)
    before = layer.codebook.entries.clone()
    layer(torch.randn(400, 4) + 100)
    assert torch.equal(layer.codebook.entries, before)


def test_a_start_depends_on_the_vectors_and_the_seed_alone():
    z = torch.randn(400, 4)
    torch.manual_seed(1)
    first = Codebook(16, 4)
    torch.manual_seed(2)
    second = Codebook(16, 4)
    assert first.seed != second.seed
    first.initialize(z, seed=5)
    second.initialize(z, seed=5)
    assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


def test_a_layer_used_alone_is_reproducible_by_torchs_seed():
    z_e = torch.randn(400, 4)
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(EMAVectorQuantizer(4, 16)(z_e).z_q)
    assert torch.equal(*outputs)


def test_padding_has_no_part_in_a_start():
    """Neither with what it holds nor with the zeros that it is replaced by."""
    z_e = torch.randn(400, 4) + 50
    mask = torch.arange(400) < 200
    z_e[200:] = 1e6
    layer = VectorQuantizer(4, 16)
    layer(z_e, mask)
    assert ((layer.codebook.entries - 50).abs() < 10).all()


def test_a_first_batch_without_real_vectors_leaves_the_start_to_the_next():
    layer = VectorQuantizer(4, 16)
    layer(torch.randn(10, 4), torch.zeros(10, dtype=torch.bool))
    assert not layer.codebook.is_initialized
    layer(torch.randn(400, 4) + 50)
    assert layer.codebook.is_initialized
    assert (layer.codebook.entries > 40).all()


@pytest.mark.parametrize("num", [1, 7])
def test_after_a_start_from_few_vectors_revival_brings_every_entry_into_use(num: int):
    torch.manual_seed(0)
    layer = EMAVectorQuantizer(4, 32)
    layer(torch.randn(num, 4))
    for _ in range(60):
        layer(torch.randn(256, 4))
    assert len(layer.encode(torch.randn(2000, 4)).unique()) == 32


def test_vectors_too_large_for_a_mean_start_no_codebook():
    layer = EMAVectorQuantizer(4, 8)
    with pytest.raises(NotFinite, match="too large to start a codebook"):
        layer(torch.full((50, 4), 3e38) * torch.tensor([1.0, -1.0, 1.0, 1.0]))
    assert not layer.codebook.is_initialized


# What starts from data and has no codebook that would say whether it has.
WITHOUT_CODEBOOK: dict[str, Callable[[], Quantizer]] = {
    "latent": lambda: LatentQuantizer([5] * 4),
    "stages of latent": lambda: Residual([LatentQuantizer([5] * 4) for _ in range(2)]),
    "shared latent": lambda: Residual([LatentQuantizer([5] * 4)] * 2),
    "product of latent": lambda: Product([LatentQuantizer([5, 5]), LatentQuantizer([5, 5])]),
    "scales of latent": lambda: MultiScaleResidual([LatentQuantizer([5] * 4)] * 2, [(3,), (5,)]),
    "selective latent": lambda: Selective(LatentQuantizer([5] * 4)),
    "selective fsq": lambda: Selective(FiniteScalarQuantizer([5] * 4)),
    "selective lfq": lambda: Selective(LookupFreeQuantizer(4)),
    "selective bsq": lambda: Selective(BinarySphericalQuantizer(4)),
    "selective projection": lambda: Selective(RandomProjectionQuantizer(4, 8, entry_dim=3)),
    "selective of given": lambda: Selective(
        EMAVectorQuantizer(4, 8, codebook=Codebook.from_entries(torch.randn(8, 4)))
    ),
    "normalized selective": lambda: Normalized(Selective(FiniteScalarQuantizer([5] * 4))),
}
STARTED_BY_ITSELF = ["values", "average", "offset"]  # values of latent, the threshold of selective


def own_state(layer: Quantizer) -> dict[str, Tensor]:
    state = layer.state_dict().items()
    return {name: x.clone() for name, x in state if name.split(".")[-1] in STARTED_BY_ITSELF}


@pytest.mark.parametrize("by", ["first batch", "engine"])
@pytest.mark.parametrize("name", WITHOUT_CODEBOOK)
def test_what_has_no_codebook_starts_from_data_once(name: str, by: str):
    torch.manual_seed(0)
    layer, z_e = WITHOUT_CODEBOOK[name](), (torch.rand(60, 5, 4) - 0.5) * 0.2 + 0.6
    model = VQVAE(nn.Identity(), layer, nn.Identity(), GaussianObjective())

    def start(shift: float) -> dict[str, Tensor]:
        if by == "engine":
            model.initialize([(z_e + shift).movedim(-1, 1)], seed=0, keep_started=True)
        else:
            layer.commit_in_forward = False
            layer(z_e + shift)
        return own_state(layer)

    before = own_state(layer)
    assert not layer.is_started
    first = start(0.0)
    assert layer.is_started
    assert all(not torch.equal(first[key], before[key]) for key in before)
    assert_close(start(0.3), first, rtol=0, atol=0)


@pytest.mark.parametrize("name", WITHOUT_CODEBOOK)
def test_whether_it_has_started_is_part_of_its_state(name: str):
    torch.manual_seed(0)
    layer, other, z_e = WITHOUT_CODEBOOK[name](), WITHOUT_CODEBOOK[name](), torch.randn(60, 5, 4)
    fresh = copy.deepcopy(layer.state_dict())
    layer(z_e)
    state = copy.deepcopy(layer.state_dict())
    other.load_state_dict(state)
    assert other.is_started
    other.load_state_dict(fresh)
    assert not other.is_started
    for key in [key for key in state if key.endswith("initialized") and "codebook" not in key]:
        del state[key]  # as it was saved before that was kept
    other.load_state_dict(state)
    assert other.is_started


def test_a_state_of_something_else_is_no_start_of_a_threshold():
    layer = Selective(EMAVectorQuantizer(4, 8))
    entries = {"quantizers.0.codebook.entries": torch.randn(8, 4)}
    layer.load_state_dict(entries, strict=False)
    assert layer.quantizer.is_started
    assert not layer.is_started


def test_a_saved_model_has_the_same_name_whether_or_not_its_start_was_kept():
    """Tokens of a model from before it was kept still belong to it."""
    layer = LatentQuantizer([5] * 4)
    model = VQVAE(nn.Identity(), layer, nn.Identity(), GaussianObjective())
    before = model.fingerprint()
    layer.load_state_dict({"values": layer.values.detach()}, strict=False)
    assert layer.is_started
    assert model.fingerprint() == before


def sharing(kind: type, dim: int, size: int = 4) -> list[Quantizer]:
    """Two layers, not one, of one fresh codebook."""
    first = kind(dim, size)
    return [first, kind(dim, size, codebook=first.codebook)]


@pytest.mark.parametrize("by", ["first batch", "start", "start of the rest"])
@pytest.mark.parametrize("kind", [EMAVectorQuantizer, VectorQuantizer, GumbelQuantizer])
def test_layers_that_share_a_codebook_start_it_from_what_all_of_them_see(kind: type, by: str):
    z_e = torch.tensor([[0.0, 10.0], [1.0, 11.0]]).repeat(5, 1)
    nested = Product([Product([part]) for part in sharing(kind, 1)])
    for layer in (Product(sharing(kind, 1)), nested):
        layer.commit_in_forward = False
        if by == "first batch":
            layer(z_e)
        else:
            layer.initialize(z_e, seed=0, keep_started="rest" in by)
        assert sorted(layer.codebooks()[0].entries.flatten().tolist()) == [0, 1, 10, 11]


@pytest.mark.parametrize("by", ["first batch", "start"])
@pytest.mark.parametrize("scales", [False, True])
def test_stages_that_share_a_codebook_start_it_from_what_all_of_them_see(by: str, scales: bool):
    """As where the same layer is all stages: only what a stage leaves is near to 0."""
    stages = sharing(EMAVectorQuantizer, 2, size=8)
    layer = MultiScaleResidual(stages, [(1,), (2,)]) if scales else Residual(stages)
    corners = 100 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    z_e = (corners.repeat(50, 1) + torch.randn(200, 2)).unsqueeze(1).expand(-1, 2, -1)
    if by == "first batch":
        layer(z_e)
    else:
        layer.initialize(z_e, seed=0)
    sizes = layer.codebooks()[0].entries.norm(dim=-1)
    assert sizes.amin() < 10 < 100 < sizes.amax()


def test_a_shared_codebook_that_was_given_stays_while_others_start():
    book = Codebook.from_entries(torch.randn(4, 2))
    before, fresh = book.entries.clone(), VectorQuantizer(2, 4)
    parts = [VectorQuantizer(2, 4, codebook=book) for _ in range(2)]
    layer = Product([*parts, fresh])
    layer(torch.randn(50, 6))
    assert torch.equal(book.entries, before)
    assert fresh.is_started
