"""How good a tokenizer is: figures over a whole split, pictures and a report."""

from vqkit.evaluation.codebook import CodebookStats, CodeCounter, histogram
from vqkit.evaluation.entries import Fit, FitCounter, Layout
from vqkit.evaluation.evaluation import Evaluation, evaluate
from vqkit.evaluation.reliance import code_reliance
from vqkit.evaluation.report import write_report
from vqkit.evaluation.run_sections import Samples

__all__ = [
    "CodeCounter",
    "CodebookStats",
    "Evaluation",
    "Fit",
    "FitCounter",
    "Layout",
    "Samples",
    "code_reliance",
    "evaluate",
    "histogram",
    "write_report",
]
