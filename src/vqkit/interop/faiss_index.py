"""Codebooks and codes of vectors as an index of Faiss."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.codes import Codes
from vqkit.modalities.vector.search import Tables
from vqkit.nn.evaluating import device_of


def to_faiss(model: VQVAE, codes: Codes) -> Any:
    """An index of Faiss that finds what ``CodeIndex`` finds: to be searched, added to and saved.

    Where every codebook changes coordinates of its own, in equal parts, it is an ``IndexPQ``, else
    an ``IndexResidualQuantizer``, which decodes what it compares. Both are in the units of the
    data, whatever was standardised or rotated. Vectors that are added later are coded by Faiss:
    by a search of its own, and where columns were standardised one by one by other distances.

    Args:
        model: Of vectors, without a network.
        codes: Of the vectors that the index shall hold, in order. N items

    Returns:
        ``faiss.Index``.

    Raises:
        ImportError: If Faiss is not installed.
        ValueError: If vectors come out of a network, or the codebooks differ in size.
    """
    faiss = library()
    (spec,), device = codes.specs, device_of(model)
    sizes = spec.codebook_sizes
    if len(set(sizes)) > 1:
        raise ValueError(f"the codebooks have {sizes} entries; an index needs as many in each")

    def decode(indices: Tensor) -> Tensor:
        return model.decode(Codes.from_flat(indices, [spec]).to(device)).float().cpu()

    tables = Tables.of(decode, sizes)
    bits = max(1, (sizes[0] - 1).bit_length())
    index = product_index(faiss, tables, bits) or sum_index(faiss, tables, bits)
    packed = faiss.pack_bitstrings(codes.flat().cpu().numpy().astype(np.int32), bits)
    faiss.copy_array_to_vector(packed.ravel(), index.codes)
    index.ntotal, index.is_trained = len(packed), True
    return index


def library() -> Any:
    """Faiss; raises ImportError with what to install."""
    try:
        import faiss
    except ImportError:
        raise ImportError('an index needs Faiss; pip install "vqkit[faiss]"') from None
    return faiss


def product_index(faiss: Any, tables: Tables, bits: int) -> Any:
    """An IndexPQ; None unless every codebook changes an equal part of the coordinates alone."""
    num, dim = len(tables.tables), len(tables.base)
    if dim % num:
        return None
    width, parts = dim // num, []
    for q, table in enumerate(tables.tables):
        own = slice(q * width, (q + 1) * width)
        if (table[:, : own.start] != 0).any() or (table[:, own.stop :] != 0).any():
            return None
        parts.append(padded(table[:, own] + tables.base[own], bits))
    index = faiss.IndexPQ(dim, num, bits)
    faiss.copy_array_to_vector(torch.stack(parts).numpy().ravel(), index.pq.centroids)
    return index


def sum_index(faiss: Any, tables: Tables, bits: int) -> Any:
    """An IndexResidualQuantizer; the first codebook has the base in its entries."""
    first, *others = tables.tables
    parts = [padded(table, bits) for table in (first + tables.base, *others)]
    index = faiss.IndexResidualQuantizer(len(tables.base), len(parts), bits)
    faiss.copy_array_to_vector(torch.cat(parts).numpy().ravel(), index.rq.codebooks)
    index.rq.is_trained = True
    return index


def padded(table: Tensor, bits: int) -> Tensor:
    """A table with a power of two of entries: copies of the first are never used. (2^bits, D)"""
    more = 2**bits - len(table)
    return torch.cat([table, table[:1].expand(more, -1)]).float().contiguous()
