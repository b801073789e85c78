"""Do codes of vectors lose less, and find more, than those of Faiss at equal bits, and how fast?

Vectors for training are the database: they train the codebooks, are kept as codes, and searched for
the nearest to each vector of the test, which is not coded. An npz file has both as train and test.

Run: python benchmarks/vector_search.py quality NPZ CODES
     python benchmarks/vector_search.py times NPZ CODES
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import torch
from measuring import cpu_ms, heading
from torch import Tensor

from vqkit.evaluation.search import DEPTHS, recall
from vqkit.modalities.vector.search import nearest_vectors
from vqkit.quantizers import (
    AdditiveConfig,
    EMAConfig,
    ProductConfig,
    Quantizer,
    QuantizerConfig,
    ResidualConfig,
    RotatedConfig,
)

SIZE, BITS, ROUNDS = 256, 8, 7
LONG = 32  # numbers of a vector from which on entries start in few directions
PRODUCT, STAGES = ("Faiss ProductQuantizer", "Faiss OPQ"), ("Faiss Residual",)
KIND = {
    **dict.fromkeys(("product", "product from data", "rotated product"), PRODUCT),
    "residual": STAGES,
    "additive": (*STAGES, "Faiss LocalSearch"),
}


@dataclass
class Coder:
    """Something that learns from vectors, and codes them."""

    train: Callable[[], object]
    encode: Callable[[Tensor], object]
    decode: Callable[[object], Tensor]


def peers(train: np.ndarray, num: int) -> dict[str, Coder]:
    """What Faiss has, at its defaults."""
    dim = train.shape[1]
    opq = faiss.index_factory(dim, f"OPQ{num},PQ{num}x{BITS}np")
    found = {
        "Faiss OPQ": Coder(
            lambda: opq.train(train),
            lambda x: opq.sa_encode(x.numpy()),
            lambda codes: torch.from_numpy(opq.sa_decode(codes)),
        )
    }
    made = {
        "Faiss ProductQuantizer": faiss.ProductQuantizer(dim, num, BITS),
        "Faiss Residual": faiss.ResidualQuantizer(dim, num, BITS),
        "Faiss LocalSearch": faiss.LocalSearchQuantizer(dim, num, BITS),
    }
    for name, layer in made.items():
        found[name] = Coder(
            lambda layer=layer: layer.train(train),
            lambda x, layer=layer: layer.compute_codes(x.numpy()),
            lambda codes, layer=layer: torch.from_numpy(layer.decode(codes)),
        )
    return found


def config(name: str, dim: int, num: int) -> QuantizerConfig:
    """Ours, by name."""
    plain, drawn = (EMAConfig(codebook_size=SIZE, start=start) for start in ("kmeans", "data"))
    stage = EMAConfig(codebook_size=SIZE, start="progressive" if dim >= LONG else "kmeans")
    parts = ProductConfig(parts=num, quantizer=plain)
    return {
        "product": parts,
        "product from data": ProductConfig(parts=num, quantizer=drawn),
        "rotated product": RotatedConfig(quantizer=parts),
        "residual": ResidualConfig(stages=num, quantizer=stage, beams=5),
        "residual, 1 beam": ResidualConfig(stages=num, quantizer=stage),
        "additive": AdditiveConfig(stages=num, quantizer=stage),
    }[name]


def trained(made: QuantizerConfig, z: Tensor, steps: int) -> Quantizer:
    """A quantizer that has started from all vectors (N, D), with so many steps of k-means."""
    layer = made.build(z.shape[1])
    for book in layer.codebooks():
        book.start_steps = steps
    layer.initialize(z, seed=0)
    return layer.eval()


def ours(name: str, train: Tensor, num: int) -> Coder:
    """One of ours; vectors are centred and have one scale, as ``standardize: all`` makes them."""
    mean, scale = train.mean(0), train.var(0, correction=0).mean().sqrt()
    layers: list[Quantizer] = []

    def learn() -> None:
        layers.append(trained(config(name, train.shape[1], num), (train - mean) / scale, 25))

    return Coder(
        learn,
        lambda x: layers[-1].encode((x - mean) / scale),
        lambda codes: layers[-1].decode(codes) * scale + mean,  # pyright: ignore
    )


def seconds(task: Callable[[], object]) -> float:
    """Process CPU time."""
    start = time.process_time()
    task()
    return time.process_time() - start


def quality(train: Tensor, test: Tensor, num: int) -> None:
    """Errors and recall of everything, and whether ours are as good as the best of their kind."""
    rows = peers(train.numpy(), num) | {name: ours(name, train, num) for name in KIND}
    columns = ("train s", "encode s", "MSE", "MSE, test", *(f"recall@{depth}" for depth in DEPTHS))
    print(f"{'':<24}" + "".join(f"{name:>12}" for name in columns))
    found: dict[str, list[float]] = {}
    for name, coder in rows.items():
        took = [seconds(coder.train), seconds(lambda coder=coder: coder.encode(train))]
        kept, held = (coder.decode(coder.encode(x)) for x in (train, test))
        numbers = nearest_vectors(kept, test, DEPTHS[-1])[1]
        shares = (recall(train, test, numbers) / len(test)).tolist()
        errors = [float((a - b).square().mean()) for a, b in ((kept, train), (held, test))]
        found[name] = [*errors, *shares]
        figures = [*took, *found[name]]
        print(f"{name:<24}" + "".join(f"{value:>12.5g}" for value in figures), flush=True)
    for name, kind in KIND.items():
        best = [min(found[peer][0] for peer in kind)]
        best += [max(found[peer][column] for peer in kind) for column in (2, 3, 4)]
        own = [found[name][0], *found[name][2:]]
        ratios = [
            own[0] / best[0],
            *(b / max(a, 1e-9) for a, b in zip(own[1:], best[1:], strict=True)),
        ]
        within = "yes" if max(ratios) <= 1.01 else "NO"
        beside = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{name}: best of its kind {beside} times as good; at most 1.01: {within}")


def times(train: Tensor, num: int) -> None:
    """Training at equal error, and encoding, beside Faiss."""
    dim, array = train.shape[1], train.numpy()
    product = faiss.ProductQuantizer(dim, num, BITS)
    residual = faiss.ResidualQuantizer(dim, num, BITS)
    quick = config("product from data", dim, num)
    plain, beams = (config(name, dim, num) for name in ("residual, 1 beam", "residual"))
    made: dict[str, Quantizer] = {}

    def learn(name: str, own: QuantizerConfig) -> Callable[[], None]:
        return lambda: made.update({name: trained(own, train, 10)})

    tasks = {"Faiss product": lambda: product.train(array), "product": learn("product", quick)}
    slow = {
        "Faiss residual": lambda: residual.train(array),
        "residual, 1 beam": learn("residual, 1 beam", plain),
        "residual, 5 beams": learn("residual, 5 beams", beams),
    }
    ms = cpu_ms(tasks, ROUNDS, warm_up=1) | cpu_ms(slow, ROUNDS, warm_up=0)

    def error(decoded: Tensor) -> float:
        return float((decoded - train).square().mean())

    errors = {
        name: error(torch.from_numpy(layer.decode(layer.compute_codes(array))))
        for name, layer in {"Faiss product": product, "Faiss residual": residual}.items()
    }
    errors |= {name: error(layer.decode(layer.encode(train))) for name, layer in made.items()}
    encoding = {
        "Faiss product": lambda: product.compute_codes(array),
        "product": lambda: made["product"].encode(train),
        "Faiss residual": lambda: residual.compute_codes(array),
        "residual, 5 beams": lambda: made["residual, 5 beams"].encode(train),
    }
    print(f"{'':<20}{'train ms':>12}{'x Faiss':>9}{'MSE':>12}{'encode ms':>12}{'x Faiss':>9}")
    coding = cpu_ms(encoding, ROUNDS, warm_up=1)
    for name, values in ms.items():
        peer = "Faiss product" if "product" in name else "Faiss residual"
        took, base = statistics.median(values), statistics.median(ms[peer])
        line = f"{name:<20}{took:>12.0f}{took / base:>9.2f}{errors[name]:>12.5g}"
        if name in coding:
            own, other = statistics.median(coding[name]), statistics.median(coding[peer])
            line += f"{own:>12.1f}{own / other:>9.2f}"
        print(line)


def main() -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    if len(sys.argv) != 4 or sys.argv[1] not in ("quality", "times"):
        sys.exit(__doc__)
    path, num = Path(sys.argv[2]), int(sys.argv[3])
    with np.load(path) as arrays:
        train, test = (
            torch.from_numpy(arrays[name].astype(np.float32)) for name in ("train", "test")
        )
    print(
        heading(f"Codes of vectors beside Faiss, {sys.argv[1]}: {path.stem}, {num} codes of {SIZE}")
    )
    print(f"{len(train):,} vectors of {train.shape[1]} numbers, {len(test):,} queries; CPU time.")
    if sys.argv[1] == "times":
        times(train, num)
    else:
        quality(train, test, num)


if __name__ == "__main__":
    main()
