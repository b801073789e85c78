"""How good a tokenizer is: figures over a whole split, pictures and a report."""

from vqkit.evaluation.codebook import CodebookStats, CodeCounter, histogram
from vqkit.evaluation.evaluation import Evaluation, evaluate

__all__ = ["CodeCounter", "CodebookStats", "Evaluation", "evaluate", "histogram"]
