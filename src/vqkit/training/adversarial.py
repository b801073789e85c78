"""Training of an autoencoder beside discriminators that tell its items from real ones."""

from typing import Any

import torch
from torch import Tensor, nn

from vqkit.autoencoder import VQVAE, Output
from vqkit.data.batch import Batch
from vqkit.means import Mean
from vqkit.nn.adversarial import balanced, feature_loss, fooling_loss, judging_loss
from vqkit.nn.evaluating import dtype_of
from vqkit.training.autoencoder import AutoencoderTask
from vqkit.training.task import StepOutput


class AdversarialTask(AutoencoderTask):
    """Both learn in the same step: the discriminators from real and decoded items, and the model
    from what they made of the decoded ones.

    There is one pass through the discriminators, whose graph serves both. What the model gets of it
    is a gradient by the decoded items, of a length that is a share of that of all other parts.

    Args:
        model: The autoencoder; what its distributions hold as ``signal`` is judged.
        judge: From items and their mask to what each discriminator ``Heard``; its ``config`` has
            the weights.
    """

    def __init__(self, model: VQVAE, judge: nn.Module) -> None:
        super().__init__(model)
        self.judge = judge.to(dtype_of(model.decoder))
        self.both = nn.ModuleDict({"model": model, "judge": judge})

    @property
    def trained(self) -> nn.Module:
        """The autoencoder and the discriminators."""
        return self.both

    def forward(self, batch: Batch, measure: bool = False) -> StepOutput:
        out = self.model(batch.x, batch.mask)
        found = self.seen(out, batch.x, batch.mask, measure)
        if not torch.is_grad_enabled():
            return found  # held-out items are not judged
        found.objectives.update(self.judged(out, batch))
        return found

    def judged(self, out: Output, batch: Batch) -> dict[str, Mean]:
        """What the model loses by the discriminators, and what these lose."""
        x = self.model.objective.normalize(batch.x)
        said: Any = out.distribution
        mask = torch.ones_like(x[:, 0], dtype=torch.bool) if batch.mask is None else batch.mask
        real = mask.unsqueeze(1)
        x, y = x.masked_fill(~real, 0), said.signal.masked_fill(~real, 0).to(x.dtype)
        decoded = y.detach().requires_grad_()
        on_real, on_decoded = self.judge(x, mask), self.judge(decoded, mask)
        config: Any = self.judge.config
        losses = fooling_loss(on_decoded) + config.features * feature_loss(on_real, on_decoded)
        (gradient,) = torch.autograd.grad(losses.sum(), decoded, retain_graph=True)
        wanted = config.weight * self.others(y, x, mask)
        fooling = balanced(losses, y, gradient.masked_fill(~real, 0), wanted)
        num = mask.flatten(1).any(1).sum()
        judging = judging_loss(on_real, on_decoded)
        return {"adversarial": Mean(fooling.sum(), num), "judge": Mean(judging.sum(), num)}

    def others(self, y: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """The length of the gradient of the objective's own parts by each decoded item. (B,)

        Each part a mean over the item alone, so that it does not depend on the rest of the batch.
        """
        y = y.detach().requires_grad_()
        parts = self.model.objective.loss(y, x, mask)
        own = [self.model.counts(x[i : i + 1], mask[i : i + 1]) for i in range(len(x))]
        total = torch.zeros_like(y)
        for name, mean in parts.items():
            (gradient,) = torch.autograd.grad(mean.total, y, retain_graph=True)
            counts = torch.stack([count[name] for count in own]).clamp(min=1)
            total += gradient / counts.view(-1, *[1] * (y.dim() - 1))
        return total.flatten(1).norm(dim=1)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        num = torch.tensor(len(batch), device=batch.x.device)
        if batch.mask is not None:
            num = batch.mask.flatten(1).any(1).sum()
        return {**super().counts(batch), "adversarial": num, "judge": num}
