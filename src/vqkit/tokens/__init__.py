"""Token data sets: what a tokenizer made of a data set, as Parquet files."""

from vqkit.tokens.decode import decode_dataset
from vqkit.tokens.encode import encode_dataset
from vqkit.tokens.semantic_ids import SemanticIDs
from vqkit.tokens.token_set import TokenSet

__all__ = ["SemanticIDs", "TokenSet", "decode_dataset", "encode_dataset"]
