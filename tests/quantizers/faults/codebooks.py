"""Faults of codebooks: averages, starts, revival, and what is saved."""

from tests.quantizers.faults.fault import Fault

AVERAGES = (
    Fault(
        "sums start at the entry and counts at 0, so that a first hit throws an entry far away",
        "quantizers/codebook_state.py",
        (
            (
                "missing = codebook.state_of_given()",
                "missing = codebook.state_of_given()\n"
                '        missing["average_sums"] = state[f"{prefix}entries"]',
            ),
        ),
        "quantizers/test_ema.py::test_an_entry_is_the_average_of_its_vectors_with_weights_that_"
        "decay_per_step",
    ),
    Fault(
        "counts start at 1 and sums at 0, so that early averages are near 0",
        "quantizers/codebook_state.py",
        (
            (
                '"average_counts", entries.new_zeros(size)',
                '"average_counts", entries.new_ones(size)',
            ),
        ),
        "quantizers/test_codebook.py::test_the_first_commit_moves_an_entry_onto_the_mean_of_its_"
        "vectors",
    ),
    Fault(
        "entries that nobody used become their sum over a tiny count",
        "quantizers/codebook.py",
        (
            (
                "self.average_counts.unsqueeze(-1))\n",
                "(self.average_counts + 1e-5).unsqueeze(-1))\n",
            ),
            ("moves = used.unsqueeze(-1)", "moves = torch.ones_like(used).unsqueeze(-1)"),
        ),
        "quantizers/test_ema.py::test_an_entry_that_nobody_used_does_not_move",
    ),
    Fault(
        "smoothed counts are written back, so that smoothing adds up from step to step",
        "quantizers/codebook.py",
        (
            (
                "self.average_sums.lerp_(sums, weight)\n",
                "self.average_sums.lerp_(sums, weight)\n"
                "            before = self.average_counts.sum()\n"
                "            self.average_counts.add_(1e-5)\n"
                "            self.average_counts.mul_(before / self.average_counts.sum())\n",
            ),
        ),
        "quantizers/test_ema.py::test_the_update_equals_the_papers_formula_in_float64_over_many_"
        "steps",
    ),
    Fault(
        "counts are smoothed by the size of the batch, which is not the sum of average counts",
        "quantizers/codebook.py",
        (
            (
                "means = self.placed(self.average_sums / self.average_counts.unsqueeze(-1))",
                "smoothed = (self.average_counts + 1e-5) / (total + self.size * 1e-5) * total\n"
                "            means = self.placed(self.average_sums / smoothed.unsqueeze(-1))",
            ),
        ),
        "quantizers/test_ema.py::test_the_update_equals_the_papers_formula_in_float64_over_many_"
        "steps",
    ),
    Fault(
        "every forward pass moves the entries, though a step has several",
        "quantizers/learned.py",
        (("if self.commit_in_forward:", "if True:"),),
        "quantizers/test_ema.py::test_micro_batches_move_the_entries_once_and_as_one_batch",
    ),
    Fault(
        "a second commit, with nothing new, lets the past fade",
        "quantizers/codebook.py",
        (("weight = something * ", "weight = torch.ones_like(something) * "),),
        "quantizers/test_ema.py::test_a_shared_codebook_moves_once_though_each_owner_commits",
    ),
    Fault(
        "a gradient is accepted for entries that averages overwrite",
        "quantizers/ema.py",
        (
            (
                'gradient, without="averages move the entries, and a gradient for them has no '
                'effect"',
                "gradient",
            ),
        ),
        "quantizers/test_ema.py::test_a_gradient_that_would_move_averaged_entries_is_refused",
    ),
    Fault(
        "one codebook may be moved by averages and by gradients",
        "quantizers/codebook.py",
        (("if self.moved_by not in (None, mover):", "if False:"),),
        "quantizers/test_codebook.py::test_one_codebook_is_not_moved_by_both_gradients_and_averages",
    ),
)
STARTS = (
    Fault(
        "a start sets the sum to the centre and the count to the size of the cluster",
        "quantizers/codebook.py",
        (
            (
                "self.average_sums.copy_(self.average_counts.unsqueeze(-1) * self.entries)",
                "self.average_sums.copy_(self.entries)",
            ),
        ),
        "quantizers/test_initialization.py::test_the_first_step_after_a_start_does_not_shrink_the_"
        "codebook",
    ),
    Fault(
        "an empty cluster is a sum of nothing over a tiny count",
        "quantizers/kmeans.py",
        (
            (
                "means[empty] = vectors[keys.topk(num, largest=False).indices]",
                "means[empty] = sums[empty] / 1e-5",
            ),
        ),
        "quantizers/test_kmeans.py::test_an_empty_cluster_is_reseeded_with_a_vector_far_from_its_"
        "entry",
    ),
    Fault(
        "a start from a batch without real vectors is tried",
        "quantizers/codebook.py",
        (("if len(joined):", "if True:"),),
        "quantizers/test_contract.py::test_a_batch_without_real_vectors_costs_and_changes_nothing"
        "[ema-False-all masked]",
    ),
    Fault(
        "bfloat16 products choose the start under autocast",
        "quantizers/kmeans.py",
        (("torch.autocast(vectors.device.type, enabled=False), ", ""),),
        "quantizers/test_kmeans.py::test_autocast_does_not_change_the_start",
    ),
)
REVIVAL = (
    Fault(
        "revival writes the entry and neither its sum nor its count",
        "quantizers/codebook.py",
        (
            (
                "torch.where(column, weight * vectors, self.average_sums[rows])",
                "self.average_sums[rows]",
            ),
            (
                "self.average_counts[rows].masked_fill(accepted, weight)",
                "self.average_counts[rows]",
            ),
        ),
        "quantizers/test_revival.py::test_a_revived_entry_survives_the_next_step",
    ),
    Fault(
        "revival draws any vector, however well it fits",
        "quantizers/revival.py",
        ((".log_().div_(one.errors)", ".log_()"),),
        "quantizers/test_revival.py::test_full_use_comes_soon_and_with_a_small_error",
    ),
    Fault(
        "a dead entry is replaced, even where it is worth more than the new one",
        "quantizers/revival.py",
        (("(drawn.chances > -torch.inf) & worth", "(drawn.chances > -torch.inf)"),),
        "quantizers/test_revival.py::test_an_unlucky_entry_stays_where_its_place_is_worth_more",
    ),
    Fault(
        "padding becomes an entry",
        "quantizers/codebook_state.py",
        (("errors.isfinite() & mask.flatten()", "errors.isfinite()"),),
        "quantizers/test_contract.py::test_a_masked_batch_equals_its_packed_batch[vq]",
    ),
)
SAVED = (
    Fault(
        "running sums are missing from the saved state",
        "quantizers/codebook_state.py",
        (
            (
                '"average_sums", torch.zeros_like(entries)',
                '"average_sums", torch.zeros_like(entries), persistent=False',
            ),
        ),
        "quantizers/test_contract.py::test_a_reloaded_quantizer_continues_bit_for_bit[ema]",
    ),
    Fault(
        "the time without use is missing from the saved state",
        "quantizers/codebook_state.py",
        (
            (
                '"unused_for", torch.zeros(size, dtype=torch.int64)',
                '"unused_for", torch.zeros(size, dtype=torch.int64), persistent=False',
            ),
        ),
        "quantizers/test_contract.py::test_a_reloaded_quantizer_continues_bit_for_bit[vq]",
    ),
    Fault(
        "whether a codebook has started is an attribute that loading does not set",
        "quantizers/codebook_state.py",
        (
            (
                "it belongs to the entries before\n        self._read_state()",
                "it belongs to the entries before",
            ),
        ),
        "quantizers/test_initialization.py::test_a_reloaded_codebook_does_not_start_again",
    ),
    Fault(
        "the step on which dropout of stages depends is missing from the saved state",
        "quantizers/residual.py",
        (
            (
                '"step", torch.zeros((), dtype=torch.int64)',
                '"step", torch.zeros((), dtype=torch.int64), persistent=False',
            ),
        ),
        "quantizers/test_residual.py::test_a_state_saved_in_the_middle_continues_bit_for_bit_with_"
        "dropout",
    ),
)
FAULTS = (*AVERAGES, *STARTS, *REVIVAL, *SAVED)
