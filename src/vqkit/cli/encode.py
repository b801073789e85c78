"""``vqkit encode``: a data set as tokens."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vqkit.cli.options import BatchSize, DataWords, Device, NumWorkers, Run
from vqkit.cli.runs import items_of, open_tokenizer
from vqkit.cli.wording import command, counted

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE
    from vqkit.data import Examples
    from vqkit.tokens import TokenSet

Data = Annotated[str, typer.Argument(metavar="DATA", help="Data, as for data.path.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the token data set.")]
Features = Annotated[
    Literal["z_e", "z_q"] | None,
    typer.Option(
        "--features",
        help="Vectors instead of tokens: the encoder's output, or the entries that it becomes.",
    ),
]
ShardSize = Annotated[
    int | None,
    typer.Option("--shard-size", min=1, help="Items a file; 8192 of tokens, 1024 of vectors."),
]


def encode(
    run: Run,
    data: Data,
    out: Out,
    words: DataWords = None,
    batch_size: BatchSize = 64,
    features: Features = None,
    shard_size: ShardSize = None,
    num_workers: NumWorkers = 0,
    device: Device = "auto",
    faiss: Annotated[
        Path | None, typer.Option("--faiss", help="Also an index of Faiss of vectors, a new file.")
    ] = None,
) -> None:
    """Write the codes of a data set as Parquet files. The same command again goes on.

    Example: vqkit encode runs/photos photos tokens/photos
    """
    from vqkit.distributed import is_main
    from vqkit.tokens import encode_features
    from vqkit.tokens.features import FEATURES, SHARD_SIZE
    from vqkit.tokens.shards import TOKENS
    from vqkit.training import join_processes

    kind = TOKENS if features is None else FEATURES
    kind.check_place(out)  # now, for to read all items takes long
    if faiss is not None:
        check_index(faiss, features)
    join_processes(cpu=device == "cpu")
    model = open_tokenizer(run, device)
    if faiss is not None:
        check_sums(model, run)
    items = items_of(run, data, words or ())
    how = {"batch_size": batch_size, "num_workers": num_workers}
    if features is not None:
        size = shard_size or SHARD_SIZE
        encode_features(model, items, out, features, shard_size=size, progress=True, **how)
        if is_main():
            print(f"{features} of {counted(len(items), model.objective.modality.item)}: {out}")
        return
    tokens = encode_items(model, items, out, shard_size=shard_size or 8192, **how)
    if is_main():
        print(summary(tokens))
        if faiss is not None:
            write_index(model, tokens, faiss)
        then = command("train-prior", out, "prior-small", "--tokenizer", run)
        print(f"  {then}    learns what codes are likely")


def check_index(path: Path, features: str | None) -> None:
    """Raises, before anything is encoded, unless an index of Faiss may be written there.

    Raises:
        FileExistsError: If something is there already.
        FileNotFoundError: If its folder is not there.
        ImportError: If Faiss is not installed.
        ValueError: If it was asked for beside ``--features``.
    """
    if features is not None:
        raise ValueError(
            f"--faiss makes an index of codes, and --features {features} writes none; "
            "leave one of them out"
        )
    if path.exists():
        raise FileExistsError(f"--faiss {path} exists already; remove it or choose another name")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--faiss {path}: there is no folder {path.parent}; make it first")
    from vqkit.interop.faiss_index import library

    library()


def check_sums(model: "VQVAE", run: Path) -> None:
    """Raises ValueError unless the codes of a model make an index of Faiss."""
    from vqkit.interop import to_faiss
    from vqkit.modalities.vector.objective import SquaredErrorObjective

    objective = model.objective
    if not isinstance(objective, SquaredErrorObjective):
        items = objective.modality.items
        raise ValueError(
            f"--faiss makes an index of vectors, and {run} is of {items}; leave it out"
        )
    to_faiss(model, model.encode(objective.shift.unsqueeze(0)))  # of one vector


def write_index(model: "VQVAE", tokens: "TokenSet", path: Path) -> None:
    """Writes an index of Faiss that holds the codes of a token set of vectors."""
    from vqkit.atomic import atomic_file
    from vqkit.codes import Codes
    from vqkit.interop.faiss_index import library, to_faiss

    index = to_faiss(model, Codes.cat([tokens.codes(number) for number in range(len(tokens))]))
    with atomic_file(path) as part:
        library().write_index(index, str(part))
    print(f"index of Faiss, {counted(index.ntotal, 'vector')}: {path}")


def encode_items(
    model: "VQVAE",
    items: "Examples",
    out: Path,
    *,
    batch_size: int = 64,
    shard_size: int = 8192,
    num_workers: int = 0,
) -> "TokenSet":
    """The token set of all items, in a folder; what is there already is kept."""
    from vqkit.tokens import TokenSet, encode_dataset

    encode_dataset(
        model,
        items,
        out,
        batch_size=batch_size,
        shard_size=shard_size,
        num_workers=num_workers,
        progress=True,
    )
    return TokenSet.open(out)


def summary(tokens: "TokenSet") -> str:
    """How large a token set is, and where."""
    each = sum(spec.num_tokens for spec in tokens.specs)
    most = "up to " if tokens.ragged else ""
    items, many = counted(len(tokens), "item"), counted(each, "token")
    return f"{items} of {most}{many} each: {tokens.folder}"
