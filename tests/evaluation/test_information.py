"""What must hold for the figures of what codes and classes share."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from vqkit.codes import Level
from vqkit.evaluation.information import Uses, shared


def level(num: int = 40, size: int = 12, *, seed: int = 0, masked: bool = False) -> Level:
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randint(0, size, (num, 3, 5, 2), generator=generator) // 2 * 2
    mask = torch.rand(num, 3, 5, generator=generator) < 0.6 if masked else None
    return Level(indices, (size, size), "residual", mask)


def positions(codes: Level, labels: np.ndarray, codebook: int) -> tuple[np.ndarray, np.ndarray]:
    """The class and the code of every real position, one by one."""
    pairs = []
    for item, label in enumerate(labels):
        for place in np.ndindex(*codes.indices.shape[1:-1]):
            if codes.mask is None or codes.mask[(item, *place)]:
                pairs.append((label, int(codes.indices[(item, *place, codebook)])))
    first, second = np.array(pairs).T
    return first, second


@pytest.mark.parametrize("masked", [False, True])
def test_figures_are_those_of_scikit_learn_over_all_real_positions(masked: bool):
    codes, labels = level(masked=masked), np.arange(40) % 3 * 2
    for codebook in range(2):
        classes, units = positions(codes, labels, codebook)
        found = shared(Uses.of(codes, codebook), labels)
        assert found.num_positions == len(units)
        assert found.num_used == len(set(units.tolist()))
        nats = metrics.mutual_info_score(classes, units)
        assert found.mutual_information_bits == pytest.approx(nats / np.log(2), abs=1e-12)
        nmi = metrics.normalized_mutual_info_score(classes, units)
        assert found.nmi == pytest.approx(nmi, abs=1e-12)
        told = metrics.homogeneity_score(classes, units)  # mutual information over H(class)
        assert found.label_information == pytest.approx(told, abs=1e-12)


def test_purities_count_the_best_guess_either_way():
    codes, labels = level(masked=True), np.arange(40) % 3
    classes, units = positions(codes, labels, 0)
    found = shared(Uses.of(codes, 0), labels)
    best_class = [max((classes[units == u] == c).sum() for c in range(3)) for u in set(units)]
    best_unit = [max((units[classes == c] == u).sum() for u in set(units)) for c in range(3)]
    assert found.label_purity == pytest.approx(sum(best_class) / len(units))
    assert found.code_purity == pytest.approx(sum(best_unit) / len(units))
    assert found.majority == pytest.approx(max(np.bincount(classes)) / len(units))


def test_codes_that_are_the_class_share_everything_and_constant_ones_nothing():
    labels = np.repeat([0, 1, 2, 3], 5)
    own = Level(torch.from_numpy(labels).reshape(20, 1, 1).expand(20, 7, 1) + 100, (200,))
    found = shared(Uses.of(own, 0), labels)
    assert (found.nmi, found.label_information) == pytest.approx((1, 1))
    assert (found.label_purity, found.code_purity) == (1, 1)
    assert found.mutual_information_bits == pytest.approx(2)
    same = Level(torch.full((20, 7, 1), 5), (200,))
    found = shared(Uses.of(same, 0), labels)
    assert (found.nmi, found.label_information, found.mutual_information_bits) == (0, 0, 0)
    assert found.label_purity == found.majority == 0.25
    assert found.code_purity == 1


def test_batches_together_count_what_one_batch_counts():
    codes, labels = level(), np.arange(40) % 5
    parts = [Level(codes.indices[a:b], codes.codebook_sizes) for a, b in ((0, 7), (7, 8), (8, 40))]
    whole, joined = Uses.of(codes, 1), Uses.cat([Uses.of(part, 1) for part in parts])
    assert joined.num_items == whole.num_items == 40
    for name in ("items", "entries", "counts"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    assert shared(joined, labels) == shared(whole, labels)


def test_codes_that_stand_for_nothing_are_not_counted():
    indices = torch.tensor([[[0, 0], [1, 3]], [[1, 2], [0, 0]]])
    codes = Level(indices, (2, 4), "selective")
    assert Uses.of(codes, 0).counts.sum() == 4
    assert Uses.of(codes, 1).entries.tolist() == [3, 2]
    empty = Level(indices * 0, (2, 4), "selective")
    with pytest.raises(ValueError, match="nothing to count"):
        shared(Uses.of(empty, 1), np.array([0, 1]))
