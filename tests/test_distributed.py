"""What must hold for what the package knows of other processes."""

import pytest
import torch
from tests.pair import run_pair
from torch import Tensor
from torch import distributed as dist

from vqkit import distributed


def rows_of(rank: int) -> Tensor:
    """Rank 0 has 3 rows, rank 1 has 1."""
    return torch.arange([3, 1][rank] * 2).reshape(-1, 2) + 100 * rank


def everything() -> dict[str, object]:
    """What each function gives in a group of two; written without the functions under test."""
    rank = dist.get_rank()
    found: dict[str, object] = {
        "is_distributed": distributed.is_distributed(),
        "rank": distributed.rank(),
        "world_size": distributed.world_size(),
        "is_main": distributed.is_main(),
        "gathered": distributed.all_gather(torch.tensor([rank, 10 + rank])),
        "gathered_transposed": distributed.all_gather(rank + torch.arange(6).reshape(2, 3).T),
        "rows": distributed.gather_rows(rows_of(rank)),
        "rows_of_one": distributed.gather_rows(rows_of(rank)[: 3 * rank]),
        "rows_of_none": distributed.gather_rows(torch.zeros(0, 2)),
        "before": distributed.rows_before(torch.tensor([5 + rank, 2])),
        "object": distributed.broadcast_object({"from": rank}),
    }
    x = torch.tensor([1.0, rank])
    found["reduced_is_x"] = distributed.all_reduce(x) is x
    found["reduced"] = x
    distributed.barrier()
    dist.destroy_process_group()
    found["afterwards"] = (distributed.is_distributed(), distributed.world_size())
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    found["group_of_one"] = distributed.is_distributed()
    return found


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    return run_pair(everything, tmp_path_factory.mktemp("pair"))


def test_each_process_knows_its_place(pair: list[dict]):
    assert [one["rank"] for one in pair] == [0, 1]
    assert [one["is_main"] for one in pair] == [True, False]
    assert all(one["is_distributed"] and one["world_size"] == 2 for one in pair)


def test_the_group_is_asked_for_at_each_call(pair: list[dict]):
    assert all(one["afterwards"] == (False, 1) for one in pair)


def test_a_group_of_one_process_is_none(pair: list[dict]):
    assert not any(one["group_of_one"] for one in pair)


def test_all_reduce_adds_in_place(pair: list[dict]):
    assert all(one["reduced_is_x"] for one in pair)
    assert all(one["reduced"].tolist() == [2, 1] for one in pair)


def test_all_gather_keeps_the_order_of_ranks(pair: list[dict]):
    assert all(one["gathered"].tolist() == [[0, 10], [1, 11]] for one in pair)


def test_a_transposed_tensor_is_gathered_as_it_reads(pair: list[dict]):
    expected = torch.arange(6).reshape(2, 3).T
    for one in pair:
        assert torch.equal(one["gathered_transposed"], torch.stack([expected, expected + 1]))


def test_unequal_numbers_of_rows_are_joined_lower_ranks_first(pair: list[dict]):
    joined = torch.cat([rows_of(0), rows_of(1)])
    assert all(torch.equal(one["rows"], joined) for one in pair)


def test_a_rank_without_rows_does_not_hang_the_others(pair: list[dict]):
    assert all(torch.equal(one["rows_of_one"], rows_of(1)) for one in pair)
    assert all(one["rows_of_none"].shape == (0, 2) for one in pair)


def test_rows_before_are_those_of_lower_ranks(pair: list[dict]):
    for one, before in zip(pair, ([0, 0], [5, 2]), strict=True):
        assert [rows.tolist() for rows in one["before"]] == [before, [11, 4]]


def test_an_object_of_rank_0_reaches_all(pair: list[dict]):
    assert all(one["object"] == {"from": 0} for one in pair)


def test_alone_each_function_does_nothing():
    x = torch.arange(6).reshape(3, 2)
    assert not distributed.is_distributed()
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.all_reduce(x) is x
    assert torch.equal(distributed.all_gather(x), x.unsqueeze(0))
    assert distributed.gather_rows(x) is x
    assert distributed.rows_before(torch.tensor(3)) == (0, 3)
    value = object()
    assert distributed.broadcast_object(value) is value
    distributed.barrier()
