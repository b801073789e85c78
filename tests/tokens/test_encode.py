"""What must hold for the files that a data set is encoded into."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from tests.tokens.models import images, tokenizer
from torch import distributed as dist
from torch import multiprocessing

from vqkit.autoencoder import VQVAE
from vqkit.codes import Codes
from vqkit.data import Example, TensorExamples
from vqkit.tokens import TokenSet, encode_dataset


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def encoded(folder: Path, *, seed: int = 0, batch_size: int = 4) -> dict[str, bytes]:
    encode_dataset(tokenizer(seed), images(), folder, batch_size=batch_size, shard_size=10)
    return contents(folder)


class Interrupt(Exception):
    """What a test stops an encoding with."""


def interrupted(model: VQVAE, after: int) -> VQVAE:
    """The model, that fails after some calls of ``encode``."""
    encode, calls = model.encode, []

    def failing(x: torch.Tensor, mask: torch.Tensor | None = None) -> Codes:
        calls.append(1)
        if len(calls) > after:
            raise Interrupt
        return encode(x, mask)

    model.encode = failing
    return model


@pytest.mark.parametrize("sizes", [(16,), (16, 300), (8, 70_000)])
def test_shards_are_plain_parquet_with_the_codes_of_every_item_in_order(
    tmp_path: Path, sizes: tuple[int, ...]
):
    model, examples = tokenizer(sizes=sizes), images()
    encode_dataset(model, examples, tmp_path, batch_size=4, shard_size=10)
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == [f"tokens-0000{k}-of-00003.parquet" for k in range(3)]
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    assert [row["id"] for row in rows] == [f"{i:02d}" for i in range(23)]
    assert [row["label"] for row in rows] == [i % 3 for i in range(23)]
    for i, row in enumerate(rows):
        codes = model.encode(examples.example(i).x.unsqueeze(0))
        assert row["codes"] == codes.flat()[0].tolist()
        assert row["shape"] == [list(level.indices.shape[1:]) for level in codes.levels]
        assert row["mask"] is None


@pytest.mark.parametrize(("size", "kind"), [(16, "uint16"), (65_536, "uint16"), (65_537, "uint32")])
def test_codes_are_as_wide_as_the_vocabulary_needs(tmp_path: Path, size: int, kind: str):
    model = tokenizer(sizes=(16,))
    model.quantizers[0].codebook.entries.data = torch.randn(size, 4)  # the size is read from it
    encode_dataset(model, images(5), tmp_path)
    (path,) = tmp_path.iterdir()
    assert str(pq.read_schema(path).field("codes").type.value_type) == kind


def test_the_schema_says_what_the_tokens_are(tmp_path: Path):
    model = tokenizer(sizes=(16, 300))
    encode_dataset(model, images(), tmp_path, shard_size=10)
    metadata = pq.read_schema(tmp_path / "tokens-00002-of-00003.parquet").metadata
    found = json.loads(metadata[b"vqkit"])
    source = found.pop("source")
    assert len(source) == 64
    assert found == {
        "kind": "tokens",
        "format_version": 1,
        "tokenizer": model.fingerprint(),
        "labels": ["a", "<b>", "ç"],
        "levels": [
            {"grid": [2, 3], "codebook_sizes": [16], "structure": "flat"},
            {"grid": [4, 6], "codebook_sizes": [300], "structure": "flat"},
        ],
        "vocabulary": 300,
        "num_items": 23,
        "shard_size": 10,
        "num_shards": 3,
        "shard": 2,
        "ragged": False,
    }


def test_encoding_twice_gives_the_same_bytes(tmp_path: Path):
    model, examples = tokenizer(), images()
    for name in ("a", "b"):  # from two states of torch's own generator
        encode_dataset(model, examples, tmp_path / name, batch_size=4, shard_size=10)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_finished_shards_are_kept_and_missing_ones_written(tmp_path: Path):
    expected = encoded(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    lost = tmp_path / "tokens-00001-of-00003.parquet"
    lost.unlink()
    assert encoded(tmp_path) == expected
    unchanged = {path for path, time in before.items() if path.stat().st_mtime_ns == time}
    assert unchanged == before.keys() - {lost}


@pytest.mark.parametrize("calls", [1, 2, 4, 5])
def test_an_encoding_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path, calls: int):
    expected = encoded(tmp_path / "whole")
    folder = tmp_path / "stopped"
    with pytest.raises(Interrupt):
        encode_dataset(
            interrupted(tokenizer(), calls), images(), folder, batch_size=4, shard_size=10
        )
    assert contents(folder).items() < expected.items()  # whole shards, or none
    assert encoded(folder) == expected


def test_what_killed_runs_left_behind_is_removed(tmp_path: Path):
    left = tmp_path / ".tokens-00001-of-00003.parquet.4711.part"
    left.write_bytes(b"half")
    encoded(tmp_path)
    assert not left.exists()


def test_every_batch_has_the_same_shape_however_many_items_are_left(tmp_path: Path):
    model, shapes = tokenizer(), set()
    encode = model.encode

    def recording(x: torch.Tensor, mask: torch.Tensor | None = None) -> Codes:
        shapes.add(x.shape)
        return encode(x, mask)

    model.encode = recording
    encode_dataset(model, images(), tmp_path, batch_size=4, shard_size=10)
    assert shapes - {(1, 1, 8, 12)} == {(4, 1, 8, 12)}  # one item alone tells the levels


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_tokens_do_not_depend_on_the_batch_size(tmp_path: Path, batch_size: int):
    assert encoded(tmp_path / "a", batch_size=batch_size) == encoded(tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "is of tokenizer [0-9a-f]{12}, this one is [0-9a-f]{12}"),
        ({"examples": images(23, seed=1)}, "is of other data"),
        ({"examples": images(21)}, "is of other data"),
        ({"shard_size": 5}, "is of shards of 10 items, now 5 are asked for"),
    ],
)
def test_shards_of_anything_else_are_not_overwritten(tmp_path: Path, change: dict, message: str):
    before = encoded(tmp_path)
    model, examples = tokenizer(change.get("seed", 0)), change.get("examples", images())
    with pytest.raises(ValueError, match=message):
        encode_dataset(model, examples, tmp_path, shard_size=change.get("shard_size", 10))
    assert contents(tmp_path) == before


def test_the_same_files_decoded_in_another_way_are_other_data(tmp_path: Path):
    class Inverted(TensorExamples):
        fingerprint = images().fingerprint  # of the files, which are the same

        def example(self, index: int, seed: int | None = None) -> Example:
            return Example(255 - super().example(index, seed).x)

    encoded(tmp_path)
    items = [images().example(i).x for i in range(23)]
    with pytest.raises(ValueError, match="is of other data"):
        encode_dataset(tokenizer(), Inverted(items), tmp_path, shard_size=10)


@pytest.mark.parametrize("cut", [lambda data: data[:100], lambda data: b"", lambda data: data[:-3]])
def test_a_cut_shard_is_named_and_nothing_is_overwritten(
    tmp_path: Path, cut: Callable[[bytes], bytes]
):
    encoded(tmp_path)
    path = tmp_path / "tokens-00001-of-00003.parquet"
    path.write_bytes(cut(path.read_bytes()))
    before = contents(tmp_path)
    with pytest.raises(
        ValueError, match=r"tokens-00001-of-00003.parquet is cut or damaged"
    ) as error:
        encoded(tmp_path)
    assert "\n" not in str(error.value)
    assert contents(tmp_path) == before


def test_no_items_and_no_batch_are_refused(tmp_path: Path):
    class Empty(TensorExamples):
        def __len__(self) -> int:
            return 0

    with pytest.raises(ValueError, match="0 items"):
        encode_dataset(tokenizer(), Empty(torch.zeros(1, 1, 8, 8)), tmp_path / "none")
    with pytest.raises(ValueError, match="batch_size is 0"):
        encode_dataset(tokenizer(), images(), tmp_path / "none", batch_size=0)
    assert not (tmp_path / "none").exists()


def test_items_of_unequal_sizes_have_the_codes_that_each_has_alone(tmp_path: Path):
    model, examples = tokenizer(sizes=(16, 300)), images(ragged=True)
    encode_dataset(model, examples, tmp_path, batch_size=4, shard_size=10)
    tokens = TokenSet.open(tmp_path)
    for i in range(len(examples)):
        alone, found = model.encode(examples.example(i).x.unsqueeze(0)), tokens.codes(i)
        assert found.specs == alone.specs
        assert torch.equal(found.flat(), alone.flat())
        assert found.flat_mask() is None


def test_masks_with_holes_are_kept(tmp_path: Path):
    class Holed(TensorExamples):
        def example(self, index: int, seed: int | None = None) -> Example:
            x = super().example(index, seed).x
            mask = torch.ones(x.shape[1:], dtype=torch.bool)
            mask[:4, 4:8] = index % 2 == 0  # odd items lack a position inside the grid
            return Example(x, None, mask)

    examples = Holed([images().example(i).x for i in range(23)])
    model = tokenizer()
    encode_dataset(model, examples, tmp_path, batch_size=4, shard_size=10)
    tokens = TokenSet.open(tmp_path)
    for i in range(23):
        example = examples.example(i)
        alone = model.encode(example.x.unsqueeze(0), example.mask.unsqueeze(0))
        assert torch.equal(tokens.codes(i).flat(), alone.flat())
        mask = tokens.codes(i).flat_mask()
        assert (mask is None) == (i % 2 == 0)
        assert mask is None or torch.equal(mask, alone.flat_mask())


def test_ranks_take_shards_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected = encoded(tmp_path / "one")
    folder = tmp_path / "two"
    for rank, num in ((1, 1), (0, 3)):
        monkeypatch.setattr("vqkit.tokens.sharding.rank", lambda rank=rank: rank)
        monkeypatch.setattr("vqkit.tokens.sharding.world_size", lambda: 2)
        encoded(folder)
        assert len(list(folder.iterdir())) == num
        monkeypatch.undo()
    assert contents(folder) == expected


def encode_share(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    encoded(folder / "two")
    assert len(list((folder / "two").iterdir())) == 3  # no rank returns before all are done
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_write_the_same_bytes_as_one(tmp_path: Path):
    expected = encoded(tmp_path / "one")
    multiprocessing.spawn(encode_share, (tmp_path,), nprocs=2)
    assert contents(tmp_path / "two") == expected


@pytest.mark.slow
def test_other_libraries_read_the_shards(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    encoded(tmp_path / "tokens")
    files = sorted(str(path) for path in (tmp_path / "tokens").iterdir())
    rows = datasets.Dataset.from_parquet(files, cache_dir=str(tmp_path / "cache"))
    tokens = TokenSet.open(tmp_path / "tokens")
    assert [row["codes"] for row in rows] == [tokens.example(i).x.tolist() for i in range(23)]
