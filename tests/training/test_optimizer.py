"""Learning rate, decay, clipping and averages, against their formulas."""

import math
from pathlib import Path

import pytest
import torch
from tests.training import tiny
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit.quantizers import VectorQuantizer
from vqkit.training import TrainConfig, fit
from vqkit.training.autoencoder import AutoencoderTask
from vqkit.training.loop import Trainer
from vqkit.training.optimizer import (
    WeightAverage,
    clip_,
    learning_rate,
    load_optimizer,
    make_optimizer,
    optimizer_tensors,
    parameter_groups,
)


def test_the_rate_rises_then_falls_along_a_cosine_to_nothing():
    config = TrainConfig(steps=110, warmup_steps=10, learning_rate=2.0)
    rates = [learning_rate(config, step) for step in range(110)]
    assert rates[:11] == pytest.approx([2 * (step + 1) / 11 for step in range(11)])
    assert rates[60] == pytest.approx(1.0)
    assert rates[35] == pytest.approx(1 + math.cos(math.pi / 4))
    assert 0 < rates[-1] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_constant_rate_stays_after_warm_up():
    config = TrainConfig(steps=110, warmup_steps=10, learning_rate=2.0, schedule="constant")
    assert {learning_rate(config, step) for step in range(10, 110)} == {2.0}


def test_a_run_shorter_than_its_warm_up_still_reaches_the_rate():
    assert learning_rate(TrainConfig(steps=3, warmup_steps=100, learning_rate=2.0), 2) == 2.0


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.GroupNorm(2, 4)
        self.batch_norm = nn.BatchNorm2d(4)
        self.table = nn.Embedding(5, 4)
        self.quantizer = VectorQuantizer(4, 8)
        self.linear = nn.Linear(4, 2)
        self.frozen = nn.Linear(4, 2).requires_grad_(False)


def test_weight_decay_moves_weight_matrices_alone():
    model = Parts()
    groups = parameter_groups(model, 0.5)
    decaying = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decaying}
    assert names == {"convolution.weight", "linear.weight"}
    trained = {id(p) for group in groups for p in group["params"]}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}


def test_a_gradient_that_is_too_long_keeps_its_direction():
    first, second = (nn.Parameter(torch.zeros(3)) for _ in range(2))
    first.grad, second.grad = torch.tensor([3.0, 0, 0]), torch.tensor([0, 4.0, 0])
    assert clip_([first, second], None) == 5
    assert clip_([first, second], 6.0) == 5
    assert first.grad[0] == 3
    assert clip_([first, second], 1.0) == 5
    assert_close(first.grad, torch.tensor([0.6, 0, 0]))
    assert_close(second.grad, torch.tensor([0, 0.8, 0]))


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_saved_optimizer_continues_bit_for_bit(name: str):
    config = TrainConfig(optimizer=name, learning_rate=0.1)

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, first: int) -> None:
        for step in range(first, first + 5):
            torch.manual_seed(step)
            model(torch.randn(4, 4)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    torch.manual_seed(0)
    model, twin = nn.Linear(4, 2), nn.Linear(4, 2)
    optimizer = make_optimizer(parameter_groups(model, 0.1), config)
    steps(model, optimizer, 0)
    twin.load_state_dict(model.state_dict())
    resumed = make_optimizer(parameter_groups(twin, 0.1), config)
    saved = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer, model).items()}
    load_optimizer(resumed, twin, saved)
    steps(model, optimizer, 5)
    steps(twin, resumed, 5)
    assert torch.equal(model.weight, twin.weight)


def test_optimizer_state_of_an_unknown_parameter_is_refused():
    model = nn.Linear(4, 2)
    optimizer = make_optimizer(parameter_groups(model, 0.0), TrainConfig())
    with pytest.raises(ValueError, match="optimizer state of other"):
        load_optimizer(optimizer, model, {"other/exp_avg": torch.zeros(1)})


def test_the_average_of_weights_equals_its_formula():
    torch.manual_seed(0)
    model = nn.Linear(2, 1).double()
    average = WeightAverage(model, 0.9)
    expected = model.weight.detach().clone()
    for step in range(200):
        with torch.no_grad():
            model.weight.copy_(torch.randn(1, 2))
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
        average.update(model, step)
    assert_close(average.tensors["weight"], expected)


def averages_of(folder: Path, **keys: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Means over the run of all weights, by hand, and the weights of the model that fit returns."""
    history: list[dict[str, Tensor]] = []
    step = Trainer.step

    def spied(self: Trainer, *args):
        if not history:
            history.append(tiny.state(self.task.model))
        number = step(self, *args)
        history.append(tiny.state(self.task.model))
        return number

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", spied)
        model = tiny.model("ema", size=8)
        held_out = tiny.series(16, seed=1)
        fit(model, tiny.series(), tiny.config(**keys), folder=folder, eval_examples=held_out)
    mean = history[0]
    for number, after in enumerate(history[1:]):
        decay = min(keys["ema_decay"], (1 + number) / (10 + number))
        mean = {k: decay * mean[k] + (1 - decay) * after[k] for k in mean}
    return mean, tiny.state(model)


def test_averaged_weights_are_evaluated_and_saved_with_their_averaged_codebook(tmp_path: Path):
    expected, found = averages_of(tmp_path, ema_decay=0.9)
    moving = ["encoder.0.weight", "decoder.0.weight", "quantizers.0.codebook.entries"]
    for name in moving:
        assert_close(found[name], expected[name])
    line = tiny.lines(tmp_path)[-1]["eval"]
    assert line["weights"] == "average"
    saved = tiny.model("ema", size=8).from_pretrained(tmp_path, tiny.model("ema", size=8))
    assert_close(tiny.state(saved), found, rtol=0, atol=0)
    examples = tiny.series(16, seed=1)
    task = AutoencoderTask(saved)
    total = count = 0.0
    for index in range(16):
        example = examples.example(index)
        out = task(tiny.batch([example.x]), True)
        total += float(out.measures["mse"].total)
        count += float(out.measures["mse"].count)
    assert line["mse"] == pytest.approx(total / count, rel=1e-4)
