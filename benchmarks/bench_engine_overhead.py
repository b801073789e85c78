"""What does the training engine add to a bare loop over the same model and batch?

Run: python benchmarks/bench_engine_overhead.py
"""

import copy
import statistics
import time
from collections.abc import Callable

import torch
from measuring import heading

from vqkit.autoencoder import VQVAE
from vqkit.data.batch import Batch
from vqkit.modalities.image import ImageModelConfig
from vqkit.training import TrainConfig
from vqkit.training.autoencoder import AutoencoderTask
from vqkit.training.loop import Trainer
from vqkit.training.runtime import open_runtime

BATCH = 32
STEPS, ROUNDS = 10, 15


def bare_loop(model: VQVAE, x: torch.Tensor) -> Callable[[int], None]:
    """A step as one writes it for one process and one model, without checks or logs."""
    for quantizer in model.quantizers:
        quantizer.commit_in_forward = False
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0, fused=True)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def step(number: int) -> None:
        model(x.contiguous(memory_format=torch.channels_last)).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        model.commit()

    return step


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randint(256, (BATCH, 3, 32, 32), dtype=torch.uint8)
    model = VQVAE.from_config(ImageModelConfig())
    model.initialize([x] * 2, seed=0)
    config = TrainConfig(steps=10_000, batch_size=BATCH, device="cpu", progress="none")
    task = AutoencoderTask(copy.deepcopy(model).train())
    batch = Batch(x, None, None, torch.arange(BATCH))
    times: dict[str, list[float]] = {"bare loop": [], "engine": []}
    with open_runtime(config, None) as runtime, task.attached(config):
        trainer = Trainer(task, config, runtime)
        steps = {
            "bare loop": bare_loop(model.train(), x),
            "engine": lambda number: trainer.step(number, [batch]),
        }
        for number in range(ROUNDS + 1):
            spent = dict.fromkeys(steps, 0.0)
            for k in range(STEPS):
                for name, step in steps.items():  # in turns, so that a slow spell hits both
                    start = time.process_time()
                    step(STEPS * number + k)
                    spent[name] += time.process_time() - start
            for name, seconds in spent.items():
                times[name].append(seconds / STEPS * 1e3)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    ratios = [ours / bare for bare, ours in zip(*times.values(), strict=True)]
    print(heading("What the training engine adds to a bare loop over the same model and batch"))
    print(f"CIFAR shapes, batch {BATCH}, 128 hidden, K 512; process CPU time,")
    print(f"median of {ROUNDS} rounds of {STEPS}")
    for name, value in medians.items():
        print(f"{name:10} {value:8.1f} ms a step")
    print(f"overhead   {100 * (statistics.median(ratios[1:]) - 1):8.2f} %, median over rounds")


if __name__ == "__main__":
    main()
