"""How useful codes are as features: a linear classifier learns the classes of items from them."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from vqkit.autoencoder import VQVAE
from vqkit.data import Items
from vqkit.evaluation.information import Uses, shared
from vqkit.evaluation.probe_features import Pair, ProbeItems, histograms, probe_items, raw_input

PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
"""Weights of half the squared coefficients beside the mean loss, of which one is chosen."""
KEPT = 0.2
"""Share of the items of each class that the penalty is chosen on."""
MOST_ITERATIONS = 300
Z95 = 1.959963984540054  # so many standard deviations hold 95 % of a normal distribution


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often a classifier is right on held-out items.

    Attributes:
        accuracy: From 0 to 1.
        interval: Wilson's 95 % confidence interval.
        num_features: What it reads of an item; 0 where it reads nothing.
        penalty: Which of ``PENALTIES`` was chosen; None where there is nothing to choose.
    """

    accuracy: float
    interval: tuple[float, float]
    num_features: int = 0
    penalty: float | None = None

    @classmethod
    def of(cls, right: np.ndarray, num_features: int = 0, penalty: float | None = None) -> Self:
        """That of one truth value for each item. (N,) bool"""
        hits, num = int(right.sum()), len(right)
        return cls(hits / num, wilson(hits, num), num_features, penalty)


def wilson(hits: int, num: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share.

    Probable Inference, the Law of Succession, and Statistical Inference, Wilson (1927),
    https://doi.org/10.1080/01621459.1927.10502953; it stays inside 0 and 1.

    Args:
        hits: How often it happened.
        num: Of how many times, at least 1.
    """
    share, z = hits / num, Z95
    middle = (share + z**2 / (2 * num)) / (1 + z**2 / num)
    spread = z * math.sqrt(share * (1 - share) / num + (z / (2 * num)) ** 2) / (1 + z**2 / num)
    low = 0.0 if hits == 0 else middle - spread
    return low, 1.0 if hits == num else middle + spread


def probe(
    model: VQVAE,
    train: Items,
    held_out: Items,
    *,
    seed: int = 0,
    most: int = 10_000,
    batch_size: int = 64,
    num_workers: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Learns classes from several kinds of features, and counts what codes and classes share.

    Args:
        model: The tokenizer.
        train: Items to learn from.
        held_out: Items to judge by.
        seed: Chooses the items, if there are more than ``most``, and those that the penalty is
            chosen on.
        most: Most items to learn from.
        batch_size: Items encoded at once.
        num_workers: Processes that read ahead; 0 reads in this one.
        progress: Whether to show a bar.

    Returns:
        All figures by name, as JSON values; docs/evaluation.md says what each means.

    Raises:
        ImportError: If scikit-learn is missing.
        ValueError: If there are no classes, one class, or fewer than two items of one to learn
            from.
    """
    check_sklearn()
    check_labels(train, held_out, model)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(train))[:most]).tolist()
    how = {"batch_size": batch_size, "num_workers": num_workers, "progress": progress}
    learned = probe_items(model, train, chosen, **how)
    judged = probe_items(model, held_out, range(len(held_out)), **how)
    check_counts(learned.labels, judged.labels, train.labels, len(train))
    kept = kept_apart(learned.labels, rng)
    usual = np.bincount(learned.labels).argmax()
    accuracies = {
        name: judge(pair, learned.labels, judged.labels, kept)
        for name, pair in features(learned, judged).items()
    }
    return {
        "modality": model.objective.modality.name,
        "num_train": len(learned),
        "num_held_out": len(judged),
        "classes": [str(name) for name in train.labels],
        "seed": seed,
        "majority_class": asdict(Accuracy.of(judged.labels == usual)),
        "features": {name: asdict(each) for name, each in accuracies.items()},
        "units": units(model, learned, judged),
        "tokenizer": model.fingerprint(),
        "data": [train.fingerprint, held_out.fingerprint],
    }


def features(train: ProbeItems, held_out: ProbeItems) -> dict[str, Pair]:
    """What is compared, by name: the features (N, F) of items to learn from, and (M, F)."""
    vectors = {name: (train.vectors[name], held_out.vectors[name]) for name in train.vectors}
    codes = {"histogram": histograms(books(train.uses), books(held_out.uses))}
    if train.placed:
        codes["histogram_in_place"] = histograms(books(train.placed), books(held_out.placed))
        if any(train.stages):
            first = (leading(items) for items in (train, held_out))
            codes["first_in_place"] = histograms(*first)
    return codes | vectors | {"input": raw_input(train, held_out)}


def leading(items: ProbeItems) -> list[Uses]:
    """Those in parts, of the first stage alone where codebooks are stages."""
    pairs = zip(items.placed, items.stages, strict=True)
    return [book for level, stages in pairs for book in level[: 1 if stages else None]]


def books(levels: Sequence[Sequence[Uses]]) -> list[Uses]:
    """Those of all codebooks of all levels, in a row."""
    return [book for level in levels for book in level]


def judge(pair: Pair, labels: np.ndarray, truth: np.ndarray, kept: np.ndarray) -> Accuracy:
    """Chooses a penalty on some items, learns from all, and judges by those held out.

    Args:
        pair: Features of items to learn from and of those held out. (N, F), (M, F)
        labels: Classes of the former. (N,) int64
        truth: Classes of the latter. (M,) int64
        kept: Those of the former that the penalty is chosen on. (N,) bool
    """
    train, held_out = pair
    found = [
        (predicted(train[~kept], labels[~kept], train[kept], penalty) == labels[kept]).mean()
        for penalty in PENALTIES
    ]
    best = PENALTIES[int(np.argmax(found))]  # the strongest of equally good ones
    right = predicted(train, labels, held_out, best) == truth
    return Accuracy.of(right, train.shape[1], best)


def predicted(train: Any, labels: np.ndarray, others: Any, penalty: float) -> np.ndarray:
    """Classes of items by logistic regression on standardised features. (M,) int64

    Args:
        train: Features to learn from, perhaps sparse. (N, F)
        labels: Their classes. (N,) int64
        others: Features of the items. (M, F)
        penalty: Weight of half the squared coefficients beside the mean loss.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    strength = 1 / (penalty * len(labels))  # scikit-learn weighs the sum of losses
    learner = LogisticRegression(C=strength, max_iter=MOST_ITERATIONS)
    is_dense = isinstance(train, np.ndarray)  # the mean of sparse ones would make them dense, and
    classifier = make_pipeline(StandardScaler(with_mean=is_dense), learner)  # changes a bias alone
    with warnings.catch_warnings():  # enough steps is enough, the same for all features
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(train.astype(np.float64), labels)
    return classifier.predict(others.astype(np.float64))


def kept_apart(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some items of every class, at least one and never all. (N,) bool"""
    kept = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        kept[members[: max(1, round(KEPT * len(members)))]] = True
    return kept


def units(model: VQVAE, learned: ProbeItems, judged: ProbeItems) -> list[dict[str, Any]]:
    """What each codebook of each level shares with the classes, over all items."""
    labels = np.concatenate([learned.labels, judged.labels])
    rows = []
    for level, quantizer in enumerate(model.quantizers):
        for codebook, size in enumerate(quantizer.codebook_sizes):
            uses = Uses.cat([items.uses[level][codebook] for items in (learned, judged)])
            if len(uses.counts):  # codes of positions that all were left out tell nothing
                name = {"level": level, "codebook": codebook, "size": size}
                rows.append(name | asdict(shared(uses, labels)))
    return rows


def check_sklearn() -> None:
    """Raises ImportError with the way to get scikit-learn where it is missing."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise ImportError('the probe needs scikit-learn; pip install "vqkit[probe]"') from None


def check_labels(train: Items, held_out: Items, model: VQVAE) -> None:
    """Raises ValueError unless both parts have the same classes, two or more."""
    names, kind = train.labels, model.objective.modality
    for part in (train, held_out):
        if not part.labels:
            why = getattr(getattr(part, "source", None), "no_labels", None)
            fix = "name a column with data.label_column"
            if kind.name != "vector":
                fix = f"put them into a folder for each class, or {fix}"
            raise ValueError(f"the {kind.items} have no classes: {why or fix}")
    if tuple(names) != tuple(held_out.labels):
        raise ValueError(
            f"the items to learn from have the classes {', '.join(names[:5])}, those held out "
            f"{', '.join(held_out.labels[:5])}; give both the same"
        )
    if len(names) < 2:
        raise ValueError(
            f"all items are of the class {', '.join(names)}; give items of two or more"
        )


def check_counts(labels: np.ndarray, truth: np.ndarray, names: Sequence[str], total: int) -> None:
    """Raises ValueError unless every class that occurs has two items to learn from.

    Args:
        labels: Classes of the items to learn from. (N,) int64
        truth: Classes of those held out. (M,) int64
        names: Names of the classes.
        total: How many items there are to learn from, of which N were chosen.
    """
    present = sorted({*labels.tolist(), *truth.tolist()})
    if len(present) < 2:
        raise ValueError(
            f"all items are of the class {names[present[0]]}; give items of two or more"
        )
    for label in present:
        num = int((labels == label).sum())
        if num < 2:
            have = f"class {names[label]} has {num} {'item' if num == 1 else 'items'}"
            if len(labels) < total:
                raise ValueError(
                    f"{have} among the {len(labels):,} of {total:,} that --most lets learn from; "
                    "raise it, for at least two of each class"
                )
            raise ValueError(
                f"{have} to learn from; give at least two of each class, or leave it out"
            )
