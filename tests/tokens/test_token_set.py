"""What must hold for a token set that is opened."""

import json
import pickle
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.tokens.models import images, tokenizer

from vqkit.codes import Codes, LevelSpec
from vqkit.data import Examples, TensorExamples, collate
from vqkit.tokens import TokenSet, encode_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tokens of 23 images in three shards."""
    return make(tmp_path / "tokens")


def make(folder: Path, *, seed: int = 0, ragged: bool = False, num: int = 23) -> Path:
    examples = images(num, ragged=ragged)
    encode_dataset(tokenizer(seed), examples, folder, batch_size=8, shard_size=10)
    return folder


def shard(folder: Path, number: int) -> Path:
    return folder / f"tokens-{number:05d}-of-00003.parquet"


def test_every_item_is_found_in_any_order_with_its_codes_label_and_name(folder: Path):
    tokens, model, examples = TokenSet.open(folder), tokenizer(), images()
    assert isinstance(tokens, Examples)
    assert len(tokens) == 23
    for i in torch.randperm(23).tolist():
        codes = model.encode(examples.example(i).x.unsqueeze(0))
        example = tokens.example(i, seed=5)
        assert torch.equal(example.x, codes.flat()[0])
        assert example.x.dtype == torch.int64
        assert example.label == i % 3
        assert example.mask is None
        assert tokens.id(i) == examples.id(i)
    assert tokens.specs == codes.specs == (LevelSpec((2, 3), (16,)),)
    assert tokens.labels == ("a", "<b>", "ç")
    assert tokens.num_classes == 3
    assert tokens.describe(12) == f"{shard(folder, 1)} row 2"


def test_an_item_that_is_changed_by_its_user_is_not_changed_in_the_set(folder: Path):
    tokens = TokenSet.open(folder)
    expected = tokens.example(3).x.clone()
    tokens.example(3).x.fill_(7)
    assert torch.equal(tokens.example(3).x, expected)


def test_items_without_labels_have_none(tmp_path: Path):
    unlabelled = TensorExamples([images().example(i).x for i in range(5)])
    encode_dataset(tokenizer(), unlabelled, tmp_path)
    tokens = TokenSet.open(tmp_path)
    assert tokens.example(0).label is None
    assert tokens.num_classes is None


@pytest.mark.parametrize("index", [-1, 23])
def test_an_item_out_of_range_is_refused(folder: Path, index: int):
    with pytest.raises(IndexError, match="items 0 to 22"):
        TokenSet.open(folder).example(index)


def test_items_of_unequal_sizes_are_padded_to_one_length_and_masked(tmp_path: Path):
    tokens = TokenSet.open(make(tmp_path / "tokens", ragged=True))
    assert tokens.specs == (LevelSpec((4, 3), (16,)),)
    batch = collate([tokens.example(i) for i in range(23)], range(23))
    codes = Codes.from_flat(batch.x, tokens.specs, batch.mask)
    for i, expected in enumerate(map(tokens.codes, range(23))):
        height, width = expected.specs[0].grid
        level = codes[i : i + 1].levels[0]
        assert torch.equal(level.indices[:, :height, :width], expected.levels[0].indices)
        assert level.mask[:, :height, :width].all()
        assert level.mask.sum() == height * width
        assert (level.indices[~level.mask] == 0).all()


def test_only_the_shards_that_are_asked_for_are_read(folder: Path):
    tokens = TokenSet.open(folder)
    shard(folder, 2).unlink()
    tokens.example(5)
    tokens.example(15)
    with pytest.raises(ValueError, match=r"tokens-00002-of-00003.parquet is cut or damaged"):
        tokens.example(22)


def test_a_set_can_be_sent_to_another_process(folder: Path):
    tokens = TokenSet.open(folder)
    tokens.example(0)
    copy = pickle.loads(pickle.dumps(tokens))
    assert torch.equal(copy.example(11).x, tokens.example(11).x)


def test_the_fingerprint_changes_with_the_tokenizer_and_the_data(tmp_path: Path):
    first = TokenSet.open(make(tmp_path / "a")).fingerprint
    assert first == TokenSet.open(make(tmp_path / "b")).fingerprint
    assert first != TokenSet.open(make(tmp_path / "c", seed=1)).fingerprint
    assert first != TokenSet.open(make(tmp_path / "d", num=24)).fingerprint


def test_tokens_of_another_tokenizer_are_refused(folder: Path):
    tokens = TokenSet.open(folder)
    tokens.check_tokenizer(tokenizer())
    mine, other = tokenizer().fingerprint()[:12], tokenizer(1).fingerprint()[:12]
    with pytest.raises(ValueError, match=f"tokenizer {mine}, this run is {other}; encode"):
        tokens.check_tokenizer(tokenizer(1))


def test_a_folder_without_tokens_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"holds no tokens-\*.parquet"):
        TokenSet.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing: there is no such folder"):
        TokenSet.open(tmp_path / "missing")


def test_a_missing_shard_is_named(folder: Path):
    shard(folder, 1).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks tokens-00001-of-00003.parquet; run"):
        TokenSet.open(folder)
    shard(folder, 2).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks tokens-00001-of-00003.parquet and 1 more"):
        TokenSet.open(folder)


@pytest.mark.parametrize("size", [0, 10, 500, -1])
def test_a_cut_shard_is_named(folder: Path, size: int):
    path = shard(folder, 1)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(
        ValueError, match=r"tokens-00001-of-00003.parquet is cut or damaged"
    ) as error:
        TokenSet.open(folder)
    assert "\n" not in str(error.value)


def test_damage_inside_a_shard_is_named_when_it_is_read(folder: Path):
    path = shard(folder, 0)
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"tokens-00000-of-00003.parquet is cut or damaged"):
        TokenSet.open(folder).example(0)


def test_mixed_tokenizers_are_refused(folder: Path, tmp_path: Path):
    shutil.copy(shard(make(tmp_path / "other", seed=1), 1), shard(folder, 1))
    with pytest.raises(ValueError, match=r"00001-of-00003.parquet is of tokenizer [0-9a-f]{12}, "):
        TokenSet.open(folder)


def test_shards_of_several_sets_are_refused(folder: Path, tmp_path: Path):
    encode_dataset(tokenizer(), images(), tmp_path / "other", shard_size=12)
    for path in (tmp_path / "other").iterdir():
        shutil.copy(path, folder)
    with pytest.raises(ValueError, match="do not belong together"):
        TokenSet.open(folder)


def test_a_renamed_shard_is_refused(folder: Path):
    shard(folder, 1).rename(shard(folder, 2))
    with pytest.raises(ValueError, match="do not belong together"):
        TokenSet.open(folder)


def rewrite(path: Path, change: dict | None, *, rows: int | None = None) -> None:
    """A shard with other metadata, or with fewer rows."""
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[b"vqkit"])
    metadata = {} if change is None else {b"vqkit": json.dumps(header | change).encode()}
    pq.write_table(table.slice(0, rows).replace_schema_metadata(metadata), path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format_version is 2, this vqkit reads 1"),
        ({"num_shards": "many"}, "is cut or damaged"),
        ({"surprise": 1}, "is cut or damaged"),
        (None, "is a Parquet file but not of a vqkit token set"),
    ],
)
def test_a_header_that_is_not_understood_is_named(folder: Path, change: dict | None, message: str):
    rewrite(shard(folder, 0), change)
    with pytest.raises(ValueError, match=message) as error:
        TokenSet.open(folder)
    assert "tokens-00000-of-00003.parquet" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_shard_with_rows_missing_is_named(folder: Path):
    rewrite(shard(folder, 1), {}, rows=4)
    with pytest.raises(ValueError, match="has 4 rows, its header says 10"):
        TokenSet.open(folder)


def test_a_code_that_no_codebook_has_is_named(folder: Path):
    path = shard(folder, 1)
    table = pq.read_table(path)
    codes = pa.array([[99] * 6] * len(table), pa.list_(pa.uint16()))
    pq.write_table(table.set_column(1, "codes", codes), path)
    with pytest.raises(ValueError, match="code 99, the vocabulary is 16"):
        TokenSet.open(folder).example(10)
