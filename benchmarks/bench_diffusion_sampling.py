"""How much faster does diffusion draw in few steps than the cache draws integer by integer?

Run: python benchmarks/bench_diffusion_sampling.py [positions of a side] [steps]
"""

import statistics
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from measuring import cpu_ms, heading

from vqkit.codes import Codes, LevelSpec
from vqkit.priors import AbsorbingDiffusionConfig, Prior, TransformerConfig

SIDE, STEPS = (int(word) for word in [*sys.argv[1:], "32", "8"][:2])
SPECS = (LevelSpec((SIDE, SIDE), (512,)),)
DIFFUSION = AbsorbingDiffusionConfig(layers=8, width=256, heads=8, dropout=0.0, steps=STEPS)
TRANSFORMER = TransformerConfig(layers=8, width=256, heads=8, dropout=0.0)
BATCH, SEED, REPEATS = 1, 0, 7


def spread_out(prior: Prior) -> Prior:
    """With larger weights, as far from uniform as a trained one."""
    for parameter in prior.parameters():
        parameter.data.mul_(3)
    return prior.eval()


def candidates() -> dict[str, Callable[[], Codes]]:
    """What is timed, by name."""
    priors = {
        "one after another, cached": spread_out(TRANSFORMER.build(SPECS)),
        "random order": spread_out(DIFFUSION.build(SPECS)),
        "by confidence": spread_out(replace(DIFFUSION, order="confidence").build(SPECS)),
    }
    return {name: lambda p=prior: p.sample(BATCH, seed=SEED) for name, prior in priors.items()}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    functions = candidates()
    print(heading("Sampling by diffusion in few steps, beside a Transformer with a cache"))
    sizes = f"{SPECS[0].num_tokens} positions, K {SPECS[0].codebook_sizes[0]}"
    print(f"{BATCH} item of {sizes}, {DIFFUSION.layers} layers x {DIFFUSION.width}, {STEPS} steps")
    print(f"process CPU time in ms, median of {REPEATS}, interleaved")
    times = cpu_ms(functions, REPEATS, warm_up=1)
    slowest = statistics.median(times["one after another, cached"])
    for name, values in times.items():
        ms = statistics.median(values)
        print(f"{name:>28}: {ms:7.0f} ms, {slowest / ms:5.1f} x as fast")


if __name__ == "__main__":
    main()
