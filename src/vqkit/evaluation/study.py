"""Real and new images in a feature space, and the training images that lie nearest."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.data import Examples, in_order
from vqkit.drawing import Drawing
from vqkit.evaluation.classifier import ImageClassifier
from vqkit.evaluation.draws import draws, share
from vqkit.evaluation.features import Featured, FeatureSpace, Labelled, featurize
from vqkit.evaluation.neighbors import Nearest
from vqkit.modalities.base import Modality
from vqkit.priors import Prior
from vqkit.random import generator
from vqkit.tokens.progress import advancing
from vqkit.tokens.sizes import by_size

NEIGHBORS = 3  # training images looked for at each sample
SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
    """What images are judged by.

    Attributes:
        space: The feature space.
        classifier: Tells the class of samples, independent of tokenizer and prior; None: nobody.
        k: Of precision and recall.
    """

    space: FeatureSpace
    classifier: ImageClassifier | None = None
    k: int = 3


@dataclass(frozen=True, slots=True, eq=False)
class Near:
    """The training images that are nearest to samples.

    Attributes:
        numbers: Of the training images, nearest first. (N, k) int64
        metrics: How near they are, as JSON values.
    """

    numbers: Tensor
    metrics: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Study:
    """Turns images of any origin into features.

    Attributes:
        judges: What images are judged by.
        modality: Of the items.
        device: Where.
        batch_size: Images at once.
        num_workers: Processes that read ahead.
        progress: Whether to show bars.
    """

    judges: Judges
    modality: Modality
    device: torch.device
    batch_size: int
    num_workers: int
    progress: bool

    def examples(self, examples: Examples, numbers: Sequence[int], what: str) -> Featured:
        """The features of real images; every rank must call it."""
        first = examples.example(0)
        begin, end = share(len(numbers))
        with advancing(what, end - begin, show=self.progress) as advance:
            batches = self._read(examples, numbers[begin:end], advance)
            return self._featurize(((x, y) for x, y, _ in batches), first.label is not None)

    def samples(
        self, prior: Prior, tokenizer: VQVAE, num: int, labels: Tensor | None, how: Drawing
    ) -> Featured:
        """The features of new images; every rank must call it."""
        begin, end = share(num)
        with advancing("drawing", end - begin, show=self.progress) as advance:
            size = self.batch_size
            parts = draws(prior, tokenizer, num, labels, seed=SEED, batch_size=size, how=how)
            batches = self._counted(parts, advance)
            return self._featurize(batches, prior.num_classes is not None)

    def nearest(self, training: Examples, samples: Featured, real: Featured) -> Near:
        """The training images nearest to samples, and as many held-out ones for comparison."""
        some = torch.tensor(chosen(len(real), len(samples)), device=self.device)
        queries = torch.cat([samples.features, real.features[some]])
        nearest = Nearest(queries, min(NEIGHBORS, len(training)))
        begin, end = share(len(training))
        with advancing("neighbours", end - begin, show=self.progress) as advance:
            for images, _, numbers in self._read(training, range(begin, end), advance):
                nearest.add(self.judges.space(images), numbers)
        lengths, numbers = nearest.results()
        own, others = lengths[: len(samples), 0], lengths[len(samples) :, 0]
        usual = others.median()
        metrics = {
            "num_training": len(training),
            "median_distance": float(own.median()),
            "median_distance_held_out": float(usual),
            "share_nearer_than_held_out": float((own < usual).double().mean()),
            "copies": int((own == 0).sum()),
        }
        if usual > 0:
            metrics["distance_ratio"] = float(own.median() / usual)
        return Near(numbers[: len(samples)].cpu(), metrics)

    def _read(
        self, examples: Examples, numbers: Sequence[int], advance: Callable[[int], None]
    ) -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
        for batch in in_order(
            examples, self.batch_size, indices=numbers, num_workers=self.num_workers
        ):
            for part in by_size(batch):
                moved = part.to(self.device)
                yield self.modality.stored(moved.x), moved.labels, moved.positions
            advance(len(batch))

    def _counted(
        self, batches: Iterable[Labelled], advance: Callable[[int], None]
    ) -> Iterator[Labelled]:
        for images, labels in batches:
            yield images, labels
            advance(len(images))

    def _featurize(self, batches: Iterable[Labelled], labelled: bool) -> Featured:
        return featurize(
            batches,
            self.judges.space,
            device=self.device,
            labelled=labelled,
            classifier=self.judges.classifier,
        )


def chosen(num: int, most: int) -> list[int]:
    """So many of the numbers below ``num`` at most, by chance; fewer are the first of more."""
    return torch.randperm(num, generator=generator(SEED)).tolist()[:most]
