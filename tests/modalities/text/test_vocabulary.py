"""Texts in the pieces of a vocabulary."""

import sys
from pathlib import Path

import pytest
import torch
from tests.modalities.text.texts import network

from vqkit.autoencoder import VQVAE
from vqkit.modalities.text import TextDataConfig, TextModelConfig, Vocabulary, corrections, restore
from vqkit.modalities.text.vocabulary import byte_letters, open_vocabulary
from vqkit.quantizers import EMAConfig

TEXT = "to be or not to be, that is the question: ä \u202e \U0001f600\n" * 3


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A byte-level vocabulary of 300 pieces."""
    from tokenizers import ByteLevelBPETokenizer

    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([TEXT], vocab_size=300, special_tokens=["<end>"])
    tokenizer.save(str(path))
    return str(path)


def test_letters_of_bytes_are_those_of_the_library():
    from tokenizers.pre_tokenizers import ByteLevel

    assert set(byte_letters()) == set(ByteLevel.alphabet())
    assert sorted(byte_letters().values()) == list(range(256))


def test_pieces_joined_are_the_text(vocabulary: str, tmp_path: Path):
    own = Vocabulary(vocabulary)
    symbols = own.cut(TEXT.encode())
    assert b"".join(own.symbols.table[s] for s in symbols.tolist()) == TEXT.encode()
    assert len(symbols) < len(TEXT.encode()) / 2
    assert own.symbols.table[own.tokenizer.token_to_id("<end>") + 1] == b"<end>"
    (tmp_path / "t.txt").write_text(TEXT)
    config = TextDataConfig(path=str(tmp_path / "t.txt"), vocabulary=vocabulary, patch=4)
    found, unreadable = config.open_all()
    assert unreadable == ()
    assert b"".join(config.symbols.text(found.example(i).x) for i in range(3)) == TEXT.encode()


def test_a_vocabulary_that_changes_a_text_is_no_reason_to_lose_it_silently(tmp_path: Path):
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer(lowercase=True)
    tokenizer.train_from_iterator([TEXT], vocab_size=300)
    tokenizer.save(str(tmp_path / "small.json"))
    (tmp_path / "t.txt").write_text("Upper\nlower\n")
    config = TextDataConfig(path=str(tmp_path / "t.txt"), vocabulary=str(tmp_path / "small.json"))
    found, unreadable = config.open_all()
    assert len(found) == 1
    assert "line 1 is not given back by the vocabulary small.json" in unreadable[0]


def test_a_model_keeps_its_pieces_and_opens_without_the_file(vocabulary: str, tmp_path: Path):
    gone = tmp_path / "gone.json"
    gone.write_bytes(Path(vocabulary).read_bytes())
    config = TextModelConfig(
        network=network(), quantizer=EMAConfig(codebook_size=8), vocabulary=str(gone)
    )
    torch.manual_seed(0)
    model = VQVAE.from_config(config.fitted((1, 2))).eval()
    cut = open_vocabulary(str(gone)).cut
    model.initialize([torch.randint(1, 257, (8, 1, 12))], seed=0)
    model.save_pretrained(tmp_path / "model")
    gone.unlink()
    again = VQVAE.from_pretrained(tmp_path / "model")
    assert again.objective.symbols.table == model.objective.symbols.table
    assert again.fingerprint() == model.fingerprint()
    found = corrections(again, TEXT, cut)
    assert restore(again, found) == TEXT
    assert again.objective.modality.num_dims(torch.tensor([[[0, 1]]])).item() == 5  # <end>


def test_data_and_model_have_one_vocabulary(vocabulary: str):
    data = TextDataConfig(path="t.txt", vocabulary=vocabulary)
    with pytest.raises(ValueError, match=r"data.vocabulary is .*json, model.vocabulary None; make"):
        TextModelConfig().check_data(data)
    with pytest.raises(
        ValueError, match=r"data.patch is 3, model.network.patch 2; make them equal"
    ):
        TextModelConfig().check_data(TextDataConfig(path="t.txt", patch=3))
    with pytest.raises(ValueError, match=r"num_symbols is 300, but there are 257"):
        TextModelConfig(num_symbols=300).parts()


def test_files_that_are_no_such_vocabulary_are_refused(tmp_path: Path):
    from tokenizers import Tokenizer, models

    with pytest.raises(FileNotFoundError, match=r"none.json, which is not there"):
        Vocabulary(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match=r"bad.json is no vocabulary of tokenizers"):
        Vocabulary(str(tmp_path / "bad.json"))
    words = Tokenizer(models.WordLevel({"two words": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.save(str(tmp_path / "words.json"))
    with pytest.raises(ValueError, match=r"not spelled in bytes; give a byte-level vocabulary"):
        Vocabulary(str(tmp_path / "words.json"))


def test_without_the_library_the_extra_is_named(vocabulary: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r'pip install "vqkit\[text\]"'):
        Vocabulary(vocabulary)
