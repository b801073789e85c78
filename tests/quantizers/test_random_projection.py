"""What must hold for the random-projection quantizer in particular."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from vqkit.quantizers import RandomProjectionConfig, RandomProjectionQuantizer

DIM, SIZE, ENTRY_DIM = 8, 200, 4


def quantizer(seed: int = 0) -> RandomProjectionQuantizer:
    torch.manual_seed(seed)
    return RandomProjectionQuantizer(DIM, SIZE, entry_dim=ENTRY_DIM)


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1.0, 1e6])
def test_the_index_is_that_of_the_greatest_cosine_however_loud_the_vector(scale: float):
    layer = quantizer()
    z_e = scale * torch.randn(500, DIM)
    projected = z_e.double() @ layer.projection.double()
    cosines = F.cosine_similarity(
        projected.unsqueeze(1), layer.entries.double().unsqueeze(0), dim=-1, eps=1e-30
    )
    assert torch.equal(layer.encode(z_e).squeeze(-1), cosines.argmax(-1))


def test_entries_have_length_1_and_no_direction_is_preferred():
    entries = RandomProjectionQuantizer(DIM, 4000, entry_dim=ENTRY_DIM).entries
    assert_close(entries.norm(dim=-1), torch.ones(4000))
    assert entries.mean(0).abs().amax() < 5 / (4000 * ENTRY_DIM) ** 0.5
    assert_close(entries.T @ entries / 4000, torch.eye(ENTRY_DIM) / ENTRY_DIM, rtol=0, atol=0.03)


def test_nothing_trains_and_the_objective_is_zero():
    layer = quantizer()
    before = {name: state.clone() for name, state in layer.state_dict().items()}
    assert list(layer.parameters()) == []
    for batch in torch.randn(5, 100, DIM):
        out = layer(batch.requires_grad_())
        assert out.loss == 0
        out.z_q.sum().backward()
    layer.initialize(torch.randn(100, DIM), seed=3)
    assert_close(dict(layer.state_dict()), before, rtol=0, atol=0)


def test_the_saved_state_says_everything():
    first, second = quantizer(0), quantizer(1)
    z_e = torch.randn(300, DIM)
    assert not torch.equal(first.encode(z_e), second.encode(z_e))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.encode(z_e), second.encode(z_e))
    assert torch.equal(first(z_e).z_q, second(z_e).z_q)


def test_codes_decode_to_the_same_bits_however_the_layer_was_converted_and_reloaded():
    """The inverse is that of the projection as it is, in float64, and nothing of the past."""
    indices = torch.arange(SIZE).unsqueeze(-1)
    for convert in ("double", "half", "float"):
        first, second = getattr(quantizer(0), convert)(), getattr(quantizer(1), convert)()
        second.load_state_dict(first.state_dict())
        assert torch.equal(first.decode(indices), second.decode(indices))
        exact = torch.linalg.pinv(first.projection.double())
        assert torch.equal(first.inverse, exact)
    there_and_back = quantizer(0).double().float()
    assert torch.equal(there_and_back.decode(indices), quantizer(0).decode(indices))
    finer = quantizer(0).double()
    finer.projection += 1e-9 * torch.randn(DIM, ENTRY_DIM)
    finer.load_state_dict(finer.state_dict())
    coarse = quantizer(1)
    coarse.load_state_dict(finer.state_dict())
    assert torch.equal(finer.float().decode(indices), coarse.decode(indices))


def test_the_seed_decides_the_quantizer():
    same, again, other = quantizer(0), quantizer(0), quantizer(1)
    assert_close(dict(same.state_dict()), dict(again.state_dict()), rtol=0, atol=0)
    assert not torch.equal(same.projection, other.projection)
    assert not torch.equal(same.entries, other.entries)


def test_a_decoded_vector_projects_onto_its_entry_and_so_has_its_own_index():
    layer = quantizer()
    indices = torch.arange(SIZE).unsqueeze(-1)
    decoded = layer.decode(indices)
    assert_close(decoded @ layer.projection, layer.entries, rtol=0, atol=1e-5)
    assert torch.equal(layer.encode(decoded), indices)


def test_a_decoded_vector_is_the_shortest_that_projects_onto_its_entry():
    """It has no part in what the projection loses; any other solution adds such a part."""
    layer = quantizer()
    decoded = layer.decode(torch.arange(SIZE).unsqueeze(-1)).double()
    lost = torch.linalg.svd(layer.projection.double())[0][:, ENTRY_DIM:]
    assert_close(lost.T @ layer.projection.double(), torch.zeros(4, 4).double(), rtol=0, atol=1e-6)
    assert_close(decoded @ lost, torch.zeros(SIZE, 4).double(), rtol=0, atol=1e-5)


def test_what_makes_no_sense_is_refused():
    for size, entry_dim, match in (
        (1, 4, "codebook_size is 1; give at least 2"),
        (10, 0, "entry_dim is 0; give at least 1"),
        (10, DIM + 1, f"entry_dim is {DIM + 1}, and vectors have length {DIM}"),
    ):
        with pytest.raises(ValueError, match=match):
            RandomProjectionQuantizer(DIM, size, entry_dim=entry_dim)
    for wrong in ("x", 16.0):
        with pytest.raises(TypeError, match=r"codebook_size is .*; give an integer"):
            RandomProjectionQuantizer(DIM, wrong)  # pyright: ignore[reportArgumentType]
    assert RandomProjectionConfig(codebook_size=10, entry_dim=3).build(5).codebook_sizes == (10,)
