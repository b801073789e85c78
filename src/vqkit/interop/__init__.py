"""Other libraries' forms of what vqkit trains."""

from vqkit.interop.faiss_index import to_faiss

__all__ = ["to_faiss"]
