"""How much faster than real time is sound at 24 kHz encoded and decoded, whole and as a stream?

Run: python benchmarks/bench_audio_realtime.py [SECONDS] [ROUNDS]

Beside it EnCodec of transformers with random weights: the same strides, widths, residual units,
activation, frame rate and stages; in place of its LSTMs ours has residual units of as many
parameters. Both are in evaluation mode, in turns, on one thread, in process CPU time.
"""

import statistics
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from measuring import cpu_ms, heading, version
from torch import Tensor

from vqkit.autoencoder import VQVAE, StreamDecoder, StreamEncoder
from vqkit.codes import Codes, Level
from vqkit.config import load_config
from vqkit.modalities.audio import AudioModelConfig, CausalConfig
from vqkit.quantizers import EMAConfig, ResidualConfig

RATE, STAGES, ENTRIES = 24_000, 8, 1024


def preset(name: str) -> CausalConfig:
    """The networks of a preset."""
    model = load_config(name, ["data.path=."]).model
    assert isinstance(model, AudioModelConfig)
    return model.network


LIKE_ENCODEC = CausalConfig(strides=(2, 4, 5, 8), hidden=32, most=512, depth=8, activation="elu")
NETWORKS = {
    "as EnCodec's": LIKE_ENCODEC,
    "with silu": replace(LIKE_ENCODEC, activation="silu"),
    "preset audio-speech": preset("audio-speech"),
}
CHUNKS_MS = {"one hop": 0, "320 ms": 320}


def ours(network: CausalConfig) -> VQVAE:
    """A model with random weights, its codebooks started from noise."""
    torch.manual_seed(0)
    stages = ResidualConfig(quantizer=EMAConfig(codebook_size=ENTRIES), stages=STAGES)
    config = AudioModelConfig(sample_rate=RATE, network=network, quantizer=stages)
    model = VQVAE.from_config(config).eval()
    model.initialize([0.1 * torch.randn(4, 1, 10 * RATE)], seed=0)
    for book in model.codebooks().values():  # those of noise are all alike, and then ties are many
        book.entries.data.normal_()
    return model


def theirs() -> torch.nn.Module:
    """EnCodec of transformers with random weights."""
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    return EncodecModel(EncodecConfig()).eval()


def num_parameters(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def whole(model: VQVAE, x: Tensor) -> Callable[[], Tensor]:
    return lambda: model.decode(model.encode(x))


@torch.no_grad()
def encodec(model: torch.nn.Module, x: Tensor) -> Callable[[], Tensor]:
    def task() -> Tensor:
        with torch.no_grad():
            found = model.encode(x, bandwidth=STAGES * 0.75)  # pyright: ignore
            return model.decode(found.audio_codes, found.audio_scales)[0]  # pyright: ignore

    return task


def streamed(model: VQVAE, x: Tensor, size: int) -> Callable[[], Tensor]:
    """Encodes and decodes as it comes in, so many samples at a time."""
    encoder, decoder = StreamEncoder(model), StreamDecoder(model)

    def task() -> Tensor:
        parts = [decoder.push(encoder.push(part)) for part in x.split(size, 2)]
        return torch.cat([*parts, decoder.push(encoder.end())], 2)

    return task


def alike(model: VQVAE, x: Tensor, size: int) -> tuple[int, int, float]:
    """Indices of a stream that differ from the whole's, all of them, and how far the sound of equal
    codes is apart at most."""
    stream, decoder, offline = StreamEncoder(model), StreamDecoder(model), model.encode(x)
    parts = [*(stream.push(part) for part in x.split(size, 2)), stream.end()]
    found = torch.cat([part.levels[0].indices for part in parts], 1)
    level = offline.levels[0]
    pieces = level.indices.split(max(1, size // stream.hop), 1)
    sound = [
        decoder.push(Codes((Level(piece, level.codebook_sizes, level.structure),)))
        for piece in pieces
    ]
    y = torch.cat(sound, 2)
    apart = float((y - model.decode(offline)[..., : y.shape[2]]).abs().max())
    return int((found != level.indices).sum()), found.numel(), apart


def main() -> None:
    torch.set_num_threads(1)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    print(heading("Encoding and decoding sound at 24 kHz, beside real time"))
    print(f"transformers {version('transformers')}; {seconds:g} s of noise, {rounds} rounds\n")
    x = 0.1 * torch.randn(1, 1, int(seconds * RATE))
    peer, models = theirs(), {name: ours(network) for name, network in NETWORKS.items()}
    tasks = {"EnCodec of transformers": encodec(peer, x)}
    tasks |= {f"ours, {name}": whole(model, x) for name, model in models.items()}
    sizes = {"EnCodec of transformers": num_parameters(peer)}
    sizes |= {f"ours, {n}": num_parameters(m.encoder, m.decoder) for n, m in models.items()}
    times = {name: statistics.median(v) for name, v in cpu_ms(tasks, rounds).items()}
    base = times["EnCodec of transformers"]
    print(f"{'whole, one thread':<34} parameters   CPU ms  x real time  x EnCodec")
    for name, ms in times.items():
        factor = seconds * 1000 / ms
        print(f"{name:<34} {sizes[name]:>10,} {ms:>8.0f} {factor:>12.1f} {base / ms:>10.2f}")
    print(f"\n{'stream, one thread':<34} {'chunk':<10} CPU ms  x real time  x its own whole")
    for name, model in models.items():
        hop = StreamEncoder(model).hop
        chunks = {n: max(hop, ms * RATE // 1000 // hop * hop) for n, ms in CHUNKS_MS.items()}
        found = cpu_ms({n: streamed(model, x, size) for n, size in chunks.items()}, rounds, 1)
        for chunk, values in found.items():
            ms, own = statistics.median(values), times[f"ours, {name}"]
            different, all_of_them, apart = alike(model, x, chunks[chunk])
            print(
                f"{'ours, ' + name:<34} {chunk:<10} {ms:>6.0f} {seconds * 1000 / ms:>12.1f} "
                f"{ms / own:>16.2f}   {different} of {all_of_them:,} indices differ, sound by "
                f"{apart:.1e}"
            )
    hop = LIKE_ENCODEC.hop
    print(f"\nLatency: one hop, {1000 * hop / RATE:.1f} ms.")


if __name__ == "__main__":
    main()
