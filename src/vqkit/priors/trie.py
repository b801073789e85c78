"""The codes that samples may have, as a tree of what may follow what."""

import torch
from torch import Tensor


class Trie:
    """Allowed rows of integers as a tree: a node for each way that a row may begin.

    Args:
        rows: The rows, in the order of ``Codes.flat``. (M, L) int64
        order: The slots in the order in which they are drawn. (L,) int64
        size: Largest number of entries of a slot.

    Raises:
        ValueError: If there are no rows.
    """

    def __init__(self, rows: Tensor, order: Tensor, size: int) -> None:
        if not len(rows):
            raise ValueError("valid holds no codes; give those that samples may have")
        self.order, self.size = order.tolist(), size
        self.edges: list[Tensor] = []  # of each depth: node * size + integer, sorted
        nodes = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        for slot in self.order:
            edges, nodes = (nodes * size + rows[:, slot]).unique(return_inverse=True)
            self.edges.append(edges)  # the number of an edge is that of the node it leads to

    def walk(self, num: int) -> "Walk":
        """Begins at the root for each of ``num`` items."""
        return Walk(self, num)


class Walk:
    """Where items are in a tree; every slot is asked for once, in the tree's order.

    Args:
        trie: The tree.
        num: Number of items B.
    """

    def __init__(self, trie: Trie, num: int) -> None:
        self.trie, self.depth = trie, 0
        self.nodes = torch.zeros(num, dtype=torch.int64, device=trie.edges[0].device)

    def allowed(self, num_entries: int) -> Tensor:
        """What may come next of so many entries. (B, num_entries) bool"""
        edges, size = self.trie.edges[self.depth], self.trie.size
        first = torch.searchsorted(edges, self.nodes * size)
        counts = torch.searchsorted(edges, (self.nodes + 1) * size) - first
        items = torch.arange(len(self.nodes), device=edges.device).repeat_interleave(counts)
        within = torch.arange(len(items), device=edges.device) - (counts.cumsum(0) - counts)[items]
        found = torch.zeros(len(self.nodes), num_entries, dtype=torch.bool, device=edges.device)
        found[items, edges[first[items] + within] - self.nodes[items] * size] = True
        return found

    def step(self, integers: Tensor) -> None:
        """Goes where the integers (B,) of the slot lead.

        Raises:
            ValueError: If one leads nowhere.
        """
        edges, keys = self.trie.edges[self.depth], self.nodes * self.trie.size + integers
        places = torch.searchsorted(edges, keys).clamp(max=len(edges) - 1)
        if (wrong := edges[places] != keys).any():
            item = int(wrong.nonzero()[0])
            raise ValueError(
                f"known codes of item {item} begin none of the valid ones; give such as one begins"
            )
        self.nodes, self.depth = places, self.depth + 1
