"""How good a tokenizer is: figures over a whole split, pictures and a report."""

from vqkit.evaluation.codebook import CodebookStats, CodeCounter, histogram

__all__ = ["CodeCounter", "CodebookStats", "histogram"]
