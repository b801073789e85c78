"""Faults of evaluation, search and counts."""

from tests.quantizers.faults.fault import Fault

EVALUATION = (
    Fault(
        "Gumbel noise is added in evaluation",
        "quantizers/gumbel.py",
        (
            (
                "weighed.indices if self.training else self.codebook.nearest(z_e)",
                "self.train()._weighed(z_e, table, precision, mask).indices",
            ),
        ),
        "quantizers/test_contract.py::test_encode_equals_forward_in_evaluation[gumbel]",
    ),
    Fault(
        "a rule that draws entries is used in evaluation",
        "quantizers/learned.py",
        (
            (
                "if self.training:\n            indices = of_pass",
                "if True:\n            indices = of_pass",
            ),
        ),
        "quantizers/test_contract.py::test_encode_equals_forward_in_evaluation[sampled vq]",
    ),
    Fault(
        "encoding draws entries while the layer is trained",
        "quantizers/learned.py",
        (
            (
                "return mask_out(self.codebook.nearest(z_e).unsqueeze(-1), mask)",
                "return self.chosen(z_e, mask).unsqueeze(-1)",
            ),
        ),
        "quantizers/test_contract.py::test_encode_is_the_same_each_time_and_in_training"
        "[sampled vq]",
    ),
    Fault(
        "counts of use are floats, which stop at what float32 can count",
        "evaluation/codebook.py",
        (("torch.zeros(size, dtype=torch.int64, device=device)", "torch.zeros(size)"),),
        "evaluation/test_codebook.py::test_usage_counts_every_vector_of_the_split_however_many_and_"
        "however_large_k",
    ),
    Fault(
        "perplexity is that of the last batch",
        "evaluation/codebook.py",
        (("counts += histogram(", "counts[:] = histogram("),),
        "evaluation/test_codebook.py::test_perplexity_is_that_of_the_split_and_not_a_mean_over_"
        "batches",
    ),
    Fault(
        "use is forgotten after a window of vectors",
        "evaluation/codebook.py",
        (
            (
                "level.real(q))\n",
                "level.real(q))\n                counts.mul_(counts.sum() < 2**16)\n",
            ),
        ),
        "evaluation/test_codebook.py::test_usage_counts_every_vector_of_the_split_however_many_and_"
        "however_large_k",
    ),
    Fault(
        "nobody says that norms grow without bound",
        "training/health.py",
        (("if now < DOUBLING * half or half < DOUBLING * quarter:", "if step:"),),
        "training/test_health.py::test_growth_without_bound_is_told_from_settling",
    ),
)
SEARCH = (
    Fault(
        "the usual expansion finds distances far from the origin, and float32 decides",
        "quantizers/search/products.py",
        (
            ("center = entries.mean(0)", "center = torch.zeros_like(entries[0])"),
            ("if z.is_cpu:", "if not z.is_cpu:"),
        ),
        "quantizers/search/test_search.py::test_the_choice_is_that_of_float64[products-100.0-100]",
    ),
    Fault(
        "autocast rounds the products of the search",
        "quantizers/search/products.py",
        (
            (
                "return torch.mm(rows, block, out=room[: shape[0] * shape[1]].view(shape))",
                "return (rows @ block).view(shape)",
            ),
        ),
        "quantizers/search/test_search.py::test_autocast_does_not_change_the_choice",
    ),
    Fault(
        "the precision that the user chose for products holds in the search",
        "quantizers/search/products.py",
        (('backend.fp32_precision = "ieee"', "backend.fp32_precision = chosen"),),
        "quantizers/search/test_products.py::test_the_precision_that_the_user_chose_holds_outside_"
        "the_search_only",
    ),
    Fault(
        "entries are rounded to the half precision of the vectors",
        "quantizers/search/__init__.py",
        (
            (
                "vectors, table = z.reshape(-1, z.shape[-1]).to(dtype), entries.to(dtype)",
                "vectors, table = z.reshape(-1, z.shape[-1]).to(dtype), "
                "entries.to(z.dtype).to(dtype)",
            ),
        ),
        "quantizers/search/test_search.py::test_vectors_of_half_precision_reach_every_entry_exactly",
    ),
    Fault(
        "digits become an index in float32",
        "quantizers/mixed_radix.py",
        (
            (
                "return (digits * basis(levels, digits.device)).sum(-1)",
                "return (digits.float() * basis(levels, digits.device)).sum(-1).long()",
            ),
        ),
        "quantizers/test_mixed_radix.py::test_large_integers_lose_nothing",
    ),
    Fault(
        "finite scalars are rounded in the half precision of the vectors",
        "quantizers/scalar.py",
        (("return rows.to(torch.promote_types(z_e.dtype, torch.float32))", "return rows"),),
        "quantizers/test_contract.py::test_the_code_of_a_vector_does_not_depend_on_the_precision_"
        "that_holds_it[fsq-dtype1]",
    ),
    Fault(
        "pending counts are floats",
        "quantizers/codebook_state.py",
        (
            (
                "counts = torch.zeros(size, dtype=torch.int64)\n",
                "counts = torch.zeros(size)\n",
            ),
            (
                "self.pending_counts.index_add_(0, rows, real)",
                "self.pending_counts.index_add_(0, rows, real.float())",
            ),
        ),
        "quantizers/test_codebook.py::test_pending_counts_stay_exact_beyond_the_integers_of_float32",
    ),
    Fault(
        "the time without use is a float",
        "quantizers/codebook_state.py",
        (
            (
                '"unused_for", torch.zeros(size, dtype=torch.int64)',
                '"unused_for", torch.zeros(size)',
            ),
        ),
        "quantizers/test_codebook.py::test_the_time_without_use_is_an_exact_number_of_vectors_"
        "however_long",
    ),
)
PRECISION = (
    Fault(
        "a start is found by the usual expansion far from the origin",
        "quantizers/kmeans.py",
        (("points = vectors - vectors.mean(0)", "points = vectors.clone()"),),
        "quantizers/test_precision.py::test_far_from_the_origin_a_start_is_as_good",
    ),
    Fault(
        "all entries are weighed by the usual expansion far from the origin",
        "quantizers/soft.py",
        (("center = table.detach().mean(0)", "center = torch.zeros_like(table[0])"),),
        "quantizers/test_precision.py::test_far_from_the_origin_a_step_is_that_of_float64[gumbel]",
    ),
    Fault(
        "entries are drawn by the usual expansion far from the origin",
        "quantizers/scores.py",
        (("center = entries.mean(0)", "center = torch.zeros_like(entries[0])"),),
        "quantizers/test_precision.py::test_far_from_the_origin_a_step_is_that_of_float64"
        "[sampled vq]",
    ),
    Fault(
        "beams are followed by the usual expansion far from the origin",
        "quantizers/beam.py",
        (
            (
                "center, (num, width, dim) = table.mean(0), ",
                "center, (num, width, dim) = 0 * table[0], ",
            ),
        ),
        "quantizers/test_additive.py::test_far_from_the_origin_entries_are_chosen_as_in_float64",
    ),
    Fault(
        "revival looks at distances by the usual expansion far from the origin",
        "quantizers/revival.py",
        (
            (
                "center = entries.mean(0)\n    new",
                "center = torch.zeros_like(entries[0])\n    new",
            ),
        ),
        "quantizers/test_precision.py::test_far_from_the_origin_what_revival_gains_and_costs_is_"
        "that_of_float64",
    ),
    Fault(
        "autocast rounds the products that weigh all entries",
        "quantizers/soft.py",
        (("with torch.autocast(points.device.type, enabled=False):", "if True:"),),
        "quantizers/test_precision.py::test_autocast_changes_nothing[gumbel]",
    ),
    Fault(
        "autocast rounds the entropies of signs",
        "quantizers/binary.py",
        (("with torch.autocast(z_e.device.type, enabled=False):", "if True:"),),
        "quantizers/test_precision.py::test_autocast_changes_nothing[lfq]",
    ),
    Fault(
        "autocast rounds random projections",
        "quantizers/random_projection.py",
        (("rows.double() @ self.projection.double()", "(rows @ self.projection).double()"),),
        "quantizers/test_precision.py::test_autocast_changes_nothing[random projection]",
    ),
    Fault(
        "the precision that the user chose for products holds in a start",
        "quantizers/kmeans.py",
        ((", full_precision(vectors.device.type):", ":"),),
        "quantizers/test_precision.py::test_the_precision_that_the_user_chose_for_products_holds_in_"
        "no_choice",
    ),
    Fault(
        "the precision that the user chose for products holds in draws",
        "quantizers/scores.py",
        (("with full_precision(z.device.type):", "if True:"),),
        "quantizers/test_precision.py::test_the_precision_that_the_user_chose_for_products_holds_in_"
        "no_choice",
    ),
)
FAULTS = (*EVALUATION, *SEARCH, *PRECISION)
