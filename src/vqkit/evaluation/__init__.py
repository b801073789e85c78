"""How good a tokenizer is: figures over a whole split, pictures and a report."""

from vqkit.evaluation.classifier import ClassifierConfig, ImageClassifier
from vqkit.evaluation.codebook import CodebookStats, CodeCounter, histogram
from vqkit.evaluation.entries import Fit, FitCounter, Layout
from vqkit.evaluation.evaluation import Evaluation, evaluate
from vqkit.evaluation.features import ClassifierFeatures, EncoderFeatures, FeatureSpace
from vqkit.evaluation.frechet import Moments, frechet_distance
from vqkit.evaluation.generation import Generation, measure_generation
from vqkit.evaluation.levels import LevelPictures, LevelTotals
from vqkit.evaluation.neighbors import Nearest, precision_recall
from vqkit.evaluation.onnx_features import OnnxFeatures
from vqkit.evaluation.probe import probe
from vqkit.evaluation.reliance import code_reliance
from vqkit.evaluation.report import write_report
from vqkit.evaluation.run_sections import Samples
from vqkit.evaluation.search import measure_search, with_search
from vqkit.evaluation.study import Judges

__all__ = [
    "ClassifierConfig",
    "ClassifierFeatures",
    "CodeCounter",
    "CodebookStats",
    "EncoderFeatures",
    "Evaluation",
    "FeatureSpace",
    "Fit",
    "FitCounter",
    "Generation",
    "ImageClassifier",
    "Judges",
    "Layout",
    "LevelPictures",
    "LevelTotals",
    "Moments",
    "Nearest",
    "OnnxFeatures",
    "Samples",
    "code_reliance",
    "evaluate",
    "frechet_distance",
    "histogram",
    "measure_generation",
    "measure_search",
    "precision_recall",
    "probe",
    "with_search",
    "write_report",
]
