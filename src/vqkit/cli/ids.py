"""``vqkit ids``: semantic IDs of items as a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqkit.cli.options import BatchSize, DataWords, Device, NumWorkers, Run
from vqkit.cli.runs import items_of, open_tokenizer
from vqkit.cli.wording import counted

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE
    from vqkit.codes import LevelSpec
    from vqkit.data import Items
    from vqkit.tokens import SemanticIDs

KINDS = (".parquet", ".csv")

Data = Annotated[str, typer.Argument(metavar="DATA", help="Data, as for data.path.")]
Out = Annotated[
    Path,
    typer.Argument(
        metavar="OUT", help="A .parquet file, where IDs that it has stay, or a new .csv file."
    ),
]


def ids(
    run: Run,
    data: Data,
    out: Out,
    words: DataWords = None,
    batch_size: BatchSize = 64,
    num_workers: NumWorkers = 0,
    device: Device = "auto",
) -> None:
    """Write an ID for each item: its codes, a suffix that makes them unique, and tokens.

    The same command with more data adds the new items, and changes no ID that is there.

    Example: vqkit ids runs/items items.parquet ids.parquet
    """
    if out.suffix not in KINDS:
        raise ValueError(f"{out} ends in no {' or '.join(KINDS)}; name such a file")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: there is no folder {out.parent}; make it first")
    from vqkit.atomic import one_at_a_time

    known_at(out)  # now, for to encode all items takes long
    model = open_tokenizer(run, device)
    items = items_of(run, data, words or ())
    found = ids_of(model, items, batch_size, num_workers)
    with one_at_a_time(out.parent):
        known = known_at(out)  # another command may have added to it since
        made = found if known is None else known.extended(found)
        made.save(out)
    print("\n".join(summary(made, 0 if known is None else len(known), out)))


def known_at(out: Path) -> "SemanticIDs | None":
    """The IDs of a file; None where it is a new one.

    Raises:
        ValueError: If no items can be added to what is there.
    """
    from vqkit.tokens import SemanticIDs

    if not out.exists():
        return None
    if out.suffix == ".csv":
        raise ValueError(f"{out} is there, and csv does not say of what codes; write a .parquet")
    return SemanticIDs.open(out)


def ids_of(
    model: "VQVAE", items: "Items", batch_size: int = 64, num_workers: int = 0
) -> "SemanticIDs":
    """The IDs of all items, in their order.

    Raises:
        ValueError: If items differ in size, so that they have not one ID of one length each.
    """
    import torch

    from vqkit.data import in_order
    from vqkit.nn.evaluating import device_of
    from vqkit.tokens import SemanticIDs
    from vqkit.tokens.progress import advancing

    device, rows, labels, sizes = device_of(model), [], [], ()
    with advancing("encoding", len(items), show=True) as advance:
        for batch in in_order(items, batch_size, num_workers=num_workers):
            codes = model.encode(batch.x.to(device), None)
            own = tuple(size for spec in codes.specs for size in token_sizes(spec))
            if batch.mask is not None or (sizes and own != sizes):
                raise ValueError("items differ in size, and IDs have one length; give items of one")
            sizes = own
            rows.append(codes.flat().cpu())
            labels += [] if batch.labels is None else batch.labels.tolist()
            advance(len(batch))
    names = [items.id(number) for number in range(len(items))]
    classes = [items.labels[label] for label in labels] if labels else None
    options = {"tokenizer": model.fingerprint(), "labels": classes}
    return SemanticIDs.of(names, torch.cat(rows), sizes, **options)


def token_sizes(spec: "LevelSpec") -> tuple[int, ...]:
    """How many entries each integer of a level chooses from, in the order of ``Codes.flat``."""
    sizes = spec.codebook_sizes
    return sizes * (spec.num_tokens // len(sizes))


def summary(ids: "SemanticIDs", before: int, out: Path) -> list[str]:
    """How many IDs there are, and how well they tell items apart and together; a line each."""
    import torch

    from vqkit.tokens.prefixes import prefix_groups, purity

    new = f", {len(ids) - before} of them new" if before else ""
    groups = prefix_groups(ids.codes, ids.sizes)
    lines = [
        f"{counted(len(ids), 'ID')}{new}: {out}",
        f"  {'share of items with codes of another':<38} {ids.collision_rate:.2%}",
        f"  {'most items with the same codes':<38} {ids.level_sizes[-1]}",
    ]
    named = [row for row, name in enumerate(ids.labels or ()) if name is not None]
    names = [name for name in ids.labels or () if name is not None]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    labels = torch.tensor([numbers[name] for name in names])
    for length, group in enumerate(groups, start=1):
        name = f"groups of {counted(length, 'first code')}"
        pure = f", {purity(group[named], labels):.1%} of one class" if named else ""
        lines.append(f"  {name:<38} {int(group.max()) + 1}{pure}")
    return lines
