"""Pictures and files of vectors."""

from pathlib import Path

import numpy as np
import torch

from vqkit.modalities.vector import VECTOR


def test_all_vectors_are_one_file_whole_or_not_at_all(tmp_path: Path):
    x = torch.randn(5, 3, dtype=torch.float64)
    VECTOR.save_all(tmp_path / "x.npy", iter(VECTOR.stored(x)))
    found = np.load(tmp_path / "x.npy", allow_pickle=False)
    assert found.dtype == np.float32
    assert np.array_equal(found, x.float().numpy())
    VECTOR.save(tmp_path / "one.npy", VECTOR.stored(x)[0])
    assert np.array_equal(np.load(tmp_path / "one.npy"), x[:1].float().numpy())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npy", "x.npy"]


def test_a_picture_has_a_bar_for_each_number_up_or_down_from_the_middle():
    drawn = VECTOR.pictures(torch.tensor([[1.0, -1.0, 0.5, 0.0]]))
    assert drawn is not None
    assert drawn.shape == (1, 1, 64, 128)
    assert drawn.dtype == torch.uint8
    ink = drawn[0, 0] < 128
    above, below = ink[:32].sum(0), ink[33:].sum(0)
    middles = [16, 48, 80, 112]
    assert above[middles].tolist() == [31, 0, 16, 0]
    assert below[middles].tolist() == [0, 31, 0, 0]
    assert ink[32].all()


def test_pictures_have_one_size_whatever_the_number_of_columns():
    for dim in (1, 127, 128, 129, 1000):
        drawn = VECTOR.pictures(torch.randn(2, dim))
        assert drawn is not None
        assert drawn.shape == (2, 1, 64, 128)
    assert VECTOR.pictures(torch.zeros(1, 3)) is not None


def test_the_words_for_vectors():
    assert VECTOR.size((1200,)) == "of 1,200 numbers"
    assert VECTOR.media(torch.zeros(3)) is None
