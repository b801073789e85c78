"""Under activation checkpointing a quantizer does what it does without, bit for bit."""

import copy
from collections.abc import Callable

import pytest
import torch
from tests.quantizers.test_compiled import ALL, drifting
from tests.quantizers.test_contract import DIM, SIZE
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from vqkit.quantizers import EMAVectorQuantizer, Quantized, Quantizer, Sampled, passes

Pass = Callable[[nn.Module, Tensor, Tensor | None], Tensor]
WIDTH = 6


class Network(nn.Module):
    """Layers around a quantizer, so that its inputs and what follows are computed again too."""

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(DIM, WIDTH), nn.Tanh(), nn.Linear(WIDTH, DIM))
        self.quantizer = quantizer
        self.decoder = nn.Sequential(nn.Linear(DIM, WIDTH), nn.Tanh(), nn.Linear(WIDTH, DIM))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        out: Quantized = self.quantizer(x + self.encoder(x), mask)
        return out.loss + (self.decoder(out.z_q) - x).square().mean()


def plain(network: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    return network(x, mask)


def checkpointed(network: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    return checkpoint(network, x, mask, use_reentrant=False)  # pyright: ignore


def twice(network: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """Checkpoints in a checkpoint."""
    return checkpoint(checkpointed, network, x, mask, use_reentrant=False)  # pyright: ignore


def fresh(name: str) -> Network:
    torch.manual_seed(0)
    return Network(ALL[name].config.build(DIM))


def run(network: Network, name: str, step_by_step: Pass, *, commit: bool) -> dict[str, Tensor]:
    """Losses, gradients and states of steps of two passes each, that revive entries."""
    quantizer = network.quantizer
    quantizer.commit_in_forward = commit
    found: dict[str, Tensor] = {}
    torch.manual_seed(1)
    batches = [[drifting(name, step, num) for num in (50, 30)] for step in range(8)]
    masks = [torch.rand(x.shape[:-1]) > 0.3 for x, _ in batches]
    for step, (parts, mask) in enumerate(zip(batches, masks, strict=True)):
        network.zero_grad()
        losses = [step_by_step(network, x, m) for x, m in zip(parts, (mask, None), strict=True)]
        if step % 2:  # both passes come before both backward passes, or in turns
            sum(losses).backward()  # pyright: ignore
        else:
            for loss in losses:
                loss.backward()
        if not commit:
            quantizer.commit()
        found |= {f"{step} loss": torch.stack(losses).detach()}
        gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        found |= {f"{step} {n}": gradient.clone() for n, gradient in gradients.items()}
        found |= {f"{step} state {n}": x.clone() for n, x in quantizer.state_dict().items()}
        with torch.no_grad():
            for name_, parameter in network.named_parameters():
                if name_ in gradients:
                    parameter -= 0.02 * gradients[name_].clamp(-1, 1)
    return found


@pytest.mark.parametrize("commit", [False, True], ids=["commit after", "commit in forward"])
@pytest.mark.parametrize("name", ALL)
def test_checkpointing_changes_no_bit(name: str, commit: bool):
    """Start, losses, gradients, statistics, revival and random numbers, with several passes."""
    expected = run(fresh(name), name, plain, commit=commit)
    assert len(passes._read) == 0
    found = run(fresh(name), name, checkpointed, commit=commit)
    assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["sampled ema", "gumbel", "residual dropout", "selective vq"])
def test_checkpoints_in_a_checkpoint_change_no_bit(name: str):
    expected = run(fresh(name), name, plain, commit=True)
    assert_close(run(fresh(name), name, twice, commit=True), expected, rtol=0, atol=0)


def on_cpu(network: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """What is kept is packed, and no pass is repeated."""
    with save_on_cpu():
        return network(x, mask)


def checkpointed_on_cpu(network: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """Packed inside a checkpoint."""
    return checkpoint(on_cpu, network, x, mask, use_reentrant=False)  # pyright: ignore


@pytest.mark.parametrize("step_by_step", [on_cpu, checkpointed_on_cpu])
@pytest.mark.parametrize("name", ["sampled ema", "gumbel", "residual dropout", "selective vq"])
def test_keeping_tensors_elsewhere_changes_no_bit(name: str, step_by_step: Pass):
    expected = run(fresh(name), name, plain, commit=True)
    assert_close(run(fresh(name), name, step_by_step, commit=True), expected, rtol=0, atol=0)


def test_keeping_tensors_elsewhere_is_no_checkpoint():
    """Nothing is kept, no random number is drawn, and passes may be seeded alike."""
    network, x = fresh("sampled ema"), torch.randn(50, DIM)
    losses = []
    with save_on_cpu():
        for _ in range(2):
            torch.manual_seed(3)
            before = torch.get_rng_state()
            losses.append(network(x, None))
            assert torch.equal(torch.get_rng_state(), before)
    assert len(passes._read) == 0
    sum(losses).backward()  # pyright: ignore


def test_a_pass_is_forgotten_with_its_tensors():
    network = fresh("sampled ema")
    x = torch.randn(50, DIM)
    loss = checkpointed(network, x, None)
    assert len(passes._read) == 1
    loss.backward(retain_graph=True)
    loss.backward()  # which repeats the pass once more
    assert len(passes._read) == 0
    checkpointed(network, x, None)
    assert len(passes._read) == 0


def test_no_random_number_is_drawn_without_checkpointing():
    quantizer = fresh("sampled ema").quantizer
    quantizer(torch.randn(50, DIM))
    before = torch.get_rng_state()
    quantizer(torch.ones(50, DIM, requires_grad=True)).loss.backward()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "how",
    [{"use_reentrant": True}, {"use_reentrant": False, "preserve_rng_state": False}],
    ids=["reentrant", "without its random numbers"],
)
def test_a_pass_that_cannot_be_known_again_is_refused(how: dict[str, bool]):
    quantizer = EMAVectorQuantizer(DIM, SIZE, assignment=Sampled())
    quantizer.initialize(torch.randn(100, DIM), seed=0)
    before = copy.deepcopy(quantizer.state_dict())
    quantizer.commit_in_forward = False
    z_e = torch.randn(50, DIM, requires_grad=True)
    loss = checkpoint(lambda z: quantizer(z).loss, z_e, **how)  # pyright: ignore
    with pytest.raises(RuntimeError, match="use_reentrant=False and preserve_rng_state=True"):
        loss.backward()  # pyright: ignore
    assert_close(quantizer.state_dict(), before, rtol=0, atol=0)


def test_passes_that_were_seeded_alike_are_refused():
    network = fresh("sampled ema")

    def seeded(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return network(x, None)

    x = torch.randn(50, DIM)
    first = checkpoint(seeded, x, use_reentrant=False)
    second = checkpoint(seeded, x, use_reentrant=False)
    with pytest.raises(RuntimeError, match="seed no two passes alike"):
        (first + second).backward()  # pyright: ignore
