"""Search by table lookup finds what search among decoded vectors finds."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.testing import assert_close

from vqkit.modalities.vector import search
from vqkit.modalities.vector.search import CodeIndex, Tables, nearest_vectors
from vqkit.quantizers import (
    EMAConfig,
    ProductConfig,
    QuantizerConfig,
    ResidualConfig,
    RotatedConfig,
)

DIM, SIZES = 6, (5, 8, 3)


def tables(offset: float = 0.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, DIM, generator=generator) + offset for size in SIZES]


def codes(num: int = 200) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.stack([torch.randint(size, (num,), generator=generator) for size in SIZES], 1)


def decoder(offset: float = 0.0):
    made = tables(offset)
    return lambda indices: sum(t[i] for t, i in zip(made, indices.unbind(1), strict=True))


def queries(num: int = 20, offset: float = 0.0) -> Tensor:
    return 2 * torch.randn(num, DIM, generator=torch.Generator().manual_seed(2)) + offset


def brute_force(vectors: Tensor, some: Tensor, num: int) -> tuple[Tensor, Tensor]:
    squares = (some.double().unsqueeze(1) - vectors.double()).square().sum(-1)
    found = squares.sort(dim=1, stable=True)
    return found.values[:, :num], found.indices[:, :num]


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("num", [1, 10, 200])
def test_table_lookup_is_the_distance_from_decoded_vectors(offset: float, num: int):
    decode = decoder(offset)
    index = CodeIndex(Tables.of(decode, SIZES))
    index.add(codes())
    wanted = queries(offset=3 * offset)
    distances, numbers = index.search(wanted, num)
    expected, _ = brute_force(decode(codes()), wanted, num)
    assert_close(distances.double(), expected, rtol=1e-3 if offset else 1e-5, atol=1e-4)
    own = (wanted.unsqueeze(1) - decode(codes())[numbers]).double().square().sum(-1)
    assert_close(own, expected, rtol=1e-3 if offset else 1e-5, atol=1e-4)
    assert all(len(set(row)) == num for row in numbers.tolist())


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    index = CodeIndex(Tables.of(decoder(), SIZES))
    index.add(codes())
    whole = index.search(queries(), 10)
    plain = nearest_vectors(decoder()(codes()), queries(), 10)
    monkeypatch.setattr(search, "SCORES_PER_CHUNK", 7 * 20)
    monkeypatch.setattr(search, "ROWS", 6)
    assert_close(index.search(queries(), 10)[0], whole[0], rtol=1e-4, atol=1e-5)
    again = nearest_vectors(decoder()(codes()), queries(), 10)
    assert_close(again[0], plain[0], rtol=1e-4, atol=1e-5)
    assert_close(whole[0], plain[0], rtol=1e-4, atol=1e-5)


def test_exact_search_is_that_of_sklearn():
    vectors, wanted = torch.randn(300, DIM).double() + 100, torch.randn(9, DIM).double() + 100
    judge = NearestNeighbors(n_neighbors=7, algorithm="brute").fit(vectors.numpy())
    distances, numbers = judge.kneighbors(wanted.numpy())
    found, places = nearest_vectors(vectors, wanted, 7)
    assert places.tolist() == numbers.tolist()
    assert_close(found.sqrt(), torch.from_numpy(distances))


def test_vectors_are_added_in_parts_and_kept_in_small_integers():
    whole, parts = (CodeIndex(Tables.of(decoder(), SIZES)) for _ in range(2))
    whole.add(codes())
    for part in codes().split(77):
        parts.add(part)
    assert len(parts) == 200
    assert whole.codes.dtype == torch.uint8
    assert torch.equal(parts.codes, whole.codes)
    assert torch.equal(parts.search(queries(), 5)[1], whole.search(queries(), 5)[1])


@pytest.mark.parametrize(
    ("size", "dtype"), [(256, torch.uint8), (257, torch.int16), (32769, torch.int32)]
)
def test_codes_are_kept_in_the_smallest_integers_that_hold_them(size: int, dtype: torch.dtype):
    index = CodeIndex(Tables(torch.zeros(1), (torch.arange(size).float().unsqueeze(1),)))
    index.add(torch.tensor([[size - 1], [0]]))
    assert index.codes.dtype == dtype
    assert index.search(torch.tensor([[size + 1.0]]), 1)[1].item() == 0


def test_equally_near_vectors_come_in_the_order_of_their_numbers():
    index = CodeIndex(Tables.of(decoder(), SIZES))
    index.add(torch.tensor([[1, 1, 1], [0, 0, 0], [0, 0, 0], [1, 1, 1]]))
    _, numbers = index.search(decoder()(torch.tensor([[1, 1, 1]])), 4)
    assert numbers.tolist() == [[0, 3, 1, 2]]


def test_an_empty_query_and_more_than_there_are():
    index = CodeIndex(Tables.of(decoder(), SIZES))
    index.add(codes(3))
    assert index.search(queries(), 9)[1].shape == (20, 3)


@pytest.mark.parametrize(
    "config",
    [
        ProductConfig(quantizer=EMAConfig(codebook_size=8), parts=3),
        ResidualConfig(quantizer=EMAConfig(codebook_size=8), stages=3),
        RotatedConfig(
            quantizer=ProductConfig(quantizer=EMAConfig(codebook_size=8), parts=2), iterations=3
        ),
    ],
)
@torch.no_grad()
def test_the_tables_of_any_quantizer_of_sums_decode_as_it_does(config: QuantizerConfig):
    layer = config.build(DIM)
    layer.initialize(torch.randn(300, DIM), seed=0)
    indices = layer.encode(torch.randn(50, DIM))
    found = Tables.of(layer.decode, layer.codebook_sizes)
    assert_close(found.decode(indices), layer.decode(indices), rtol=1e-4, atol=1e-5)


def test_vectors_that_come_out_of_a_network_are_no_sums():
    decode = decoder()
    with pytest.raises(ValueError, match="they come out of a network"):
        Tables.of(lambda indices: decode(indices).relu(), SIZES)
