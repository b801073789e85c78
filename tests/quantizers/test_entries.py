"""What must hold for the entries of codebooks as vectors."""

import pytest
import torch
from torch.testing import assert_close

from vqkit.quantizers import (
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    LookupFreeQuantizer,
    MultiScaleResidual,
    Product,
    Quantizer,
    Residual,
    Selective,
    entry_vectors,
)


def book(dim: int, size: int = 6) -> EMAVectorQuantizer:
    quantizer = EMAVectorQuantizer(dim, size).eval()
    quantizer.codebook.entries.normal_()
    return quantizer


def made(name: str) -> Quantizer:
    torch.manual_seed(0)
    return {
        "ema": lambda: book(4),
        "fsq": lambda: FiniteScalarQuantizer((3, 5)),
        "lfq": lambda: LookupFreeQuantizer(4),
        "residual": lambda: Residual([book(4), book(4, 3)]),
        "product": lambda: Product([book(2), book(3, 4)]),
        "selective": lambda: Selective(book(4)),
    }[name]().eval()


NAMES = ["ema", "fsq", "lfq", "residual", "product", "selective"]


@pytest.mark.parametrize("name", NAMES)
def test_entries_lie_as_far_apart_as_what_they_decode_to(name: str):
    quantizer = made(name)
    sizes = quantizer.codebook_sizes
    tables = entry_vectors(quantizer)
    assert [len(table) for table in tables] == list(sizes)
    for q, table in enumerate(tables):
        first = torch.zeros(sizes[q], len(sizes), dtype=torch.int64)
        if name == "selective" and q > 0:
            first[:, 0] = 1
        first[:, q] = torch.arange(sizes[q])
        decoded = quantizer.decode(first).detach()
        assert_close(torch.cdist(table, table), torch.cdist(decoded, decoded), atol=1e-4, rtol=0)
        assert float(torch.cdist(table, table).max()) > 0


def test_parts_of_a_product_have_their_own_coordinates():
    assert [table.shape for table in entry_vectors(made("product"))] == [(6, 2), (4, 3)]


def test_a_quantizer_of_whole_grids_is_refused():
    with pytest.raises(ValueError, match="MultiScaleResidual decodes whole grids"):
        entry_vectors(MultiScaleResidual([book(4)] * 2, (1, 2)))


def test_a_codebook_that_cannot_be_listed_is_refused():
    with pytest.raises(ValueError, match="a codebook has 1073741824 entries"):
        entry_vectors(LookupFreeQuantizer(30))
