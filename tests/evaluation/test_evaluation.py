"""What must hold for the figures of a whole split."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from tests.tokens.models import images, tokenizer
from torch import distributed as dist
from torch import multiprocessing

from vqkit.autoencoder import VQVAE
from vqkit.codes import Codes
from vqkit.data import TensorExamples, in_order
from vqkit.evaluation import Evaluation, evaluate
from vqkit.priors import (
    Conditioning,
    ConditioningSpec,
    HistogramPrior,
    Prior,
    TransformerConfig,
    UniformPrior,
)

NUM = 23


SMALL = TransformerConfig(layers=1, width=16, heads=2)


def fitted(sizes: tuple[int, ...] = (16,)) -> VQVAE:
    """A tokenizer that claims a likelihood."""
    model = tokenizer(sizes=sizes).double()
    with torch.no_grad():
        (batch,) = in_order(images(NUM), NUM)
        out = model(batch.x)
        model.objective.calibrate([(out.distribution.mean, model.objective.normalize(batch.x))])
    return model


def histogram_prior(model: VQVAE) -> HistogramPrior:
    """A prior that has seen other images."""
    codes = Codes.cat([model.encode(batch.x) for batch in in_order(images(40, seed=1), 8)])
    prior = HistogramPrior(codes.specs)
    prior.count(codes)
    return prior


def figures(evaluation: Evaluation) -> dict[str, float]:
    """The numbers among the metrics, and those of each codebook."""
    found = {
        k: v
        for k, v in evaluation.metrics.items()
        if isinstance(v, int | float) and not isinstance(v, bool)
    }
    for level, part in enumerate(evaluation.metrics["levels"]):
        for q, book in enumerate(part["codebooks"]):
            found |= {f"{name} {level} {q}": value for name, value in book.items()}
    return found


@pytest.mark.parametrize("sizes", [(16,), (16, 300)])
@pytest.mark.parametrize("batch_size", [1, 4, 23, 64])
@torch.no_grad()
def test_figures_equal_a_plain_loop_over_all_items(sizes: tuple[int, ...], batch_size: int):
    model, examples = fitted(sizes), images(NUM)
    prior = histogram_prior(model)
    errors, values, decibels, pixel_nats, prior_nats, others = [], [], [], [], [], []
    unlike: list[bool] = []
    used = [Counter() for _ in sizes]
    for i in range(NUM):
        x = examples.example(i).x.unsqueeze(0)
        out = model(x)
        y = model.objective.normalize(x)
        own = ((x.double() / 127.5 - 1 - out.reconstruction) / 2).square().flatten().tolist()
        errors += own
        values += (x.double() / 255).flatten().tolist()
        decibels.append(-10 * math.log10(sum(own) / len(own)))
        pixel_nats.append(-float(out.distribution.log_prob(y)))
        other = model.encode(examples.example((i + NUM // 2) % NUM).x.unsqueeze(0))
        others.append(-float(model.distribution(other).log_prob(y)))
        unlike += (other.flat() != out.codes.flat()).flatten().tolist()
        prior_nats.append(-float(prior.log_prob(out.codes)))
        for counter, level in zip(used, out.codes.levels, strict=True):
            counter.update(level.indices.flatten().tolist())
    found = figures(evaluate(model, examples, prior=prior, batch_size=batch_size))
    mse, mean = sum(errors) / len(errors), sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    bits, dims = 1 / math.log(2), NUM * 8 * 12
    tokens = [sum(counter.values()) for counter in used]
    uniform = sum(n * math.log2(size) for n, size in zip(tokens, sizes, strict=True))
    expected = {
        "num_items": NUM,
        "tokens_per_item": sum(tokens) / NUM,
        "codes_per_dim": sum(tokens) / dims,
        "mse": mse,
        "variance": variance,
        "mse_over_variance": mse / variance,
        "psnr_db": sum(decibels) / NUM,
        "psnr_of_mse_db": -10 * math.log10(mse),
        "decoder_bits_per_dim": sum(pixel_nats) * bits / dims,
        "code_reliance_bits_per_dim": (sum(others) - sum(pixel_nats)) * bits / dims,
        "unlike_codes": sum(unlike) / len(unlike),
        "code_bits_uniform": uniform / NUM,
        "code_bits_prior": sum(prior_nats) * bits / NUM,
        "nats_per_token_uniform": uniform / bits / sum(tokens),
        "nats_per_token_prior": sum(prior_nats) / sum(tokens),
        "code_bits_per_dim_uniform": uniform / dims,
        "code_bits_per_dim_prior": sum(prior_nats) * bits / dims,
        "bits_per_dim_uniform": (sum(pixel_nats) * bits + uniform) / dims,
        "bits_per_dim_prior": (sum(pixel_nats) + sum(prior_nats)) * bits / dims,
    }
    for level, (counter, size) in enumerate(zip(used, sizes, strict=True)):
        shares = [n / tokens[level] for n in counter.values()]
        entropy = -sum(p * math.log(p) for p in shares)
        expected |= {
            f"size {level} 0": size,
            f"num_vectors {level} 0": tokens[level],
            f"usage {level} 0": len(counter) / size,
            f"dead {level} 0": size - len(counter),
            f"perplexity {level} 0": math.exp(entropy),
            f"entropy_bits {level} 0": entropy * bits,
            f"kl_to_uniform_nats {level} 0": math.log(size) - entropy,
        }
    assert found.pop("ssim") < 1
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_prior_of_labels_is_given_them():
    model, examples = fitted(), images(NUM)
    specs = evaluate(model, examples).specs
    torch.manual_seed(0)
    prior = (
        TransformerConfig(layers=1, width=16, heads=2)
        .build(specs, ConditioningSpec(num_classes=3))
        .double()
        .eval()
    )
    nats = 0.0
    for i in range(NUM):
        codes = model.encode(examples.example(i).x.unsqueeze(0))
        nats -= prior.log_prob(codes, Conditioning(torch.tensor([i % 3]))).item()
    found = evaluate(model, examples, prior=prior, batch_size=4).metrics
    assert found["code_bits_prior"] == pytest.approx(nats / math.log(2) / NUM, rel=1e-9)


def test_a_prior_of_labels_needs_them():
    model = fitted()
    unlabelled = TensorExamples([images().example(i).x for i in range(5)])
    specs = evaluate(model, unlabelled).specs
    prior = TransformerConfig(layers=1, width=16, heads=2).build(
        specs, ConditioningSpec(num_classes=3)
    )
    with pytest.raises(ValueError, match="label"):
        evaluate(model, unlabelled, prior=prior)


def test_the_uniform_prior_given_is_the_uniform_prior():
    model = fitted((16, 300))
    prior = UniformPrior(evaluate(model, images(NUM)).specs)
    found = evaluate(model, images(NUM), prior=prior).metrics
    assert found["code_bits_prior"] == pytest.approx(found["code_bits_uniform"])
    assert found["bits_per_dim_prior"] == pytest.approx(found["bits_per_dim_uniform"])


def test_without_a_claim_no_likelihood_is_shown():
    found = evaluate(tokenizer(), images(NUM)).metrics
    assert found["code_bits_uniform"] == 6 * 4
    assert not [name for name in found if "decoder" in name or name.startswith("bits_per_dim")]


def test_items_of_unequal_sizes_are_measured_each_at_its_own_size():
    model, examples = fitted(), images(12, ragged=True)
    alone = [
        TensorExamples([examples.example(i).x for i in range(12) if i % 3 == k]) for k in range(3)
    ]
    parts = [figures(evaluate(model, part)) for part in alone]
    for batch_size in (1, 5, 12):
        found = figures(evaluate(model, examples, batch_size=batch_size))
        assert found["num_vectors 0 0"] == sum(part["num_vectors 0 0"] for part in parts)
        dims = [4 * 96, 4 * 96, 4 * 64]
        for name in ("mse", "decoder_bits_per_dim"):
            weighted = sum(part[name] * n for part, n in zip(parts, dims, strict=True))
            assert found[name] == pytest.approx(weighted / sum(dims), rel=1e-9)


def test_evaluation_changes_neither_the_model_nor_its_mode():
    model = fitted().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = evaluate(model, images(NUM), batch_size=4).metrics
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert evaluate(model.eval(), images(NUM), batch_size=4).metrics == first


def test_metrics_are_json_and_say_what_they_are_over():
    found = evaluate(fitted((16, 300)), images(NUM), split="test").metrics
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["split"] == "test"
    assert found["num_items"] == NUM
    assert [level["codebooks"][0]["num_vectors"] for level in found["levels"]] == [138, 552]
    assert found["tokenizer"] == fitted((16, 300)).fingerprint()
    assert found["data"] == images(NUM).fingerprint


def test_shown_items_are_spread_over_the_split_with_their_own_codes():
    model, examples = fitted((16, 300)), images(NUM)
    shown = evaluate(model, examples, num_shown=5).shown
    assert shown.indices == (0, 4, 9, 13, 18)
    assert shown.labels == ("a", "<b>", "a", "<b>", "a")
    for place, index in enumerate(shown.indices):
        x = examples.example(index).x
        out = model(x.unsqueeze(0))
        assert torch.equal(shown.originals[place], x)
        expected = ((out.reconstruction[0].float() + 1) * 127.5).round().byte()
        assert torch.equal(shown.reconstructions[place], expected)
    assert [tuple(part.shape) for part in shown.code_maps] == [(5, 3, 2, 3), (5, 3, 4, 6)]


def test_equal_codes_have_equal_colours_and_others_have_others():
    model, examples = fitted(), images(NUM)
    (colors,) = evaluate(model, examples, num_shown=NUM).shown.code_maps
    indices = model.encode(torch.stack([examples.example(i).x for i in range(NUM)])).flat()
    rows = map(tuple, colors.movedim(1, -1).reshape(-1, 3).tolist())
    pairs = set(zip(indices.flatten().tolist(), rows, strict=True))
    assert len(pairs) == len({index for index, _ in pairs}) == len({color for _, color in pairs})


def test_each_entry_is_drawn_as_the_decoder_draws_it_alone_the_most_used_first():
    model, examples = fitted((16, 300)), images(NUM)
    found = evaluate(model, examples, num_entries=40)
    coarse, fine = found.atlases
    assert (len(coarse.entries), len(fine.entries)) == (16, 40)
    assert list(coarse.counts) == sorted(coarse.counts, reverse=True)
    counts = found.stats[0][0].counts
    assert [int(counts[entry]) for entry in coarse.entries] == list(coarse.counts)
    usual = int(found.stats[1][0].counts.argmax())
    for place in (0, 7):
        codes = Codes.from_flat(
            torch.tensor([[coarse.entries[place]] * 6 + [usual] * 24]), found.specs
        )
        whole = ((model.decode(codes).float() + 1) * 127.5).round().byte()
        assert torch.equal(coarse.images[place], whole[0, :, 2:6, 3:9])


def test_an_empty_split_is_refused():
    class Empty(TensorExamples):
        def __len__(self) -> int:
            return 0

    with pytest.raises(ValueError, match="0 items"):
        evaluate(tokenizer(), Empty(torch.zeros(1, 1, 8, 8)))


def measure(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    model, prior = fitted(), Prior.from_pretrained(folder / "prior")
    many = evaluate(model, images(NUM), prior=prior, batch_size=4)
    one = evaluate(model, images(1))  # a rank without any item must not keep the other waiting
    torch.save((figures(many), figures(one)), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path: Path):
    model = fitted()
    prior = histogram_prior(model)
    prior.save_pretrained(tmp_path / "prior")
    multiprocessing.spawn(measure, (tmp_path,), nprocs=2)
    many = figures(evaluate(model, images(NUM), prior=prior, batch_size=4))
    one = figures(evaluate(model, images(1)))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found[0] == pytest.approx(many, rel=1e-12)
        assert found[1] == pytest.approx(one, rel=1e-12)


def test_a_model_that_gives_no_numbers_is_refused_in_words():
    model = fitted()
    next(model.decoder.parameters()).data.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        evaluate(model, images(3))
