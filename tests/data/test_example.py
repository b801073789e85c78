"""Examples that are in memory."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vqkit.data import Examples, TensorExamples


def test_a_tensor_an_array_and_a_list_give_the_same_examples():
    tensor = torch.rand(5, 2, 3)
    for items in (tensor, tensor.numpy(), list(tensor)):
        examples = TensorExamples(items)
        assert isinstance(examples, Examples)
        assert len(examples) == 5
        assert all(torch.equal(examples.example(i).x, tensor[i]) for i in range(5))
        assert examples.example(0).label is None
        assert examples.labels == ()


def test_pairs_have_labels_and_names():
    items = [(torch.zeros(2), 1), (torch.ones(3), 0)]
    assert [TensorExamples(items).example(i).label for i in range(2)] == [1, 0]
    assert TensorExamples(items).labels == ("0", "1")
    assert TensorExamples(items, labels=["cat", "dog"]).labels == ("cat", "dog")


def test_items_that_are_single_numbers_are_tensors_too():
    assert TensorExamples(np.arange(3)).example(2).x == torch.tensor(2)


def test_a_read_only_array_can_be_used_and_is_not_changed():
    array = np.zeros((2, 3))
    array.setflags(write=False)
    TensorExamples(array).example(0).x.fill_(1)
    assert not array.any()


@pytest.mark.parametrize(
    "changed",
    [
        lambda x: [(x[0], 1), (x[1], 0)],
        lambda x: [(x[0] + 1, 0), (x[1], 1)],
        lambda x: [(x[0].double(), 0), (x[1], 1)],
        lambda x: [(x[0].reshape(4, 1), 0), (x[1], 1)],
        lambda x: [(x[1], 0), (x[0], 1)],
    ],
    ids=["label", "value", "type", "shape", "order"],
)
def test_the_fingerprint_is_that_of_the_contents(changed):
    x: Tensor = torch.arange(8.0).reshape(2, 4)
    items = [(x[0], 0), (x[1], 1)]
    same = [(part.clone(), label) for part, label in items]
    assert TensorExamples(items).fingerprint == TensorExamples(same).fingerprint
    assert TensorExamples(items).fingerprint != TensorExamples(changed(x)).fingerprint


@pytest.mark.parametrize("items", [[], torch.zeros(0, 3)], ids=["list", "tensor"])
def test_no_items_are_refused(items):
    with pytest.raises(ValueError, match="items is empty"):
        TensorExamples(items)


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([(torch.zeros(1), 0), torch.zeros(1)], ValueError, "label all or none"),
        ([(torch.zeros(1), -1)], ValueError, "a label is -1"),
        ([[1.0, 2.0]], TypeError, "an item is list; give tensors"),
    ],
)
def test_items_that_cannot_be_used_are_refused(items, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        TensorExamples(items)


def test_too_few_names_are_refused():
    with pytest.raises(ValueError, match="labels has 1 names, the items 3 classes"):
        TensorExamples([(torch.zeros(1), 2)], labels=["only"])
