"""What must hold for the Transformer prior in particular."""

import pytest
import torch
from tests.priors.spaces import CLASSES, SPACES, labels_of, make, random_codes
from torch import Tensor
from torch.testing import assert_close

from vqkit.codes import Codes, LevelSpec
from vqkit.nn.dropout import noise
from vqkit.priors import Conditioning, ConditioningSpec, TransformerConfig, TransformerPrior

SMALL = TransformerConfig(layers=2, width=16, heads=2, dropout=0.0)
DEEP = TransformerConfig(layers=3, width=32, heads=4, dropout=0.3)
SEVERAL = (LevelSpec((2, 2), (11,)), LevelSpec((3,), (7, 5), "residual"))


def transformer(
    specs: tuple[LevelSpec, ...] = SEVERAL,
    num_classes: int | None = CLASSES,
    config: TransformerConfig = DEEP,
) -> TransformerPrior:
    prior = make(config, specs, num_classes)
    assert isinstance(prior, TransformerPrior)
    return prior


def train(prior: TransformerPrior, codes: Codes, given: Conditioning | None, steps: int) -> None:
    optimizer = torch.optim.Adam(prior.parameters(), lr=3e-3)
    for step in range(steps):
        with noise(0, step, torch.arange(len(codes))):
            prior.train().loss(codes, given)["nats_per_token"].value.backward()
        optimizer.step()
        optimizer.zero_grad()
    prior.eval()


@torch.no_grad()
def test_the_logits_of_a_slot_do_not_change_in_one_bit_when_it_or_later_ones_change():
    prior, codes = transformer(), random_codes(SEVERAL, 4)
    before, other = prior.logits(codes, labels_of(4)), random_codes(SEVERAL, 4).flat()
    for t in range(codes.flat().shape[1]):
        flat = torch.cat([codes.flat()[:, :t], other[:, t:]], dim=1)
        logits = prior.logits(Codes.from_flat(flat, SEVERAL), labels_of(4))
        assert torch.equal(logits[:, : t + 1], before[:, : t + 1])


@torch.no_grad()
def test_the_logits_of_a_slot_depend_on_every_integer_before_it():
    prior, codes = transformer(), random_codes(SEVERAL, 1)
    before = prior.logits(codes, labels_of(1))
    for t in range(codes.flat().shape[1] - 1):
        flat = codes.flat().clone()
        flat[0, t] = (flat[0, t] + 1) % prior.slot_sizes[t]
        logits = prior.logits(Codes.from_flat(flat, SEVERAL), labels_of(1))
        assert (logits[0, t + 1 :] != before[0, t + 1 :]).any(-1).all()


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("num_classes", [None, CLASSES])
@pytest.mark.parametrize("space", [*SPACES.values(), SEVERAL], ids=[*SPACES.keys(), "several"])
@torch.no_grad()
def test_the_cached_logits_are_those_of_the_full_forward_at_every_step(
    dtype: torch.dtype, scale: float, num_classes: int | None, space: tuple[LevelSpec, ...]
):
    prior = transformer(space, num_classes).to(dtype)
    codes, given = random_codes(space, 5), labels_of(5) if num_classes else None
    full, flat = prior.logits(codes, given), codes.flat()
    next_logits = prior.next_logits(5, given or Conditioning(), None)
    atol = scale * full[full.isfinite()].abs().max().item()
    for slot, size in enumerate(prior.slot_sizes.tolist()):
        step = next_logits(slot, flat[:, max(slot - 1, 0)])
        assert_close(step, full[:, slot, :size], rtol=0, atol=atol)
        assert (full[:, slot, size:] == -torch.inf).all()


def test_the_log_probability_is_that_of_the_logits():
    prior, codes, given = transformer(), random_codes(SEVERAL, 5), labels_of(5)
    chosen = prior.logits(codes, given).log_softmax(-1).gather(2, codes.flat().unsqueeze(-1))
    assert_close(prior.log_prob(codes, given), chosen.squeeze(-1).double().sum(1))


def test_one_level_of_one_codebook_has_k_rows_and_one_to_begin_with():
    prior = TransformerConfig(width=8, heads=1, layers=1).build((LevelSpec((4, 4), (512,)),))
    assert prior.embedding.table.weight.shape == (513, 8)


def test_every_codebook_has_its_own_rows():
    assert transformer().embedding.table.num_embeddings == 11 + 7 + 5 + 1
    assert transformer().embedding.offsets.tolist() == [0] * 4 + [11, 18] * 3


def test_a_tied_table_is_one_parameter():
    tied = TransformerConfig(layers=1, width=16, heads=2, tied=True)
    untied = TransformerConfig(layers=1, width=16, heads=2)
    sizes = [
        sum(p.numel() for p in config.build(SEVERAL).parameters()) for config in (tied, untied)
    ]
    assert sizes[1] - sizes[0] == 23 * 16 + 23


def test_every_parameter_gets_a_gradient():
    prior = transformer()
    prior.loss(random_codes(SEVERAL, 20), labels_of(20))["nats_per_token"].value.backward()
    assert all(p.grad is not None and p.grad.count_nonzero() for p in prior.parameters())


def label_determines_codes() -> tuple[Codes, Conditioning, Tensor]:
    """Every class has one fixed sequence; items (30), its sequences (CLASSES, 6)."""
    specs = (LevelSpec((2, 3), (5,)),)
    sequences = torch.randint(0, 5, (CLASSES, 6), generator=torch.Generator().manual_seed(1))
    given = labels_of(30)
    return Codes.from_flat(sequences[given.labels], specs), given, sequences


def test_samples_follow_their_label():
    codes, given, sequences = label_determines_codes()
    torch.manual_seed(0)
    config = TransformerConfig(layers=1, width=32, heads=2, dropout=0.1)
    prior = config.build(codes.specs, ConditioningSpec(num_classes=CLASSES))
    train(prior, codes, given, steps=100)
    asked = torch.tensor([2, 0, 1, 1, 2, 0, 0])
    drawn = prior.sample(7, Conditioning(asked), seed=0, temperature=0.5)
    assert torch.equal(drawn.flat(), sequences[asked])
    wrong = Conditioning((given.labels + 1) % CLASSES)
    assert (prior.log_prob(codes, given) > prior.log_prob(codes, wrong) + 5).all()


def test_the_label_matters_at_every_slot_before_any_training():
    torch.manual_seed(0)
    prior = SMALL.build(SEVERAL, ConditioningSpec(num_classes=CLASSES))
    codes = random_codes(SEVERAL, 1)
    first, second = (prior.logits(codes, Conditioning(torch.tensor([k]))) for k in range(2))
    assert (first != second).any(-1).all()


def test_missing_labels_are_refused():
    prior, codes = transformer(), random_codes(SEVERAL, 2)
    for use in (
        lambda: prior.log_prob(codes),
        lambda: prior.loss(codes, Conditioning()),
        lambda: prior.sample(2, seed=0),
    ):
        with pytest.raises(ValueError, match="labels are missing; give one of 0 to 2"):
            use()


def test_half_batches_with_dropout_have_the_gradient_of_the_whole():
    prior = transformer().double().train()
    codes, given = random_codes(SEVERAL, 6, masked=True), labels_of(6)
    gradients = []
    for parts in ([slice(0, 6)], [slice(0, 2), slice(2, 6)]):
        prior.zero_grad()
        for part in parts:
            labels = Conditioning(given.labels[part])
            with noise(0, 3, torch.arange(6)[part]):
                loss = prior.loss(codes[part], labels)["nats_per_token"]
            (loss.total / prior.counts(codes)["nats_per_token"]).backward()
        gradients.append([p.grad.clone() for p in prior.parameters()])
    assert_close(gradients[1], gradients[0], rtol=0, atol=1e-12)


def test_padding_behind_the_last_real_integer_changes_nothing_before_it_in_one_bit():
    prior, codes = transformer(), random_codes(SEVERAL, 3)
    mask = torch.ones_like(codes.flat(), dtype=torch.bool)
    mask[:, -4:] = False
    padded = Codes.from_flat(codes.flat(), SEVERAL, mask)
    assert torch.equal(
        prior.logits(padded, labels_of(3))[:, :-4], prior.logits(codes, labels_of(3))[:, :-4]
    )


def test_learned_probabilities_beat_the_frequencies_where_neighbours_depend():
    """The second integer equals the first: its frequencies say nothing, its past all."""
    specs = (LevelSpec((2,), (8,)),)
    codes = Codes.from_flat(torch.arange(8).repeat_interleave(2).view(8, 2), specs)
    torch.manual_seed(0)
    prior = SMALL.build(specs)
    train(prior, codes, None, steps=100)
    assert (prior.log_prob(codes) > -2.3).all()  # log 8 = 2.08 for the pair, 4.16 if independent
