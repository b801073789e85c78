"""Faults of masks, of several processes, and of memory."""

from tests.quantizers.faults.fault import Fault

MASKS = (
    Fault(
        "padding counts as use of an entry",
        "quantizers/codebook_state.py",
        (
            (
                "real = torch.ones_like(rows) if mask is None else mask.flatten().long()",
                "real = torch.ones_like(rows)",
            ),
        ),
        "quantizers/test_contract.py::test_a_masked_batch_equals_its_packed_batch[ema]",
    ),
    Fault(
        "losses are divided by the number of all positions",
        "means.py",
        (
            (
                "values.masked_fill(~mask, 0).sum(), mask.sum())",
                "values.masked_fill(~mask, 0).sum(), torch.tensor(mask.numel()))",
            ),
        ),
        "quantizers/test_contract.py::test_a_masked_batch_equals_its_packed_batch[vq]",
    ),
    Fault(
        "a start sees the zeros of padding",
        "quantizers/gathering.py",
        (
            (
                "gather_rows(real_rows(z_e.detach(), mask))",
                "gather_rows(real_rows(z_e.detach(), None))",
            ),
        ),
        "quantizers/test_initialization.py::test_padding_has_no_part_in_a_start",
    ),
    Fault(
        "heads do not get the mask",
        "quantizers/product.py",
        (
            (
                "return None if mask is None else mask.unsqueeze(-1).expand(*mask.shape, "
                "len(self.parts))",
                "return None",
            ),
        ),
        "quantizers/test_contract.py::test_a_masked_batch_equals_its_packed_batch[heads of ema]",
    ),
    Fault(
        "padding trains the projection",
        "quantizers/projected.py",
        (("detached_at_padding(self._outside(out.z_q), mask)", "self._outside(out.z_q)"),),
        "quantizers/test_projected.py::test_masked_positions_send_no_gradient_to_the_projection",
    ),
)
PROCESSES = (
    Fault(
        "counts of all ranks are added, and the sum is thrown away",
        "quantizers/codebook.py",
        (
            (
                "counts, sums = distributed.all_reduce(self.pending_counts), None",
                "counts, sums = self.pending_counts, None\n"
                "        distributed.all_reduce(counts.clone())",
            ),
        ),
        "quantizers/test_two_processes.py::test_two_processes_equal_one_on_the_joined_batch"
        "[ema-engine]",
    ),
    Fault(
        "the first rank's batch starts the codebook of all",
        "quantizers/gathering.py",
        (
            (
                "distributed.gather_rows(real_rows(z_e.detach(), mask))",
                "real_rows(z_e.detach(), mask)",
            ),
        ),
        "quantizers/test_two_processes.py::test_two_processes_equal_one_on_the_joined_batch"
        "[ema-first batch]",
    ),
    Fault(
        "each rank revives by random numbers of its own",
        "quantizers/revival.py",
        (("random.uniform(seed, number)", "random.uniform(seed + distributed.rank(), number)"),),
        "quantizers/test_two_processes.py::test_two_processes_equal_one_on_the_joined_batch"
        "[vq-engine]",
    ),
    Fault(
        "ranks draw entries by the same random numbers",
        "quantizers/assignment.py",
        (("first = pending + before", "first = pending.clone()"),),
        "quantizers/test_two_processes.py::test_two_processes_equal_one_on_the_joined_batch"
        "[sampled ema-engine]",
    ),
    Fault(
        "a rank whose batch is all padding does not commit, and the others wait",
        "quantizers/learned.py",
        (
            (
                "decay = self.usage_decay\n",
                "if not self.codebook.pending_counts.any():\n"
                "            return\n"
                "        decay = self.usage_decay\n",
            ),
        ),
        "quantizers/test_collectives.py::test_a_rank_without_real_vectors_asks_for_as_much_as_any_"
        "other[ema]",
    ),
    Fault(
        "a rank without vectors draws no numbers, and the others wait",
        "quantizers/assignment.py",
        (
            (
                "before, total = distributed.rows_before(real.sum())\n",
                "if not real.any():\n"
                "        return real.long()\n"
                "    before, total = distributed.rows_before(real.sum())\n",
            ),
        ),
        "quantizers/test_collectives.py::test_a_rank_without_real_vectors_asks_for_as_much_as_any_"
        "other[gumbel]",
    ),
    Fault(
        "whether there is a group of processes is asked once",
        "distributed.py",
        (
            (
                "from typing import TypeVar",
                "from functools import cache\nfrom typing import TypeVar",
            ),
            ("def is_distributed()", "@cache\ndef is_distributed()"),
        ),
        "test_distributed.py::test_the_group_is_asked_for_at_each_call",
    ),
)
MEMORY = (
    Fault(
        "use is counted by a table of vectors by entries",
        "quantizers/codebook_state.py",
        (
            (
                "self.pending_counts.index_add_(0, rows, real)",
                "hits = torch.nn.functional.one_hot(rows, self.size) * real.unsqueeze(-1)\n"
                "        self.pending_counts.add_(hits.sum(0))",
            ),
        ),
        "quantizers/test_memory.py::test_a_training_step_needs_memory_for_vectors_and_entries_not_"
        "for_their_pairs[ema]",
    ),
    Fault(
        "all distances are held at once",
        "quantizers/codebook.py",
        (("return nearest(z, self.table)", "return torch.cdist(z, self.table).argmin(-1)"),),
        "quantizers/test_memory.py::test_a_training_step_needs_memory_for_vectors_and_entries_not_"
        "for_their_pairs[vq]",
    ),
    Fault(
        "the search holds all scores at once",
        "quantizers/search/products.py",
        (("SCORES_PER_CHUNK = 2**19", "SCORES_PER_CHUNK = 2**40"),),
        "quantizers/search/test_search.py::test_memory_does_not_grow_with_vectors_times_entries"
        "[products-1000]",
    ),
    Fault(
        "the weights of all entries are kept for the backward pass",
        "quantizers/chunks.py",
        (
            ("if size > num and torch", "if False and torch"),
            ("if torch.is_grad_enabled():", "if False:"),
        ),
        "quantizers/test_memory.py::test_a_training_step_needs_memory_for_vectors_and_entries_not_"
        "for_their_pairs[gumbel]",
    ),
    Fault(
        "the entries of finite scalars are written down",
        "quantizers/scalar.py",
        (
            (
                "self.levels = levels\n",
                "self.levels = levels\n"
                "        size = min(10**3, math.prod(levels))\n"
                '        self.register_buffer("codebook", torch.zeros(size))\n',
            ),
        ),
        "quantizers/test_scalar.py::test_a_codebook_of_10_to_the_18_takes_no_memory_and_none_of_its_"
        "codes_is_lost",
    ),
    Fault(
        "the entries of signs are written down",
        "quantizers/binary.py",
        (
            (
                "        even = [torch.full((2**bits,), 2.0**-bits) for bits in self.groups]\n",
                "        even = [torch.full((2**bits,), 2.0**-bits) for bits in self.groups]\n"
                '        self.register_buffer("codebook", torch.zeros(min(2**dim, 9999)))\n',
            ),
        ),
        "quantizers/test_binary.py::test_2_to_the_62_codes_take_no_memory_and_none_is_lost",
    ),
)
FAULTS = (*MASKS, *PROCESSES, *MEMORY)
