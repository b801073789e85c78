"""How much faster does the cache draw than a full forward pass at each position?

Run: python benchmarks/bench_prior_sampling.py
"""

import statistics
from collections.abc import Callable

import torch
from measuring import cpu_ms, heading
from torch import Tensor

from vqkit.codes import Codes, LevelSpec
from vqkit.priors import TransformerConfig, TransformerPrior
from vqkit.priors.sampling import draw

SPECS = (LevelSpec((8, 8), (512,)),)
CONFIG = TransformerConfig(layers=8, width=256, heads=8, dropout=0.0)
BATCH, SEED, REPEATS = 16, 0, 7


def without_cache(prior: TransformerPrior, past_only: bool) -> Codes:
    """The same draws from full forward passes, over the whole sequence or only what is drawn."""
    (slots,), length = prior.slots, SPECS[0].num_tokens
    inputs = torch.zeros(BATCH, length, CONFIG.width)

    def next_logits(slot: int, previous: Tensor) -> Tensor:
        begin = prior.table.weight[-1].expand(BATCH, -1)
        inputs[:, slot] = prior.table(previous) if slot else begin
        inputs[:, slot] += prior.positions.weight[slot]
        hidden = prior.transformer(inputs[:, : slot + 1] if past_only else inputs)
        return prior.head(hidden[:, slot])[:, : slots.size]

    return draw(next_logits, SPECS, torch.arange(BATCH), seed=SEED)


def candidates(prior: TransformerPrior) -> dict[str, Callable[[], Codes]]:
    """What is timed, by name."""
    return {
        "cached": lambda: prior.sample(BATCH, seed=SEED),
        "full forward over what is drawn so far": lambda: without_cache(prior, past_only=True),
        "full forward over all positions": lambda: without_cache(prior, past_only=False),
    }


def median_ms(functions: dict[str, Callable[[], Codes]]) -> dict[str, float]:
    """Median process CPU time of each; taken in turns, so that a slow spell hits all alike."""
    times = cpu_ms(functions, REPEATS, warm_up=1)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    prior = CONFIG.build(SPECS).eval()
    for parameter in prior.parameters():  # as far from uniform as a trained one
        parameter.data.mul_(3)
    functions = candidates(prior)
    print(heading("Sampling with the cache, beside a full forward pass at each position"))
    sizes = f"{SPECS[0].num_tokens} positions, K {SPECS[0].codebook_sizes[0]}"
    print(f"{BATCH} items of {sizes}, {CONFIG.layers} layers x {CONFIG.width}")
    print(f"process CPU time in ms for all items, median of {REPEATS}, interleaved")
    drawn = {name: function().flat() for name, function in functions.items()}
    times = median_ms(functions)
    for name, ms in times.items():
        differ = int((drawn[name] != drawn["cached"]).sum())
        ratio = ms / times["cached"]
        print(f"{name:>40}: {ms:7.0f} ms, {ratio:5.1f} x  (integers that differ: {differ})")
    tokens = BATCH * SPECS[0].num_tokens / times["cached"] * 1e3
    print(f"cached: {tokens:.0f} integers per second")


if __name__ == "__main__":
    main()
