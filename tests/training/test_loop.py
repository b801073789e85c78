"""What one optimizer step must be, however it is split."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training import tiny
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.data.batch import Batch
from vqkit.means import Mean
from vqkit.nn.dropout import StatelessDropout
from vqkit.quantizers import EMAVectorQuantizer, Residual
from vqkit.training import NotFiniteError, StepOutput, Task, fit
from vqkit.training.autoencoder import AutoencoderTask


def trained(kind: str, **keys: Any) -> dict[str, Tensor]:
    model = tiny.model(kind, size=32).double()
    fit(model, tiny.series(dtype=torch.float64), tiny.config(learning_rate=0.05, **keys))
    return tiny.state(model)


@pytest.mark.parametrize("kind", ["vq", "ema"])
def test_micro_batches_of_unequal_masks_equal_the_whole_batch(kind: str):
    whole, split = trained(kind), trained(kind, micro_batches=4)
    assert_close(split, whole, rtol=0, atol=1e-9)


def test_the_gradient_is_that_of_the_mean_over_all_real_values():
    """By autograd of the plain mean over the joined batch, without the engine."""
    model, twin = tiny.model("vq").double(), tiny.model("vq").double()
    examples = tiny.series(8, dtype=torch.float64)
    keys = {"optimizer": "sgd", "warmup_steps": 0, "schedule": "constant", "clip_norm": None}
    # The reservoir starts both alike; one step with rate 1 then subtracts the gradient.
    config = tiny.config(steps=1, learning_rate=1.0, micro_batches=4, **keys)
    fit(model, examples, config)
    fit(twin, examples, tiny.config(steps=1, learning_rate=1e-30, **keys))
    before = {name: p.detach().clone() for name, p in twin.named_parameters()}
    twin.train()
    twin.quantizers[0].commit_in_forward = False
    errors, distances = [], []
    for index in range(8):
        x = examples.example(index).x.unsqueeze(0)
        z_e = twin.encoder(x).movedim(1, -1)
        out = twin.quantizers[0](z_e)
        errors.append((twin.decoder(out.z_q.movedim(-1, 1)) - x).square().flatten())
        distances.append((out.objective.total, out.objective.count))
    total = torch.cat(errors).mean() / twin.objective.variance
    total = total + sum(t for t, _ in distances) / sum(n for _, n in distances)
    total.backward()
    for name, parameter in twin.named_parameters():
        after = dict(model.named_parameters())[name]
        assert_close(after.detach(), before[name] - parameter.grad, rtol=0, atol=1e-9)


@pytest.mark.parametrize("parts", [1, 4])
def test_an_averaged_codebook_is_committed_once_per_optimizer_step(parts: int):
    model = tiny.model("ema")
    fit(model, tiny.series(), tiny.config(steps=5, micro_batches=parts))
    assert int(model.quantizers[0].codebook.step) == 5
    assert model.quantizers[0].commit_in_forward  # given back


def test_dropout_of_a_split_step_is_that_of_the_whole_step():
    def dropped(parts: int) -> dict[str, Tensor]:
        model = tiny.model("vq").double()
        model.decoder.insert(2, StatelessDropout(0.5))
        fit(model, tiny.equal_series(), tiny.config(micro_batches=parts))
        return tiny.state(model)

    assert_close(dropped(4), dropped(1), rtol=0, atol=1e-9)


class Line(Task):
    """Fits one weight to the mean of the data; counts and gradients can be made wrong."""

    def __init__(self, spoil: Callable[[Tensor], Tensor] = lambda loss: loss, miscount: int = 0):
        super().__init__(nn.Linear(1, 1, bias=False))
        self.spoil = spoil
        self.miscount = miscount

    def forward(self, batch: Batch, measure: bool = False) -> StepOutput:
        loss = self.spoil((self.model.weight - batch.x).square().sum())
        other = (0 * self.model.weight).sum()
        count = torch.tensor(len(batch))
        return StepOutput({"distance": Mean(loss, count), "other": Mean(other, count)})

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        count = torch.tensor(len(batch) + self.miscount)
        return {"distance": count, "other": count}

    def save(self, folder: Path) -> None:
        folder.joinpath("model.safetensors").write_bytes(b"saved")


POINTS = TensorExamples(torch.linspace(-1, 1, 64).reshape(64, 1))


def test_a_task_of_ones_own_is_trained():
    task = Line()
    fit(task, POINTS, tiny.config(steps=200, learning_rate=0.1))
    assert abs(float(task.model.weight.detach())) < 0.05


def test_counts_that_the_forward_pass_contradicts_are_refused():
    with pytest.raises(ValueError, match="counts says 9 for distance, and its forward counted 8"):
        fit(Line(miscount=1), POINTS, tiny.config())


def test_objectives_without_counts_are_refused():
    task = Line()
    task.counts = lambda batch: {"distance": torch.tensor(len(batch))}
    with pytest.raises(ValueError, match="other"):
        fit(task, POINTS, tiny.config())


class At:
    """Spoils the loss at one step."""

    def __init__(self, step: int, change: Callable[[Tensor], Tensor]) -> None:
        self.calls = 0
        self.step = step
        self.change = change

    def __call__(self, loss: Tensor) -> Tensor:
        self.calls += torch.is_grad_enabled()  # in a step; others only look
        return self.change(loss) if self.calls == self.step else loss


SPOILED = {
    "NaN": (lambda loss: loss * torch.nan, "distance"),
    "infinite": (lambda loss: loss / 0, "distance"),
    "a finite loss whose gradient is not": (
        lambda loss: loss + (loss - loss.detach()).abs().sqrt().clamp(max=0),
        "gradient",
    ),
}


@pytest.mark.parametrize(("change", "term"), SPOILED.values(), ids=SPOILED.keys())
def test_what_is_not_finite_stops_the_run_with_step_term_and_checkpoint(
    tmp_path: Path, change: Callable[[Tensor], Tensor], term: str
):
    task = Line(At(8, change))
    with pytest.raises(NotFiniteError) as stopped:
        fit(task, POINTS, tiny.config(checkpoint_every=3), folder=tmp_path)
    assert (stopped.value.step, stopped.value.terms) == (8, (term,))
    assert "step-00000006" in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert task.model.weight.isfinite().all()  # the step was not taken
    saved = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert saved == ["step-00000003", "step-00000006"]
    assert not (tmp_path / "model.safetensors").exists()


def test_a_model_spoiled_by_a_step_is_neither_saved_nor_called_good(tmp_path: Path):
    """What a step does to the weights is seen before they are saved, not a step later."""
    keys = {"steps": 4, "checkpoint_every": 1, "warmup_steps": 0, "clip_norm": None}
    config = tiny.config(**keys, learning_rate=1e30, optimizer="sgd")
    with pytest.raises(NotFiniteError, match="nothing was saved yet") as stopped:
        fit(tiny.model(), tiny.series(), config, folder=tmp_path)
    assert stopped.value.step == 1
    assert not (tmp_path / "checkpoints").exists()


def test_a_held_out_loss_that_is_not_finite_stops_the_run(tmp_path: Path):
    held_out = TensorExamples(torch.tensor([[0.5], [torch.inf]]))
    config = tiny.config(steps=4, checkpoint_every=2)
    with pytest.raises(NotFiniteError, match=r"step 2: held-out loss is not .* nothing was saved"):
        fit(Line(), POINTS, config, folder=tmp_path, eval_examples=held_out)


def test_a_model_without_anything_to_train_is_refused():
    model = tiny.model("ema").requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameters"):
        fit(model, tiny.series(), tiny.config())


def test_the_global_random_state_is_left_alone():
    task = Line()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fit(task, POINTS, tiny.config())
    assert torch.equal(torch.rand(4), expected)


def test_logs_of_micro_batches_are_those_of_the_whole_batch(tmp_path: Path):
    def logged(parts: int) -> dict[str, Any]:
        folder = tmp_path / str(parts)
        model = tiny.model("ema").double()
        examples = tiny.series(dtype=torch.float64)
        fit(model, examples, tiny.config(log_every=5, micro_batches=parts), folder=folder)
        return {str(i): v for i, line in enumerate(tiny.lines(folder)) for v in [line]}

    assert_close(logged(2), logged(1), rtol=1e-9, atol=1e-9)


def test_usage_counts_every_real_vector_of_the_interval(tmp_path: Path):
    examples = tiny.series(24)
    fit(tiny.model(), examples, tiny.config(steps=3, log_every=3), folder=tmp_path)
    real = sum(examples.example(index).x.shape[1] for index in range(24))
    assert tiny.lines(tmp_path)[-1]["num_vectors"] == [real]


def test_usage_counts_no_stage_that_an_item_was_coded_without():
    model = tiny.model()
    stages = Residual([EMAVectorQuantizer(4, 8) for _ in range(3)], dropout=0.9)
    task = AutoencoderTask(VQVAE(model.encoder, stages, model.decoder, model.objective))
    batch = Batch(2 * torch.rand(64, 2, 6) - 1, None, None, torch.arange(64))
    found = [int(counts.sum()) for counts in task(batch).usage.values()]
    positions = task.model.encode(batch.x).levels[0].indices[..., 0].numel()
    assert found[0] == positions
    assert positions > found[1] > found[2] > 0
    assert [int(counts.sum()) for counts in task.eval()(batch).usage.values()] == 3 * [positions]


def test_what_is_measured_is_the_error_of_the_reconstruction():
    task = AutoencoderTask(tiny.model())
    x = 2 * torch.rand(4, 2, 6) - 1
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[0, 3:] = False
    task.eval()
    out = task(Batch(x, mask, None, torch.arange(4)), measure=True)
    model = task.model
    reconstruction = model.decode(model.encode(x, mask))
    expected = (reconstruction - x).movedim(1, -1)[mask].square().mean()
    assert_close(out.measures["mse"].value, expected)
    norms = model.encoder(x).movedim(1, -1)[mask].norm(dim=-1)
    assert_close(out.measures["z_e_norm/codebook"].value, norms.mean())


def test_metrics_are_json_of_finite_numbers(tmp_path: Path):
    fit(tiny.model(), tiny.series(), tiny.config(), folder=tmp_path)
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 20
    assert {"loss", "terms", "psnr", "perplexity", "usage", "grad_norm", "elapsed_s"} <= set(line)
    assert {"reconstruction", "quantizer", "commitment"} == set(line["terms"])
    assert line["items_per_s"] > 0
