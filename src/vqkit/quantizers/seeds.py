"""One seed for all ranks, where no engine gave one."""

from typing import Protocol

from torch import Tensor

from vqkit import distributed


class Seeded(Protocol):
    """What has a seed, and knows whether all ranks have the same."""

    seed: Tensor
    has_common_seed: bool


def agree_on_seed(one: Seeded) -> bool:
    """Gives every rank the first one's seed, once; all have to call it in the same pass.

    Returns:
        Whether it did so now.
    """
    if one.has_common_seed or not distributed.is_distributed():
        return False  # alone nothing is settled: others may come
    one.seed.copy_(distributed.all_gather(one.seed)[0])
    one.has_common_seed = True
    return True
