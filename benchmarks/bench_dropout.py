"""What does dropout that is a pure function of the step cost, beside PyTorch's own?

Run: python benchmarks/bench_dropout.py
"""

import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measuring import cpu_ms, heading
from torch import Tensor, nn

from vqkit.codes import Codes, LevelSpec
from vqkit.nn.dropout import StatelessDropout, noise
from vqkit.priors import TransformerConfig, TransformerPrior

SPECS = (LevelSpec((8, 8), (512,)),)
BATCH, WIDTH, LAYERS, RATE, REPEATS = 32, 256, 4, 0.1, 9


class TorchDropout(nn.Module):
    """The usual dropout, from a hidden generator."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, RATE)


def prior_with(dropout: nn.Module) -> TransformerPrior:
    prior = TransformerConfig(layers=LAYERS, width=WIDTH, heads=4, dropout=0.0).build(SPECS)
    for module in [*prior.transformer.blocks, prior]:
        module.dropout = dropout
    return prior.train()


def training_step(prior: TransformerPrior, codes: Codes) -> Callable[[], None]:
    """Forward pass, backward pass and Adam."""
    optimizer = torch.optim.AdamW(prior.parameters())

    def step() -> None:
        with noise(0, 0, torch.arange(BATCH)):
            prior.loss(codes)["nats_per_token"].value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def alone(dropout: nn.Module) -> Callable[[], None]:
    """One call and its backward pass."""
    x = torch.randn(BATCH, SPECS[0].num_tokens, WIDTH, requires_grad=True)

    def call() -> None:
        with noise(0, 0, torch.arange(BATCH)):
            dropout(x).backward(x.detach())

    return call


def median_ms(functions: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median process CPU time of each; taken in turns, so that a slow spell hits all alike."""
    times = cpu_ms(functions, REPEATS, warm_up=1)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kinds = {"none": nn.Identity(), "ours": StatelessDropout(RATE), "torch's": TorchDropout()}
    codes = Codes.from_flat(torch.randint(0, 512, (BATCH, SPECS[0].num_tokens)), SPECS)
    print(heading("Dropout that is a function of the step, beside PyTorch's"))
    print(f"batch {BATCH}, 64 positions, {LAYERS} layers x {WIDTH}, rate {RATE}")
    print(f"process CPU time in ms, median of {REPEATS}, interleaved")
    steps = median_ms({name: training_step(prior_with(d), codes) for name, d in kinds.items()})
    calls = median_ms({name: alone(d) for name, d in kinds.items()})
    num_calls = 2 * LAYERS + 1
    for name in kinds:
        share = num_calls * (calls[name] - calls["none"]) / steps["none"]
        print(
            f"{name:>8}: one call {calls[name]:5.2f} ms, training step {steps[name]:5.0f} ms; "
            f"{num_calls} calls are {share:.1%} of a step without"
        )


if __name__ == "__main__":
    main()
