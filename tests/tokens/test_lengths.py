"""Items of any length come back from their tokens at exactly their own length."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from tests.modalities.audio.sounds import RATE, model, signals
from tests.tokens.models import images, tokenizer

from vqkit.data import TensorExamples
from vqkit.tokens import TokenSet, decode_dataset, encode_dataset

LENGTHS = [1, 7, 8, 9, 64, 50, 50, 123]


def examples() -> TensorExamples:
    return TensorExamples([signals(1, length, seed=i)[0] for i, length in enumerate(LENGTHS)])


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_files_have_exactly_the_length_of_what_was_encoded(
    tmp_path: Path, delay: int, batch_size: int
):
    made = model(delay=delay)
    encode_dataset(made, examples(), tmp_path / "tokens", batch_size=batch_size)
    tokens = TokenSet.open(tmp_path / "tokens")
    assert [tokens.size(i) for i in range(len(tokens))] == [(length,) for length in LENGTHS]
    decode_dataset(made, tokens, tmp_path / "out", batch_size=batch_size)
    for i, length in enumerate(LENGTHS):
        samples, rate = soundfile.read(tmp_path / "out" / f"{i}.wav", dtype="int16")
        assert (len(samples), rate) == (length, RATE)
        x = examples().example(i).x.unsqueeze(0)
        expected = made.objective.modality.stored(made.decode(made.encode(x)))
        difference = torch.from_numpy(samples).int() - expected[0, 0, :length].int()
        assert difference.abs().max() <= 1


def test_a_set_without_sizes_opens_and_decodes_whole_codes(tmp_path: Path):
    made = model()
    encode_dataset(made, examples(), tmp_path / "tokens")
    (shard,) = (tmp_path / "tokens").iterdir()
    table = pq.read_table(shard)
    pq.write_table(table.drop_columns(["size"]), shard)  # as they were before there were sizes
    tokens = TokenSet.open(tmp_path / "tokens")
    assert tokens.size(0) is None
    decode_dataset(made, tokens, tmp_path / "out")
    samples, _ = soundfile.read(tmp_path / "out" / "3.wav")
    assert len(samples) == 16  # two codes


def test_items_of_one_size_say_nothing_of_it(tmp_path: Path):
    encode_dataset(tokenizer(), images(3), tmp_path)
    assert "size" not in pq.read_schema(next(tmp_path.iterdir())).names
    assert TokenSet.open(tmp_path).size(2) is None
