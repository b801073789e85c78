"""Faults of losses and gradients: what each weighs, what each reaches, and means of them."""

from tests.quantizers.faults.fault import Fault

TERMS = (
    Fault(
        "beta weighs the codebook term",
        "quantizers/vector.py",
        (
            (
                "total = codebook.total + self.commitment * commitment.total",
                "total = self.commitment * codebook.total + commitment.total",
            ),
        ),
        "quantizers/test_vector.py::test_the_loss_moves_encoder_and_entries_as_the_paper_says",
    ),
    Fault(
        "beta weighs the codebook term of index backpropagation",
        "quantizers/ibq.py",
        (
            (
                "codebook.total + self.commitment * commitment.total",
                "self.commitment * codebook.total + commitment.total",
            ),
        ),
        "quantizers/test_soft.py::test_beta_of_index_backpropagation_weighs_the_encoders_term_alone",
    ),
    Fault(
        "beta weighs the term of latent values",
        "quantizers/latent.py",
        (
            (
                "values.total + self.commitment * commitment.total",
                "self.commitment * values.total + commitment.total",
            ),
        ),
        "quantizers/test_latent.py::test_the_terms_and_their_gradients_are_the_equations",
    ),
    Fault(
        "the codebook term reaches the encoder",
        "quantizers/vector.py",
        (("squared_errors(z_q, z_e.detach())", "squared_errors(z_q, z_e)"),),
        "quantizers/test_vector.py::test_the_codebook_term_reaches_only_the_entries",
    ),
    Fault(
        "the commitment reaches the entries",
        "quantizers/vector.py",
        (("squared_errors(z_e, z_q.detach())", "squared_errors(z_e, z_q)"),),
        "quantizers/test_vector.py::test_the_commitment_term_reaches_only_the_encoder",
    ),
    Fault(
        "the reconstruction reaches the entries",
        "quantizers/gradients.py",
        (("return exactly(z_q, z_e)\n", "return z_q + (z_e - z_e.detach())\n"),),
        "quantizers/test_vector.py::test_the_reconstruction_reaches_only_the_encoder",
    ),
    Fault(
        "with the cosine only the lookup is about vectors of length 1, and losses are not",
        "quantizers/learned.py",
        (
            (
                "z_e = self.codebook.project(self.checked(z_e, mask))\n        if self.learns",
                "z_e = self.checked(z_e, mask)\n        if self.learns",
            ),
        ),
        "quantizers/test_care.py::test_with_the_cosine_lookup_loss_and_value_are_on_the_sphere",
    ),
    Fault(
        "the commitment weighs nothing, and norms grow without bound",
        "quantizers/ema.py",
        (("Mean(self.commitment * commitment.total", "Mean(0 * commitment.total"),),
        "training/test_health.py::test_commitment_bounds_the_norm_of_a_run_made_to_provoke_growth",
    ),
    Fault(
        "encoding looks up vectors that are not normalised",
        "quantizers/normalized.py",
        (
            (
                "self.quantizer.encode(self.normalize(self.checked(z_e, mask)), mask)",
                "self.quantizer.encode(self.checked(z_e, mask), mask)",
            ),
        ),
        "quantizers/test_normalized.py::test_encoding_looks_up_the_normalized_vectors[layernorm]",
    ),
)
MEANS = (
    Fault(
        "losses are sums over the batch",
        "means.py",
        (("return self.total / self.count.clamp(min=1)", "return self.total"),),
        "quantizers/test_contract.py::test_losses_do_not_change_when_the_batch_is_repeated[vq]",
    ),
    Fault(
        "squared errors are sums over the coordinates",
        "quantizers/base.py",
        (('reduction="none").sum(-1) / x.shape[-1]', 'reduction="none").sum(-1)'),),
        "quantizers/test_vector.py::test_losses_are_means_over_vectors_and_coordinates",
    ),
    Fault(
        "a divergence is too large by the number of vectors",
        "quantizers/gumbel.py",
        (("math.log(self.codebook.size) - weighed.entropy", "-weighed.entropy.sum()"),),
        "quantizers/test_soft.py::test_the_losses_of_drawing_are_those_of_a_loop_over_real_vectors",
    ),
    Fault(
        "the loss of several batches is the mean of their means",
        "means.py",
        (
            (
                "return Mean(self.total + other.total, self.count + other.count)",
                "return Mean(self.value + other.value, torch.full_like(self.count, 2))",
            ),
        ),
        "quantizers/test_contract.py::test_the_objectives_of_a_split_batch_add_up_to_the_whole_"
        "batchs[vq]",
    ),
    Fault(
        "micro-batches of unequal masks weigh alike",
        "training/loop.py",
        (("m.total / counts[name].clamp(min=1)", "m.value / len(batch)"),),
        "training/test_loop.py::test_micro_batches_of_unequal_masks_equal_the_whole_batch[vq]",
    ),
    Fault(
        "the engine commits once for each micro-batch",
        "training/loop.py",
        (("loss.backward()\n", "loss.backward()\n            self.task.commit()\n"),),
        "training/test_loop.py::test_an_averaged_codebook_is_committed_once_per_optimizer_step[4]",
    ),
    Fault(
        "averaged weights are beside a codebook that is not averaged",
        "training/optimizer.py",
        (
            (
                "if t.is_floating_point()}",
                'if t.is_floating_point() and "codebook" not in name}',
            ),
        ),
        "training/test_optimizer.py::test_averaged_weights_are_evaluated_and_saved_with_their_"
        "averaged_codebook",
    ),
)
ESTIMATORS = (
    Fault(
        "the straight-through value is rounded twice and misses the entry",
        "quantizers/gradients.py",
        (("return exactly(z_q, z_e)\n", "return z_e + (z_q - z_e).detach()\n"),),
        "quantizers/test_gradients.py::test_the_value_is_exactly_z_q",
    ),
    Fault(
        "the gradient of the rotation has no bound near 0",
        "quantizers/gradients.py",
        ((").clamp(max=LARGEST_STRETCH)", ")"),),
        "quantizers/test_gradients.py::test_the_rotations_gradient_is_bounded_wherever_it_has_no_"
        "meaning",
    ),
    Fault(
        "the gradient of a length of 1 has no bound near 0",
        "quantizers/base.py",
        (
            (
                "return F.rms_norm(z, (dim,), eps=EPSILON) / dim**0.5",
                "return F.normalize(z, dim=-1)",
            ),
        ),
        "quantizers/test_normalized.py::test_gradients_are_bounded_near_zero_and_far_from_it",
    ),
)
STAGES = (
    Fault(
        "what a stage leaves has no gradient, so that later stages pull nobody",
        "quantizers/residual.py",
        (("left = left - added.detach()", "left = (left - added).detach()"),),
        "quantizers/test_residual.py::test_every_stages_commitment_pulls_the_encoder",
    ),
    Fault(
        "what a scale leaves has no gradient, so that finer scales pull nobody",
        "quantizers/multiscale.py",
        (("left = left - found[number].detach()", "left = (left - found[number]).detach()"),),
        "quantizers/test_multiscale.py::test_every_scales_commitment_pulls_the_encoder",
    ),
    Fault(
        "the decoder's gradient reaches the encoder once for each stage",
        "quantizers/stages.py",
        (("quantizer.passes_gradient = quantizer.squashes = False", "quantizer.squashes = False"),),
        "quantizers/test_residual.py::test_the_decoders_gradient_reaches_the_encoder_exactly_once",
    ),
    Fault(
        "dropout leaves out the last stage always",
        "quantizers/residual.py",
        (("< self.dropout, shorter, num_stages)", "< self.dropout, shorter, num_stages - 1)"),),
        "quantizers/test_residual.py::test_the_share_of_items_coded_by_fewer_stages_is_the_dropout",
    ),
    Fault(
        "a stage is trained by the items of the stage behind it, and the last by none",
        "quantizers/residual.py",
        (
            (
                "real = mask if counts is None else reaching(counts > number,",
                "real = mask if counts is None else reaching(counts > number + 1,",
            ),
        ),
        "quantizers/test_residual.py::test_dropped_items_have_no_part_in_a_stages_statistics_and_"
        "losses",
    ),
    Fault(
        "a batch of one item has no dropout",
        "quantizers/residual.py",
        (("self.dropout == 0 or num_stages == 1", "self.dropout == 0 or len(z_e) == 1"),),
        "quantizers/test_residual.py::test_dropout_happens_at_batch_size_one_as_often_as_asked_for",
    ),
)
FAULTS = (*TERMS, *MEANS, *ESTIMATORS, *STAGES)
