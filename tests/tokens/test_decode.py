"""What must hold for images restored from tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tokens.models import images, tokenizer

from vqkit.autoencoder import VQVAE
from vqkit.codes import Codes
from vqkit.data import TensorExamples
from vqkit.tokens import TokenSet, decode_dataset, encode_dataset


def made(folder: Path, *, ragged: bool = False) -> tuple[VQVAE, TensorExamples, TokenSet]:
    """A tokenizer, images and their tokens."""
    model, examples = tokenizer(sizes=(16, 300)), images(ragged=ragged)
    encode_dataset(model, examples, folder, batch_size=4, shard_size=10)
    return model, examples, TokenSet.open(folder)


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path)))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_round_trip_equals_the_models_own_reconstruction_bit_for_bit(tmp_path: Path):
    model, examples, tokens = made(tmp_path / "tokens")
    decode_dataset(model, tokens, tmp_path / "out", batch_size=5)
    x = torch.stack([examples.example(i).x for i in range(23)])
    for start in range(0, 20, 5):
        own = model(x[start : start + 5]).reconstruction
        levels = ((own + 1) * 127.5).round().to(torch.uint8)
        for i, expected in enumerate(levels, start):
            assert torch.equal(pixels(tmp_path / "out" / f"{i:02d}.png"), expected[0])
    assert len(list((tmp_path / "out").glob("*.png"))) == 23


def test_decoded_values_equal_the_reconstruction_before_rounding(tmp_path: Path):
    model, examples, tokens = made(tmp_path / "tokens")
    x = torch.stack([examples.example(i).x for i in range(23)])
    codes = Codes.cat([tokens.codes(i) for i in range(23)])
    assert torch.equal(model.decode(codes), model(x).reconstruction)


def test_items_of_unequal_sizes_are_restored_each_at_its_own_size(tmp_path: Path):
    model, examples, tokens = made(tmp_path / "tokens", ragged=True)
    decode_dataset(model, tokens, tmp_path / "out", batch_size=4)
    for i in range(23):
        own = model(examples.example(i).x.unsqueeze(0)).reconstruction
        found = pixels(tmp_path / "out" / f"{i:02d}.png").float() / 127.5 - 1
        assert found.shape == own.shape[2:]
        assert (found - own[0, 0]).abs().max() <= 1.001 / 255


def test_images_that_are_there_are_kept_and_missing_ones_written(tmp_path: Path):
    model, _, tokens = made(tmp_path / "tokens")
    out = tmp_path / "out"
    decode_dataset(model, tokens, out, batch_size=4)
    expected = contents(out)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "07.png").unlink()
    (out / ".07.png.4711.part").write_bytes(b"half")  # of a run that was killed
    decode_dataset(model, tokens, out, batch_size=4)
    assert contents(out) == expected
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {"07.png"}


def test_a_folder_that_holds_anything_else_is_left_alone(tmp_path: Path):
    model, _, tokens = made(tmp_path / "tokens")
    out = tmp_path / "photos"
    out.mkdir()
    (out / "03.png").write_bytes(b"somebody's only photo")
    with pytest.raises(ValueError, match="photos is not empty; give a new folder"):
        decode_dataset(model, tokens, out)
    assert contents(out) == {str(out / "03.png"): b"somebody's only photo"}


def test_images_of_other_tokens_are_not_mixed_in(tmp_path: Path):
    model, _, tokens = made(tmp_path / "tokens")
    decode_dataset(model, tokens, tmp_path / "out")
    encode_dataset(model, images(22), tmp_path / "fewer")
    before = contents(tmp_path / "out")
    with pytest.raises(ValueError, match="holds the images of other tokens"):
        decode_dataset(model, TokenSet.open(tmp_path / "fewer"), tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_tokens_of_another_tokenizer_are_refused_before_anything_is_written(tmp_path: Path):
    _, _, tokens = made(tmp_path / "tokens")
    with pytest.raises(ValueError, match="were made by tokenizer"):
        decode_dataset(tokenizer(1, sizes=(16, 300)), tokens, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_id_leads_out_of_the_folder(tmp_path: Path):
    class Hostile(TensorExamples):
        names = ("../../x", "/absolute", "..", "a/b", "a\\b", "")

        def id(self, index: int) -> str:
            return self.names[index % 6]

    model = tokenizer()
    encode_dataset(model, Hostile([images().example(i).x for i in range(12)]), tmp_path / "tokens")
    decode_dataset(model, TokenSet.open(tmp_path / "tokens"), tmp_path / "deep" / "out")
    inside = set((tmp_path / "deep" / "out").rglob("*.png"))
    assert len(inside) == 12
    assert set(tmp_path.rglob("*.png")) == inside
    assert not (tmp_path.parent / "x.png").exists()


def test_ranks_take_batches_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model, _, tokens = made(tmp_path / "tokens")
    decode_dataset(model, tokens, tmp_path / "one", batch_size=4)
    for rank in (0, 1):
        monkeypatch.setattr("vqkit.tokens.decode.rank", lambda rank=rank: rank)
        monkeypatch.setattr("vqkit.tokens.decode.world_size", lambda: 2)
        decode_dataset(model, tokens, tmp_path / "two", batch_size=4)
        found = {int(path.stem) // 4 % 2 for path in (tmp_path / "two").glob("*.png")}
        assert found == ({0} if rank == 0 else {0, 1})
    names = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert names == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
