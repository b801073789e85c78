"""Draws the pictures of the docs, from the library itself.

Run: vqkit demo -o demo, then python docs/make_pictures.py demo
"""

import argparse
import runpy
import sys
from pathlib import Path

import matplotlib as mpl
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm
from torch import Tensor

from vqkit import random
from vqkit.autoencoder import VQVAE
from vqkit.codes import Codes
from vqkit.data import TensorExamples
from vqkit.modalities.image import ImageModelConfig
from vqkit.modalities.image.data import ImageDataConfig, ImageExamples, open_images
from vqkit.modalities.image.network import ConvConfig
from vqkit.modalities.image.pictures import contact_sheet, enlarge, save_png, to_uint8
from vqkit.priors import Conditioning, HistogramPrior, Prior, UniformPrior
from vqkit.quantizers import EMAConfig, EMAVectorQuantizer, SelectiveConfig, VQConfig
from vqkit.tokens import TokenSet
from vqkit.training import TrainConfig, fit

PICTURES = Path(__file__).parent / "pictures"
EXAMPLES = Path(__file__).parents[1] / "examples"
INK, ACCENT, PALE = "#22303c", "#d1495b", "#9fb3c2"
STYLE = {
    "figure.dpi": 160,
    "figure.facecolor": "white",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def save(name: str) -> None:
    """Writes the current figure."""
    plt.savefig(PICTURES / f"{name}.png", bbox_inches="tight", pad_inches=0.08)
    plt.close()


def spiral(count: int, *words: int) -> Tensor:
    """Points of a noisy spiral. (N, 2)"""
    index = torch.arange(count)
    turn, radius, angle = (random.uniform(*words, index, part).float() for part in range(3))
    t = turn.sqrt() * 9
    noise = (radius.log() * -0.04).sqrt().unsqueeze(1)
    around = torch.stack([(angle * 6.283).cos(), (angle * 6.283).sin()], dim=1)
    return torch.stack([t.cos(), t.sin()], dim=1) * (t / 9).unsqueeze(1) + noise * around * 0.6


def quantization() -> None:
    """Cells of nearest entries: at the start, and after averages moved the entries."""
    torch.manual_seed(0)
    layer = EMAVectorQuantizer(2, 24, decay=0.9)
    points = spiral(800, 0)
    side = torch.linspace(-1.25, 1.25, 500)
    plane = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=-1)
    colours = torch.tensor(mpl.colormaps["tab20c"](torch.rand(24).numpy()))[:, :3]
    layer.train()
    layer(points[:60])  # the first batch starts the entries
    _, axes = plt.subplots(1, 3, figsize=(9, 3.1))
    for axis, (steps, title) in zip(
        axes,
        [(0, "start: k-means++ on a first batch"), (5, "5 steps"), (100, "100 steps")],
        strict=True,
    ):
        for step in range(steps):
            layer(spiral(800, 1, step))
        cells = layer.codebook.nearest(plane)
        error = (layer.eval()(points).z_q - points).square().mean()
        layer.train()
        axis.imshow(0.55 + 0.45 * colours[cells], extent=(-1.25, 1.25, -1.25, 1.25), origin="lower")
        axis.scatter(*points.T, s=2, color=INK, alpha=0.5, linewidths=0)
        axis.scatter(*layer.codebook.entries.T, s=34, color=ACCENT, edgecolor="white", zorder=3)
        axis.set_title(f"{title}\nmean squared error {error:.4f}")
        axis.set_axis_off()
    save("quantization")


def straight_through() -> None:
    """The value is a staircase, the gradient is 1."""
    z_e = torch.linspace(-2, 2, 801).unsqueeze(1).requires_grad_()
    entries = torch.tensor([[-1.5], [-0.4], [0.5], [1.6]])
    layer = EMAVectorQuantizer(1, 4)
    layer.codebook.load_state_dict({"entries": entries}, strict=False)
    z_q = layer.eval()(z_e).z_q
    z_q.sum().backward()
    assert z_e.grad is not None
    _, (left, right) = plt.subplots(1, 2, figsize=(7, 2.4))
    x = z_e.detach().squeeze(1)
    left.plot(x, x, color=PALE, linestyle="--", label="z_e")
    left.plot(x, z_q.detach().squeeze(1), color=INK, label="z_q, the value")
    left.scatter(entries, entries, color=ACCENT, zorder=3, label="entries")
    left.legend(frameon=False)
    left.set_title("forward: the nearest entry")
    right.plot(x, torch.zeros_like(x), color=PALE, linestyle="--", label="of the staircase: 0")
    right.plot(x, z_e.grad.squeeze(1), color=ACCENT, label="straight-through: 1")
    right.set_ylim(-0.2, 1.3)
    right.legend(frameon=False, loc="center")
    right.set_title("backward: the gradient for z_e")
    for axis in (left, right):
        axis.set_xlabel("z_e")
    save("straight-through")


def loss_terms() -> None:
    """Which term moves which part, measured."""
    torch.manual_seed(0)
    network = ConvConfig(hidden=16, residual_hidden=8, dim=8)
    config = ImageModelConfig(channels=1, network=network, quantizer=VQConfig(codebook_size=32))
    model = VQVAE.from_config(config).train()
    x = open_images(ImageDataConfig(path="digits", channels=1)).train
    batch = torch.stack([x.example(i).x for i in range(64)])
    model.initialize([batch], seed=0)
    parts = {"encoder": model.encoder, "decoder": model.decoder, "entries": model.quantizers}
    rows = []
    for term in ("reconstruction", "codebook", "commitment"):
        model.zero_grad()
        out = model(batch)
        (out.objectives | out.terms)[term].value.backward()
        rows.append([gradient_norm(part) for part in parts.values()])
    table = torch.tensor(rows)
    _, axis = plt.subplots(figsize=(5.2, 2.0))
    axis.imshow(
        table.clamp(min=1e-9),
        norm=LogNorm(1e-5, table.max().item() * 100),
        cmap="Reds",
        aspect="auto",
    )
    for row in range(3):
        for column in range(3):
            value = rows[row][column]
            text = f"{value:.2g}" if value else "exactly 0"
            axis.text(column, row, text, ha="center", va="center", color=INK)
    axis.set_xticks(range(3), list(parts))
    axis.set_yticks(range(3), ["reconstruction", "codebook term", "commitment"])
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    save("loss-terms")


def gradient_norm(module: torch.nn.Module) -> float:
    """Norm of the gradient over all parameters of a module; 0 where none arrived."""
    grads = [p.grad.norm() for p in module.parameters() if p.grad is not None]
    return torch.stack(grads).norm().item() if grads else 0.0


def codes_of_digits(tokenizer: VQVAE) -> None:
    """Originals, their codes as colours, and what the decoder makes of the codes."""
    images = open_images(ImageDataConfig(path="digits", channels=1, size=16)).evaluation
    batch = torch.stack([images.example(i).x for i in range(10)])
    codes = tokenizer.encode(batch)
    restored = tokenizer.decode(codes)
    order = torch.rand(codes.levels[0].codebook_sizes[0], generator=random.generator(0))
    rows = [batch.squeeze(1), order[codes.levels[0].indices.squeeze(-1)], restored.squeeze(1)]
    figure, axes = plt.subplots(3, 10, figsize=(8, 2.5))
    names = ("image", "codes", "decoded")
    for line, row, name, colours in zip(axes, rows, names, ("gray", "turbo", "gray"), strict=True):
        line[0].text(-0.25, 0.5, name, ha="right", va="center", transform=line[0].transAxes)
        for axis, image in zip(line, row, strict=True):
            axis.imshow(image, cmap=colours)
            axis.set_axis_off()
    figure.subplots_adjust(wspace=0.06, hspace=0.06)
    save("codes")


def positions_worth_a_code() -> None:
    """Digits somewhere on a black sheet: where Selective puts codes, and what they decode to."""
    digits = open_images(ImageDataConfig(path="digits", channels=1, size=16))
    sheets, shown = placed(digits.train, 0), placed(digits.evaluation, 1)[:10]
    network = ConvConfig(hidden=32, residual_hidden=16, dim=16)
    quantizer = SelectiveConfig(quantizer=EMAConfig(codebook_size=128), keep=0.3)
    torch.manual_seed(0)
    model = VQVAE.from_config(ImageModelConfig(channels=1, network=network, quantizer=quantizer))
    budget = TrainConfig(steps=800, batch_size=32, learning_rate=2e-3, progress="none")
    fit(model, TensorExamples(sheets), budget)
    codes = model.eval().encode(shown)
    kept = codes.levels[0].indices[..., 0]
    cells = F.interpolate(kept.unsqueeze(1).float(), shown.shape[-2:]).squeeze(1)
    visible = torch.where(cells > 0, shown.squeeze(1) / 255, 0.75)
    rows = [shown.squeeze(1), visible, model.decode(codes).squeeze(1)]
    figure, axes = plt.subplots(3, 10, figsize=(8, 2.5))
    for line, row, name in zip(axes, rows, ("image", "has a code", "decoded"), strict=True):
        line[0].text(-0.25, 0.5, name, ha="right", va="center", transform=line[0].transAxes)
        for axis, image in zip(line, row, strict=True):
            axis.imshow(image, cmap="gray")
            axis.set_axis_off()
    figure.subplots_adjust(wspace=0.06, hspace=0.06)
    save("selective")


def placed(digits: ImageExamples, seed: int) -> Tensor:
    """Each digit somewhere on a sheet of four times its size. (N, 1, 32, 32) uint8"""
    sheets = torch.zeros(len(digits), 1, 32, 32, dtype=torch.uint8)
    places = (random.uniform(seed, torch.arange(2 * len(digits))) * 17).long().view(-1, 2)
    for number, (top, left) in enumerate(places.tolist()):
        sheets[number, :, top : top + 16, left : left + 16] = digits.example(number).x
    return sheets


def samples_of_priors(tokenizer: VQVAE, learned: Prior, histogram: Prior, uniform: Prior) -> None:
    """Digits drawn from priors that know more and more."""
    priors = {"uniform": uniform, "histogram": histogram, "learned": learned}
    labels = torch.arange(10).repeat(2)
    figure, axes = plt.subplots(3, 20, figsize=(9, 1.75))
    for line, (name, prior) in zip(axes, priors.items(), strict=True):
        given = None if prior.num_classes is None else Conditioning(labels=labels)
        codes = prior.sample(20, given, seed=0)
        line[0].text(-0.25, 0.5, name, ha="right", va="center", transform=line[0].transAxes)
        for axis, image in zip(line, tokenizer.decode(codes).squeeze(1), strict=True):
            axis.imshow(image, cmap="gray")
            axis.set_axis_off()
    figure.subplots_adjust(wspace=0.06, hspace=0.06)
    save("two-stages")


def posterior_collapse(rows: dict[str, list[float]]) -> None:
    """What decoders do with Gaussian latents and with codes, as the example finds it."""
    names, places = [name.replace(", ", "\n") for name in rows], range(len(rows))
    panels = {
        "bits that a latent holds": (2, "{:.1f}"),
        "saved by the own latent\nagainst another's, bits/dim": (1, "{:.2f}"),
        "told from draws of the prior;\ndashed: by chance": (3, "{:.0%}"),
    }
    _, axes = plt.subplots(1, 3, figsize=(8, 2.2), sharey=True)
    clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    for axis, (title, (column, form)) in zip(axes, panels.items(), strict=True):
        values = [row[column] for row in rows.values()]
        behind = clear if axis is axes[2] else None  # a dashed line goes through
        colours = [ACCENT if "codes" in name else PALE for name in rows]
        axis.barh(places, values, color=colours)
        for place, value in zip(places, values, strict=True):
            text = form.format(round(value, 2) + 0.0)  # no -0
            through = behind if value < 0.5 else None  # the label that the line meets
            axis.text(value, place, f" {text}", va="center", color=INK, bbox=through)
        axis.set_xlim(0, 1.25 * max(values))
        axis.set_xticks([])
        axis.spines["bottom"].set_visible(False)
        axis.set_title(title)
    axes[2].axvline(0.5, color=INK, linestyle="--", linewidth=0.8)
    axes[0].set_yticks(places, names)
    axes[0].invert_yaxis()
    save("posterior-collapse")


def film() -> None:
    """Every second frame of unseen clips above what a stream of their codes gives."""
    found = runpy.run_path(str(EXAMPLES / "stream_video.py"))
    x, y = found["x"][::2], to_uint8(found["y"][::2])  # of the photograph that has more to see
    rows = [each[i, :, ::2].movedim(1, 0) for i in range(4) for each in (x, y)]
    save_png(PICTURES / "film.png", contact_sheet(enlarge(torch.cat(rows), 64), 9, gap=4))


def main() -> None:
    """Draws all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="the folder that vqkit demo wrote")
    demo = parser.parse_args().demo
    plt.switch_backend("Agg")
    plt.rcParams.update(STYLE)
    PICTURES.mkdir(exist_ok=True)
    quantization()
    straight_through()
    loss_terms()
    positions_worth_a_code()
    sys.path.insert(0, str(EXAMPLES))  # the example imports its neighbour
    posterior_collapse(runpy.run_path(str(EXAMPLES / "posterior_collapse.py"))["rows"])
    film()
    tokenizer = VQVAE.from_pretrained(demo / "tokenizer")
    codes_of_digits(tokenizer)
    tokens = TokenSet.open(demo / "tokens")
    histogram, uniform = HistogramPrior(tokens.specs), UniformPrior(tokens.specs)
    histogram.count(Codes.cat([tokens.codes(i) for i in range(len(tokens))]))
    samples_of_priors(tokenizer, Prior.from_pretrained(demo / "prior"), histogram, uniform)


if __name__ == "__main__":
    main()
