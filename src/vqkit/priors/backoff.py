"""Counts of integers after contexts, and probabilities that back off to shorter ones."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vqkit.distributed import gather_rows
from vqkit.priors.count_table import CountTable, merged

ROOM = 2**22
"""Integers that wait to be sorted, or as many as were sorted before where those are more."""
STRENGTHS = tuple(2.0**power for power in range(-2, 11))


class BackoffCounts(nn.Module):
    """p(integer | context), smoothed by p(integer | the context without its last symbol).

    p_j(x | c_1 .. c_j) = (n_j(x) + s_j p_{j-1}(x)) / (N_j + s_j), where n_j(x) of the N_j integers
    after c_1 .. c_j were x, and p_0(x) = (n_0(x) + 1) / (N_0 + K): the smoothing of A Hierarchical
    Dirichlet Language Model, https://doi.org/10.1017/S1351324900000218. The strengths s_j are
    chosen one after another so that the integers are most probable, each by the counts of all
    others. So is the place of the last symbol, if it may move: the earlier, the later it is left
    out.

    Args:
        size: Number K of integers.
        symbols: Number of symbols that can stand at each of the J places of a context.
        last_moves: Whether the last symbol may take any place.
    """

    strengths: Tensor
    """How many integers the shorter context counts as, at each length. (J,) float64"""
    sizes: Tensor
    """K and ``symbols``: what the keys mean, saved with them. (1 + J,) int64"""
    order: Tensor
    """Which symbol stands at each place of c_1 .. c_j. (J,) int64"""

    def __init__(self, size: int, symbols: Sequence[int], *, last_moves: bool = False) -> None:
        super().__init__()
        self.size, self.symbols, self.last_moves = size, tuple(symbols), last_moves
        num = len(self.symbols)
        self.tables = nn.ModuleList(CountTable(size, saved=j == num) for j in range(num + 1))
        self.register_buffer("strengths", torch.ones(num, dtype=torch.float64))
        self.register_buffer("sizes", torch.tensor([size, *self.symbols]))
        self.register_buffer("order", torch.arange(num))
        self.waiting: list[tuple[Tensor, Tensor]] = []
        self.num_waiting = self.num_sorted = 0
        self.register_load_state_dict_post_hook(lambda module, _: module.loaded())

    @property
    def deepest(self) -> CountTable:
        """The table of whole contexts, of which all others are sums."""
        return self.table(len(self.symbols))

    def table(self, length: int) -> CountTable:
        """The table of contexts of a length."""
        table = self.tables[length]
        assert isinstance(table, CountTable)
        return table

    def start(self) -> None:
        """Forgets what was counted."""
        self._nothing_waits()
        self.deepest.fill(self.deepest.keys[:0], self.deepest.counts[:0])
        self.strengths.fill_(1)
        self.order.copy_(torch.arange(len(self.order)))
        self.shorten()

    def loaded(self) -> None:
        """Makes what is not saved; raises ValueError if the keys are those of other contexts."""
        own = [self.size, *self.symbols]
        if self.sizes.tolist() != own:
            raise ValueError(f"counts are of sizes {self.sizes.tolist()}, this prior's are {own}")
        self.shorten()

    def add(self, contexts: Tensor, integers: Tensor) -> None:
        """Counts integers (N,) after the symbols of their contexts (N, J)."""
        keys = self.number(contexts, moved=False) * self.size + integers
        self.waiting.append((keys, torch.ones_like(keys)))
        self.num_waiting += len(keys)
        if self.num_waiting > max(ROOM, self.num_sorted):  # or it would be sorted at each turn
            self.waiting = [self._waiting()]
            self.num_waiting, self.num_sorted = 0, len(self.waiting[0][0])

    def end(self) -> None:
        """Makes the probabilities of all that any rank counted; every rank calls it."""
        keys, counts = self._waiting()
        self._nothing_waits()
        keys, counts = merged(gather_rows(keys), gather_rows(counts))
        seen = self.symbols_of(keys // self.size), keys % self.size, counts
        last = len(self.symbols) - 1
        places = range(last + 1) if self.last_moves else range(last, last + 1)
        costs = [self._arranged(place, *seen) for place in places]
        best = max(place for place, cost in zip(places, costs, strict=True) if cost == min(costs))
        if best != last:  # which was tried last
            self._arranged(best, *seen)

    def _arranged(self, place: int, contexts: Tensor, integers: Tensor, counts: Tensor) -> float:
        """Makes all tables with the last symbol at some place of the contexts.

        Args:
            place: Where it stands; -1 where contexts are empty.
            contexts: Symbols. (N, J)
            integers: What came after them. (N,)
            counts: How often. (N,)

        Returns:
            Nats that the integers cost.
        """
        order = list(range(len(self.symbols) - 1))
        if self.symbols:
            order.insert(place, len(self.symbols) - 1)
        self.order.copy_(torch.tensor(order))
        keys = self.number(contexts) * self.size + integers
        self.deepest.keys, self.deepest.counts = keys, counts
        self.shorten()  # which sorts them
        return self.choose_strengths()

    def _nothing_waits(self) -> None:
        self.waiting.clear()
        self.num_waiting = self.num_sorted = 0

    def _waiting(self) -> tuple[Tensor, Tensor]:
        """What this rank counted."""
        nothing = (self.deepest.keys[:0], self.deepest.counts[:0])
        keys, counts = zip(nothing, *self.waiting, strict=True)
        return merged(torch.cat(keys), torch.cat(counts))

    def shorten(self) -> None:
        """Makes all tables of the keys and counts of whole contexts, whatever their order."""
        keys, counts = self.deepest.keys, self.deepest.counts
        self.deepest.fill(keys, counts)
        sizes = self.sizes_in_order()
        for length in reversed(range(len(sizes))):
            context, integer = keys // self.size, keys % self.size
            table = self.table(length)
            table.fill(context // sizes[length] * self.size + integer, counts)
            keys, counts = table.keys, table.counts

    def resize(self, num: int) -> None:
        """Makes room for so many keys."""
        self.deepest.keys = self.deepest.keys.new_zeros(num)
        self.deepest.counts = self.deepest.counts.new_zeros(num)

    def sizes_in_order(self) -> list[int]:
        """Number of symbols at each place of c_1 .. c_J."""
        return [self.symbols[place] for place in self.order.tolist()]

    def number(self, contexts: Tensor, *, moved: bool = True) -> Tensor:
        """Contexts (N, J) as numbers, the symbols in ``order`` or as they stand. (N,) int64"""
        found = contexts.new_zeros(len(contexts))
        for place in self.order.tolist() if moved else range(len(self.symbols)):
            found = found * self.symbols[place] + contexts[:, place]
        return found

    def symbols_of(self, numbers: Tensor) -> Tensor:
        """The contexts whose numbers, of the symbols as they stand, these are. (N,) -> (N, J)"""
        found = numbers.new_zeros(len(numbers), len(self.symbols))
        for place in reversed(range(len(self.symbols))):
            found[:, place] = numbers % self.symbols[place]
            numbers = numbers // self.symbols[place]
        return found

    def choose_strengths(self) -> float:
        """Makes each integer that was counted most probable by the counts of all others.

        Returns:
            What they cost so, in nats.
        """
        keys, weights = self.deepest.keys, self.deepest.counts.double()
        contexts, integers = self.shorter(keys // self.size), keys % self.size
        p = torch.ones_like(weights)
        for length, context in enumerate(contexts):
            table = self.table(length)
            seen, total = table.seen(context, integers) - 1, table.totals(context) - 1
            if length == 0:
                p = (seen + 1) / (total + self.size).double()
                continue
            nats = [-(weights * ((seen + s * p) / (total + s)).log()).sum() for s in STRENGTHS]
            best = STRENGTHS[int(torch.stack(nats).argmin())]
            self.strengths[length - 1] = best
            p = (seen + best * p) / (total + best)
        return -float((weights * p.log()).sum())

    def shorter(self, context: Tensor) -> list[Tensor]:
        """The numbers of a context's beginnings of length 0, 1, ... J. (N,) -> (N,) int64 each"""
        found = [context]
        for size in reversed(self.sizes_in_order()):
            found.append(found[-1] // size)
        return found[::-1]

    def nats(self, contexts: Tensor, integers: Tensor) -> Tensor:
        """What integers (N,) cost after the symbols of contexts (N, J). (N,) float64"""
        p = torch.empty(0)
        for length, context in enumerate(self.shorter(self.number(contexts))):
            table = self.table(length)
            p = self._smoothed(length, table.seen(context, integers), table.totals(context), p)
        return -p.log()

    def logits(self, contexts: Tensor) -> Tensor:
        """The log-probabilities of all integers after contexts (N, J). (N, K) float64"""
        p = torch.empty(0)
        for length, context in enumerate(self.shorter(self.number(contexts))):
            table = self.table(length)
            totals = table.totals(context).unsqueeze(1)
            p = self._smoothed(length, table.rows(context), totals, p)
        return p.log()

    def _smoothed(self, length: int, seen: Tensor, totals: Tensor, p: Tensor) -> Tensor:
        """The probabilities after contexts of a length, from those after one symbol less."""
        if length == 0:
            return (seen + 1) / (totals + self.size).double()
        strength = self.strengths[length - 1].double()
        return (seen + strength * p) / (totals + strength)


def largest_that_fits(size: int, symbols: Sequence[int]) -> int:
    """How many of the symbols a context may have, so that its keys are integers of 63 bits."""
    numbers = [math.prod(symbols[:length]) * size for length in range(1, len(symbols) + 1)]
    return sum(number < 2**63 for number in numbers)
