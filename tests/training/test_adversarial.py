"""What must hold for training beside discriminators."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.modalities.audio import sounds
from tests.training import tiny
from torch import Tensor
from torch.testing import assert_close

from vqkit import distributed
from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.data.batch import Batch
from vqkit.modalities.audio.discriminators import AdversarialConfig
from vqkit.training import fit
from vqkit.training.adversarial import AdversarialTask
from vqkit.training.loop import Trainer
from vqkit.training.run import task_of

SMALL = AdversarialConfig(periods=(2, 3), windows=(16,), width=4)


def series(num: int = 24, dtype: torch.dtype = torch.float32) -> TensorExamples:
    lengths = [100, 64, 37, 81] * (num // 4)
    return TensorExamples(
        [sounds.signals(1, n, seed=i)[0].to(dtype) for i, n in enumerate(lengths)]
    )


def model(adversarial: AdversarialConfig | None = SMALL) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE.from_config(sounds.config(adversarial=adversarial))


def task(dtype: torch.dtype = torch.float32) -> AdversarialTask:
    torch.manual_seed(0)
    made = task_of(sounds.model(adversarial=SMALL))
    assert isinstance(made, AdversarialTask)
    return made.to(dtype).eval()  # nothing is left to chance, and no codebook moves


def batch(numbers: list[int], dtype: torch.dtype = torch.float32) -> Batch:
    return tiny.batch([series(dtype=dtype).example(i).x for i in numbers])


def gradients(made: AdversarialTask, *names: str, numbers: list[int]) -> dict[str, Tensor]:
    """Of the sum of the totals of some objectives, by the name of a parameter."""
    made.zero_grad()
    out = made(batch(numbers, torch.float64))
    torch.stack([out.objectives[name].total for name in names]).sum().backward()
    found = made.trained.named_parameters()
    return {name: p.grad.clone() for name, p in found if p.grad is not None and p.grad.any()}


def test_each_loss_moves_its_own_network_alone():
    made = task(torch.float64)
    judge = gradients(made, "judge", numbers=[0, 1])
    fooling = gradients(made, "adversarial", numbers=[0, 1])
    assert judge
    assert all(name.startswith("judge.") for name in judge)
    assert fooling
    assert all(name.startswith("model.") for name in fooling)
    assert any(name.startswith("model.encoder") for name in fooling)


def test_what_seems_real_has_a_gradient_as_long_as_asked_beside_the_others():
    made = task(torch.float64)
    one = batch([0], torch.float64)
    out = made.model(one.x)
    y = out.distribution.signal  # pyright: ignore
    y.retain_grad()
    sum(part.value for name, part in out.objectives.items() if name != "quantizer").backward(
        retain_graph=True
    )
    others, y.grad = y.grad.norm(), None
    made.judged(out, one)["adversarial"].value.backward()
    assert y.grad.norm() == pytest.approx(SMALL.weight * float(others), rel=1e-6)


def test_the_value_of_the_loss_is_that_of_the_verdicts_and_features():
    from vqkit.nn.adversarial import feature_loss, fooling_loss

    made, two = task(torch.float64), batch([0, 3], torch.float64)
    assert two.mask is not None
    out = made.model(two.x, two.mask)
    real = two.mask.unsqueeze(1)
    heard = [
        made.judge(x.masked_fill(~real, 0), two.mask)
        for x in (two.x, out.distribution.signal)  # pyright: ignore
    ]
    expected = fooling_loss(heard[1]) + SMALL.features * feature_loss(*heard)
    found = made.judged(out, two)["adversarial"]
    assert found.count == 2
    assert_close(found.total, expected.sum())


def test_a_split_batch_has_the_losses_and_gradients_of_the_whole_one():
    """Of recordings of unequal lengths, whose padding differs."""
    made = task(torch.float64)
    names = ("adversarial", "judge")
    together = gradients(made, *names, numbers=[0, 1, 2, 3])
    parts = [gradients(made, *names, numbers=numbers) for numbers in ([0, 1], [2, 3])]
    for name, whole in together.items():
        # The straight-through step passes gradients in float32.
        assert_close(sum(part[name] for part in parts if name in part), whole, rtol=0, atol=1e-6)
    split = [made(batch(numbers, torch.float64)) for numbers in ([0, 1], [2, 3])]
    whole = made(batch([0, 1, 2, 3], torch.float64))
    for name in names:
        assert_close(
            split[0].objectives[name].total + split[1].objectives[name].total,
            whole.objectives[name].total,
        )


def test_the_discriminators_learn_and_are_not_saved_with_the_model(tmp_path: Path):
    made = model()
    config = tiny.config(steps=60, log_every=20, learning_rate=0.003)
    fit(made, series(), config, folder=tmp_path, eval_examples=series(4))
    terms = [line["terms"] for line in tiny.lines(tmp_path) if "terms" in line]
    losses = [each["judge"] for each in terms if "judge" in each]
    assert losses[-1] < losses[0]
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "judge" in name]
    opened = VQVAE.from_pretrained(tmp_path)
    assert opened.fingerprint() == made.fingerprint()


class Killed(Exception):
    """What ends a run in the middle of a step."""


@pytest.mark.parametrize("adversarial", [None, SMALL], ids=["plain", "adversarial"])
def test_a_run_of_sound_that_was_killed_goes_on_bit_for_bit(
    tmp_path: Path, adversarial: AdversarialConfig | None
):
    config, check = tiny.config(steps=6, checkpoint_every=2), Trainer._check

    def deadly(self: Trainer, at: int, *args: Any) -> int:
        if at == 3:
            raise Killed
        return check(self, at, *args)

    whole = fit(model(adversarial), series(), config, folder=tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_check", deadly)
        with pytest.raises(Killed):
            fit(model(adversarial), series(), config, folder=tmp_path / "parts")
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    again = fit(model(adversarial), series(), config, folder=tmp_path / "parts")
    for name, tensor in whole.state_dict().items():
        assert again.state_dict()[name].equal(tensor), name


def half(folder: Path, adversarial: AdversarialConfig | None) -> None:
    made = model(adversarial).double()
    # Adam would make much of the rounding of gradients that are next to nothing.
    config = tiny.config(steps=6, micro_batches=2, optimizer="sgd", learning_rate=0.02)
    fit(made, series(dtype=torch.float64), config)
    save_file(made.state_dict(), folder / f"{distributed.rank()}.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("adversarial", [None, SMALL], ids=["plain", "adversarial"])
def test_two_processes_with_half_the_batch_of_sound_equal_one(
    tmp_path: Path, adversarial: AdversarialConfig | None
):
    assert tiny.run_pair(half, tmp_path / "store", tmp_path, adversarial) == [0, 0]
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert_close(first, second, rtol=0, atol=0)
    (tmp_path / "alone").mkdir()
    half(tmp_path / "alone", adversarial)
    assert_close(first, load_file(tmp_path / "alone" / "0.safetensors"), rtol=0, atol=1e-6)
