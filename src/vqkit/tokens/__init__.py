"""Token data sets: what a tokenizer made of a data set, as Parquet files."""

from vqkit.tokens.decode import decode_dataset
from vqkit.tokens.encode import encode_dataset
from vqkit.tokens.export import Exported, export_tokens
from vqkit.tokens.features import encode_features
from vqkit.tokens.semantic_ids import SemanticIDs
from vqkit.tokens.token_set import TokenSet
from vqkit.tokens.vocabulary import Vocabulary

__all__ = [
    "Exported",
    "SemanticIDs",
    "TokenSet",
    "Vocabulary",
    "decode_dataset",
    "encode_dataset",
    "encode_features",
    "export_tokens",
]
