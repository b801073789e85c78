"""Data: sources with random access, the index of a run, splits, the sampler and batches."""

from vqkit.data.batch import Batch, collate
from vqkit.data.example import Example, Examples, TensorExamples, lengths_of
from vqkit.data.index import Index
from vqkit.data.items import Chosen, Items, Reader, Splits, read_all, read_splits
from vqkit.data.kinds import IMAGES, FileKind
from vqkit.data.loader import Loader, in_order
from vqkit.data.record import Record, Source
from vqkit.data.sampler import Draw, StatelessSampler
from vqkit.data.source import open_source, open_splits
from vqkit.data.split import Subset, split
from vqkit.data.survey import build_index, open_index

__all__ = [
    "IMAGES",
    "Batch",
    "Chosen",
    "Draw",
    "Example",
    "Examples",
    "FileKind",
    "Index",
    "Items",
    "Loader",
    "Reader",
    "Record",
    "Source",
    "Splits",
    "StatelessSampler",
    "Subset",
    "TensorExamples",
    "build_index",
    "collate",
    "in_order",
    "lengths_of",
    "open_index",
    "open_source",
    "open_splits",
    "read_all",
    "read_splits",
    "split",
]
