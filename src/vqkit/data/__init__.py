"""Data: sources with random access, an index of them, splits, the sampler and batches."""

from vqkit.data.batch import Batch, collate
from vqkit.data.example import Example, Examples, TensorExamples
from vqkit.data.index import Index, build_index
from vqkit.data.loader import Loader, in_order
from vqkit.data.sampler import Draw, StatelessSampler
from vqkit.data.source import Record, Source, open_source, open_splits
from vqkit.data.split import Subset, split

__all__ = [
    "Batch",
    "Draw",
    "Example",
    "Examples",
    "Index",
    "Loader",
    "Record",
    "Source",
    "StatelessSampler",
    "Subset",
    "TensorExamples",
    "build_index",
    "collate",
    "in_order",
    "open_source",
    "open_splits",
    "split",
]
