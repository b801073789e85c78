"""Tokens of texts: encoded those of one length together, kept and restored in their order."""

from pathlib import Path

import pytest
import torch
from tests.modalities.text import texts

from vqkit.cli.token_parts import TokenPart
from vqkit.data import TensorExamples
from vqkit.tokens import TokenSet, decode_dataset, encode_dataset
from vqkit.tokens.decode import have_files
from vqkit.tokens.sizes import alike

NUM = 40


@pytest.mark.parametrize("decoder", ["parallel", "autoregressive"])
def test_tokens_are_those_of_each_text_alone_and_give_one_file_in_order(
    tmp_path: Path, decoder: str
):
    model, examples = texts.model(decoder).eval(), texts.many(NUM)
    encode_dataset(model, examples, tmp_path / "tokens", batch_size=8, shard_size=25)
    tokens = TokenSet.open(tmp_path / "tokens")
    written = b""
    for i in range(NUM):
        x = examples.example(i).x.unsqueeze(0)
        codes = model.encode(x)
        assert tokens.codes(i).flat().equal(codes.flat())
        assert tokens.id(i) == examples.id(i)
        written += model.objective.symbols.text(model.decode(codes)[0])
    decode_dataset(model, tokens, tmp_path / "out", batch_size=8)
    assert (tmp_path / "out" / "text.txt").read_bytes() == written
    assert not have_files(tokens, ".txt")
    assert tokens.lengths == [examples.lengths[i] // 2 for i in range(NUM)]
    part = TokenPart(tokens, [5, 3])
    assert part.lengths == [tokens.lengths[5], tokens.lengths[3]]


def test_items_of_one_length_come_together_where_lengths_are_told():
    examples = texts.many(NUM)
    order = alike(examples, range(10, NUM))
    lengths = [examples.lengths[i] for i in order]
    assert lengths == sorted(lengths)
    assert sorted(order) == list(range(10, NUM))
    others = TensorExamples(torch.zeros(5, 3))
    assert alike(others, range(5)) == range(5)
