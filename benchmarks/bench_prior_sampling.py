"""How much faster does the cache draw than full forward passes, and than transformers' generate?

Run: python benchmarks/bench_prior_sampling.py [LENGTH ...]

A full forward pass over what is drawn so far is made at evenly spread positions alone where there
are many, and counted for all: its time grows smoothly with the position.
"""

import statistics
import sys
from collections.abc import Callable

import torch
from measuring import cpu_ms, heading, version
from torch import Tensor

from vqkit.codes import LevelSpec
from vqkit.priors import Conditioning, TransformerConfig, TransformerPrior

VOCABULARY, BATCH, REPEATS = 512, 16, 7
CONFIG = TransformerConfig(layers=8, width=256, heads=8, dropout=0.0)
MOST_FULL = 16  # full forward passes of a round


def cached(prior: TransformerPrior, batch: int) -> Tensor:
    """Integers drawn with the cache, the most probable ones. (B, L)"""
    return prior.sample(batch, seed=0, top_p=0.0).flat()


@torch.no_grad()
def full(prior: TransformerPrior, flat: Tensor) -> Tensor:
    """The most probable integers at evenly spread positions, each by a pass over those before it.

    Args:
        prior: The prior.
        flat: What is drawn so far. (B, L) int64

    Returns:
        (B, number of positions)
    """
    length = flat.shape[1]
    found, given = [], Conditioning()
    for position in range(0, length, max(1, length // MOST_FULL)):
        told = prior.conditioner(given, len(flat), None)
        vectors = torch.cat(
            [
                prior.embedding.nothing.expand(len(flat), 1, -1),
                prior.embedding(flat)[:, :position],
            ],
            dim=1,
        )
        x = vectors + prior.places()[: position + 1] + told.everywhere.unsqueeze(1)
        hidden = prior.transformer(x)[:, -1]
        found.append(prior.embedding.logits(hidden, prior.slots[0]).argmax(-1))
    return torch.stack(found, dim=1)


def generate(length: int) -> Callable[[int], Tensor]:
    """The same number of integers by GPT-2 of transformers, of the same size, greedily."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY + 1,
        n_positions=length + 1,
        n_embd=CONFIG.width,
        n_layer=CONFIG.layers,
        n_head=CONFIG.heads,
        bos_token_id=VOCABULARY,
        eos_token_id=None,
        pad_token_id=VOCABULARY,
    )
    model = GPT2LMHeadModel(config).eval()

    def draw(batch: int) -> Tensor:
        begin = torch.full((batch, 1), VOCABULARY)
        with torch.no_grad():
            return model.generate(
                begin,
                attention_mask=torch.ones_like(begin),
                max_new_tokens=length,
                min_new_tokens=length,
                do_sample=False,
            )

    return draw


def measure(length: int, rounds: int) -> None:
    side = round(length**0.5)
    torch.manual_seed(0)
    prior = CONFIG.build([LevelSpec((side, side), (VOCABULARY,))]).eval()
    for parameter in prior.parameters():  # as far from uniform as a trained one
        parameter.data.mul_(3)
    peer = generate(length)
    flat = cached(prior, BATCH)
    whole = full(prior, flat)
    differ = int((whole != flat[:, :: max(1, length // MOST_FULL)]).sum())
    tasks = {
        "cached": lambda: cached(prior, BATCH),
        "full": lambda: full(prior, flat),
        "generate": lambda: peer(BATCH),
        "cached, one item": lambda: cached(prior, 1),
        "generate, one item": lambda: peer(1),
    }
    times = {name: statistics.median(each) for name, each in cpu_ms(tasks, rounds, 1).items()}
    scale = length / whole.shape[1]
    times["full"] *= scale
    print(f"\n{length} positions, K {VOCABULARY}, {CONFIG.layers} layers x {CONFIG.width}")
    print(f"  integers that differ between cached and full: {differ} of {whole.numel()}")
    ours = times["cached"]
    print(f"  {BATCH} items, cached: {ours:.0f} ms, {BATCH * length / ours * 1e3:.0f} integers/s")
    print(f"  full forward over what is drawn so far: {times['full'] / ours:.1f} x")
    print(f"  transformers' generate with its cache: {times['generate'] / ours:.2f} x")
    one, theirs = times["cached, one item"], times["generate, one item"]
    print(f"  one item, cached: {one:.0f} ms; transformers' generate: {theirs / one:.2f} x")


def main() -> None:
    torch.set_num_threads(1)
    lengths = [int(word) for word in sys.argv[1:]] or [64, 1024]
    print(heading("Sampling with the cache, beside full forwards and transformers' generate"))
    print(f"transformers {version('transformers')}; process CPU time, median, in turns")
    for length in lengths:
        measure(length, REPEATS)


if __name__ == "__main__":
    main()
