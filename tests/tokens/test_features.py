"""What must hold for the files of vectors that a data set is encoded into."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from tests.tokens.models import images, tokenizer
from tests.tokens.test_encode import Interrupt, contents

from vqkit.data import Example, TensorExamples
from vqkit.tokens import TokenSet, encode_dataset, encode_features
from vqkit.tokens.vectors import Side

SIDES: tuple[Side, ...] = ("z_e", "z_q")


def encoded(folder: Path, side: Side = "z_e", *, seed: int = 0) -> dict[str, bytes]:
    encode_features(tokenizer(seed), images(), folder, side, batch_size=4, shard_size=10)
    return contents(folder)


def rows_of(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.iterdir()) for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("ragged", [False, True])
def test_every_item_has_the_vectors_of_the_model_in_order(tmp_path: Path, side: Side, ragged: bool):
    model, items = tokenizer(), images(23, ragged=ragged)
    encode_features(model, items, tmp_path, side, batch_size=4, shard_size=10)
    names = [f"features-0000{k}-of-00003.parquet" for k in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for i, row in enumerate(rows_of(tmp_path)):
        x = items.example(i).x.unsqueeze(0)
        expected = model.inputs(x)[0][0]
        if side == "z_q":
            expected = model.quantizers[0].decode(model.encode(x).levels[0].indices)[0]
        assert row["id"] == items.id(i)
        assert row["label"] == i % 3
        assert row["mask"] is None
        assert row["shape"] == [list(expected.shape)]
        found = np.array(row["vectors"], dtype=np.float32).reshape(row["shape"][0])
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_the_entries_are_those_that_the_tokens_name(tmp_path: Path):
    model, items = tokenizer(sizes=(16, 300)), images()
    encode_features(model, items, tmp_path / "z_q", "z_q", batch_size=4)
    encode_dataset(model, items, tmp_path / "tokens", batch_size=4)
    tokens = TokenSet.open(tmp_path / "tokens")
    for i, row in enumerate(rows_of(tmp_path / "z_q")):
        assert [name for name in row if name.startswith("vectors")] == ["vectors_0", "vectors_1"]
        for level, quantizer in enumerate(model.quantizers):
            expected = quantizer.decode(tokens.codes(i).levels[level].indices)[0]
            found = np.array(row[f"vectors_{level}"], np.float32).reshape(row["shape"][level])
            np.testing.assert_array_equal(found, expected.numpy())


def test_vectors_without_a_place_are_one_row_each(tmp_path: Path):
    from vqkit.autoencoder import VQVAE
    from vqkit.modalities.vector import IdentityConfig, VectorModelConfig
    from vqkit.quantizers import EMAConfig

    config = VectorModelConfig(
        columns=6, network=IdentityConfig(), quantizer=EMAConfig(codebook_size=5)
    )
    model, x = VQVAE.from_config(config), torch.randn(30, 6)
    model.initialize([x], seed=0)
    encode_features(model, TensorExamples(x), tmp_path, "z_q")
    (path,) = tmp_path.iterdir()
    table = pd.read_parquet(path)
    found = np.stack([row[0] for row in table["vectors"]])
    expected = model.decode(model.encode(x))
    np.testing.assert_allclose(model.objective.distribution(torch.tensor(found)).mode(), expected)


def test_holes_are_marked_and_hold_zeros(tmp_path: Path):
    class Holed(TensorExamples):
        def example(self, index: int, seed: int | None = None) -> Example:
            item = super().example(index)
            mask = torch.ones(item.x.shape[1:], dtype=torch.bool)
            mask[:4, :4] = index % 2 == 0
            return Example(item.x, item.label, mask)

    items = Holed([images().example(i).x for i in range(6)])
    encode_features(tokenizer(), items, tmp_path, "z_e", batch_size=4)
    for i, row in enumerate(rows_of(tmp_path)):
        if i % 2 == 0:
            assert row["mask"] is None
        else:
            assert row["mask"] == [False, *[True] * 5]
            assert row["vectors"][0] == [0] * 4
            assert all(any(vector) for vector in row["vectors"][1:])


def test_the_schema_says_what_the_vectors_are(tmp_path: Path):
    model = tokenizer(sizes=(16, 300))
    encode_features(model, images(), tmp_path, "z_q", shard_size=10)
    schema = pq.read_schema(tmp_path / "features-00002-of-00003.parquet")
    found = json.loads(schema.metadata[b"vqkit"])
    assert len(found.pop("source")) == 64
    assert found == {
        "kind": "features",
        "format_version": 1,
        "tokenizer": model.fingerprint(),
        "labels": ["a", "<b>", "ç"],
        "side": "z_q",
        "levels": [{"grid": [2, 3], "dim": 4}, {"grid": [4, 6], "dim": 4}],
        "num_items": 23,
        "shard_size": 10,
        "num_shards": 3,
        "shard": 2,
    }
    assert "fixed_size_list<" in str(schema.field("vectors_0").type)


def test_an_encoding_that_was_stopped_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = encoded(tmp_path / "whole")
    model, calls = tokenizer(), []
    inputs = model.inputs

    def failing(*args, **keys):
        calls.append(1)
        if len(calls) > 5:
            raise Interrupt
        return inputs(*args, **keys)

    monkeypatch.setattr(model, "inputs", failing)
    folder = tmp_path / "stopped"
    with pytest.raises(Interrupt):
        encode_features(model, images(), folder, "z_e", batch_size=4, shard_size=10)
    assert contents(folder).items() < expected.items()
    assert len(contents(folder)) == 1  # the second shard was half-written
    assert encoded(folder) == expected


def test_files_of_another_kind_tokenizer_or_folder_are_refused(tmp_path: Path):
    encoded(tmp_path / "z_e")
    with pytest.raises(ValueError, match="holds z_e, now z_q is asked for; give another folder"):
        encoded(tmp_path / "z_e", "z_q")
    with pytest.raises(ValueError, match="is of tokenizer"):
        encoded(tmp_path / "z_e", seed=1)
    encode_dataset(tokenizer(), images(), tmp_path / "tokens")
    with pytest.raises(ValueError, match="is no feature set; give another folder for the features"):
        encoded(tmp_path / "tokens")
    with pytest.raises(FileNotFoundError, match=r"holds no tokens-\*.parquet"):
        TokenSet.open(tmp_path / "z_e")


def test_there_is_nothing_to_encode_of_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="batch_size is 0"):
        encode_features(tokenizer(), images(), tmp_path, "z_e", batch_size=0)


@pytest.mark.slow
def test_other_libraries_read_the_shards(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    model = tokenizer()
    encode_features(model, images(), tmp_path / "z", "z_q", batch_size=4, shard_size=10)
    files = str(tmp_path / "z" / "*.parquet")
    rows = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(rows) == 23
    expected = [row["vectors"] for row in rows_of(tmp_path / "z")]
    assert [row["vectors"] for row in rows] == expected
    frame = pd.concat([pd.read_parquet(path) for path in sorted((tmp_path / "z").iterdir())])
    np.testing.assert_array_equal(np.stack(frame["vectors"].iloc[7]), expected[7])
