"""What does a prior's training step cost beside a bare loop of the same network?

Run: python benchmarks/bench_prior_step.py

The bare loop has the same weights, torch's own dropout, one cross-entropy, and nothing of checks,
masks, conditioning or counts; ours is what ``fit`` does with a batch of a token set.
"""

import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measuring import heading
from torch import Tensor, nn

from vqkit.codes import LevelSpec
from vqkit.data.batch import Batch
from vqkit.nn.dropout import StatelessDropout
from vqkit.priors import PixelCNNConfig, PixelCNNPrior, Prior, TransformerConfig, TransformerPrior
from vqkit.training import TrainConfig
from vqkit.training.loop import Trainer
from vqkit.training.prior import PriorTask
from vqkit.training.runtime import open_runtime

SPECS = (LevelSpec((8, 8), (512,)),)
BATCH, STEPS, ROUNDS = 32, 3, 9
CONFIGS = {
    "transformer": TransformerConfig(layers=6, width=256, heads=8, dropout=0.1),
    "pixelcnn": PixelCNNConfig(layers=8, width=96, dropout=0.1),
}


def with_own_dropout(prior: Prior) -> Prior:
    """A copy whose dropout is torch's."""
    plain = copy.deepcopy(prior).train()
    for module in plain.modules():
        for name, child in module.named_children():
            if isinstance(child, StatelessDropout):
                setattr(module, name, nn.Dropout(child.p))
    return plain


def logits(prior: Prior, flat: Tensor) -> Tensor:
    """The network alone. (B, L, K)"""
    if isinstance(prior, PixelCNNPrior):
        grid = prior.embedding.table(flat).mT.unflatten(2, prior.plane)
        hidden = prior.network(grid).flatten(2).mT
    else:
        assert isinstance(prior, TransformerPrior)
        begin = prior.embedding.table.weight[-1].expand(len(flat), 1, -1)
        x = torch.cat([begin, prior.embedding.table(flat[:, :-1])], dim=1) + prior.places()
        hidden = prior.transformer(prior.dropout(x))
    assert prior.embedding.head is not None
    return prior.embedding.head(hidden)


def bare_loop(prior: Prior, flat: Tensor) -> Callable[[int], None]:
    plain = with_own_dropout(prior)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-4, weight_decay=0.0, fused=True)

    def step(number: int) -> None:
        loss = F.cross_entropy(logits(plain, flat).flatten(0, 1), flat.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(name: str) -> None:
    torch.manual_seed(0)
    flat = torch.randint(512, (BATCH, SPECS[0].num_tokens))
    prior = CONFIGS[name].build(SPECS)
    config = TrainConfig(steps=10_000, batch_size=BATCH, device="cpu", progress="none")
    task = PriorTask(copy.deepcopy(prior).train())
    batch = Batch(flat, None, None, torch.arange(BATCH))
    times: dict[str, list[float]] = {"bare loop": [], "engine": []}
    with open_runtime(config, None) as runtime, task.attached(config):
        trainer = Trainer(task, config, runtime)
        steps = {
            "bare loop": bare_loop(prior, flat),
            "engine": lambda number: trainer.step(number, [batch]),
        }
        for number in range(ROUNDS + 1):
            spent = dict.fromkeys(steps, 0.0)
            for k in range(STEPS):
                for which, step in steps.items():
                    start = time.process_time()
                    step(STEPS * number + k)
                    spent[which] += time.process_time() - start
            for which, seconds in spent.items():
                times[which].append(seconds / STEPS * 1e3)
    ratios = [ours / bare for bare, ours in zip(*times.values(), strict=True)][1:]
    bare, ours = (statistics.median(values[1:]) for values in times.values())
    sizes = sum(parameter.numel() for parameter in prior.parameters())
    print(
        f"{name:12} {sizes:>9,} parameters: bare {bare:7.1f} ms, engine {ours:7.1f} ms, "
        f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


def main() -> None:
    torch.set_num_threads(1)
    print(heading("What a prior's training step costs beside a bare loop of the same network"))
    print(
        f"8 x 8 codes of 512, batch {BATCH}; process CPU time, {ROUNDS} rounds of {STEPS}, in turns"
    )
    for name in CONFIGS:
        measure(name)


if __name__ == "__main__":
    main()
