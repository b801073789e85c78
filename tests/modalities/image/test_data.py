"""Images as examples, from the files to the batches."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from tests.data.files import encoded, picture, write_folder, write_idx, write_parquet

from vqkit.data import Examples, Loader, StatelessSampler, in_order, open_source
from vqkit.modalities.image import canvas
from vqkit.modalities.image.data import (
    ImageDataConfig,
    ImageExamples,
    open_all_images,
    open_images,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images of 10 x 12 in two classes."""
    names = [f"{'cats' if number % 3 else 'dogs'}/{number}.png" for number in range(10)]
    return write_folder(tmp_path / "data", names, 10, 12)


def config(path: Path, **options) -> ImageDataConfig:
    return ImageDataConfig(path=str(path), **options)


def pixels(examples: ImageExamples) -> dict[str, np.ndarray]:
    """Every image by its name."""
    return {examples.id(i): examples.example(i).x.numpy() for i in range(len(examples))}


def test_images_are_bytes_with_channels_first_and_a_label(folder: Path):
    images, unreadable = open_all_images(config(folder))
    assert isinstance(images, Examples)
    assert unreadable == ()
    assert images.shape == (3, 10, 12)
    assert images.labels == ("cats", "dogs")
    for name, x in pixels(images).items():
        number = int(name.split("/")[1].removesuffix(".png"))
        assert x.dtype == np.uint8
        assert np.array_equal(x, picture(number, 10, 12).transpose(2, 0, 1))
    assert images.example(0).label == 0
    assert images.describe(0) == f"{folder}/cats/1.png"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [None, 6, (5, 7), 40])
def test_all_images_have_the_size_and_the_channels_that_were_asked_for(
    folder: Path, channels: int, size
):
    images, _ = open_all_images(config(folder, size=size, channels=channels))
    sides = {None: (10, 12), 6: (6, 6), (5, 7): (5, 7), 40: (40, 40)}[size]
    assert images.shape == (channels, *sides)
    assert all(x.shape == images.shape for x in pixels(images).values())


def test_a_split_has_every_image_once_and_is_a_function_of_its_seed(folder: Path):
    splits = open_images(config(folder, eval_fraction=0.3))
    train, evaluation = pixels(splits.train), pixels(splits.evaluation)
    assert (len(train), len(evaluation)) == (7, 3)
    assert len({*train, *evaluation}) == 10
    again = open_images(config(folder, eval_fraction=0.3))
    assert pixels(again.evaluation).keys() == evaluation.keys()
    others = [open_images(config(folder, eval_fraction=0.3, split_seed=s)) for s in range(1, 4)]
    assert any(pixels(other.evaluation).keys() != evaluation.keys() for other in others)


def test_too_few_images_for_a_split_are_refused(tmp_path: Path):
    path = write_folder(tmp_path, ["a.png"])
    with pytest.raises(
        ValueError, match="at least 2 items, here are 1: add data, or name others by"
    ):
        open_images(config(path))


def test_explicit_splits_are_used_as_they_are(tmp_path: Path):
    write_folder(tmp_path / "1" / "train", ["a/1.png", "b/2.png"])
    write_folder(tmp_path / "1" / "test", ["a/3.png"])
    other = write_folder(tmp_path / "2", ["b/4.png"])
    splits = open_images(config(tmp_path / "1"))
    assert [*pixels(splits.train), *pixels(splits.evaluation)] == ["a/1.png", "b/2.png", "a/3.png"]
    splits = open_images(config(tmp_path / "1", eval_path=str(other)))
    assert [*pixels(splits.evaluation)] == ["b/4.png"]
    assert splits.evaluation.example(0).label == 1  # numbered as in training


def test_splits_of_unequal_sizes_need_a_size(tmp_path: Path):
    write_folder(tmp_path / "train", ["1.png"], 8, 8)
    write_folder(tmp_path / "test", ["1.png"], 9, 8)
    with pytest.raises(ValueError, match=r"\(3, 8, 8\), for evaluation \(3, 9, 8\).* set d"):
        open_images(config(tmp_path))
    assert open_images(config(tmp_path, size=8)).evaluation.shape == (3, 8, 8)


def spoil(folder: Path) -> None:
    (folder / "cats" / "bad.jpg").write_bytes(encoded(picture(0, 64, 64), "jpeg")[:300])
    (folder / "cats" / "empty.png").write_bytes(b"")
    (folder / "dogs" / "text.webp").write_text("not an image")
    (folder / "dogs" / "lost.png").symlink_to("nowhere.png")


def test_unreadable_images_are_listed_and_the_others_are_used(folder: Path, tmp_path: Path):
    whole = open_images(config(folder))
    spoil(folder)
    splits = open_images(config(folder), folder=tmp_path / "run")
    assert [line.split(" ")[0] for line in splits.unreadable] == [
        f"{folder}/{name}"
        for name in ("cats/bad.jpg", "cats/empty.png", "dogs/lost.png", "dogs/text.webp")
    ]
    assert "is cut or damaged" in splits.unreadable[0]
    assert "is empty" in splits.unreadable[1]
    assert pixels(splits.train).keys() == pixels(whole.train).keys()
    assert pixels(splits.evaluation).keys() == pixels(whole.evaluation).keys()
    assert open_images(config(folder), folder=tmp_path / "run").unreadable == splits.unreadable


def test_strict_refuses_what_cannot_be_read(folder: Path, tmp_path: Path):
    spoil(folder)
    with pytest.raises(
        ValueError, match=r"4 of 14 items cannot .* first: .*bad.jpg is cut"
    ) as error:
        open_images(config(folder, strict=True), folder=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_run_finds_out_that_its_data_changed(folder: Path, tmp_path: Path):
    evaluation = write_folder(tmp_path / "eval", ["a/1.png"], 10, 12)
    chosen = config(folder, eval_path=str(evaluation))
    open_images(chosen, folder=tmp_path / "run")
    open_images(chosen, folder=tmp_path / "run")
    write_folder(evaluation, ["a/2.png"], 10, 12)
    with pytest.raises(ValueError, match=r"data changed since the run began: .*eval had 1 items"):
        open_images(chosen, folder=tmp_path / "run")


def test_images_of_several_sizes_need_a_size(folder: Path):
    write_folder(folder, ["cats/odd.png"], 12, 10)
    with pytest.raises(ValueError, match=r"1.png is 10 x 12, .*odd.png is 12 x 10\); set da"):
        open_images(config(folder))


def test_an_image_that_changed_its_size_since_it_was_indexed_is_an_error_that_names_it(
    folder: Path,
):
    images, _ = open_all_images(config(folder, cache_mb=0))
    (folder / "cats" / "1.png").write_bytes(encoded(picture(0, 9, 12)))
    with pytest.raises(ValueError, match=r"item 0 \(.*cats/1.png\): is 9 x 12, .* set data.size"):
        list(in_order(images, 4))


@pytest.mark.parametrize(
    "array", [np.zeros((4, 6, 6)), np.zeros((4, 16), np.uint8), np.zeros((4, 6, 6, 2), np.uint8)]
)
def test_arrays_that_are_no_images_are_refused_at_once(tmp_path: Path, array: np.ndarray):
    np.save(tmp_path / "a.npy", array)
    for options in ({}, {"size": 4}, {"size": 4, "crop": "random"}):
        with pytest.raises(ValueError, match=r"a.npy row 0 has (values|shape)"):
            open_images(config(tmp_path / "a.npy", **options))


def test_the_same_seed_gives_the_same_crop_and_another_seed_another(folder: Path):
    splits = open_images(config(folder, size=6, resize="none", crop="random", flip=True))
    train = splits.train
    first = [train.example(0, seed).x for seed in range(50)]
    again = [train.example(0, seed).x for seed in range(50)]
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert len({x.numpy().tobytes() for x in first}) > 20  # of 5 * 7 * 2 windows
    assert torch.equal(train.example(0).x, train.example(0).x)


@pytest.mark.parametrize("flip", [False, True])
def test_a_random_window_is_any_window_of_the_image_mirrored_or_not(folder: Path, flip: bool):
    images, _ = open_all_images(
        config(folder, size=(8, 9), resize="none", crop="random", flip=flip)
    )
    train = ImageExamples(images.source, images.config, augment=True)
    whole = picture(1, 10, 12).transpose(2, 0, 1)
    windows = {
        image[:, top : top + 8, left : left + 9].tobytes(): (top, left, mirrored)
        for mirrored, image in enumerate((whole, whole[:, :, ::-1])[: 1 + flip])
        for top in range(3)
        for left in range(4)
    }
    seen = [windows[train.example(0, seed).x.numpy().tobytes()] for seed in range(600)]
    counts = {window: seen.count(window) for window in set(seen)}
    assert len(counts) == len(windows)
    expected = 600 / len(windows)
    assert all(abs(n - expected) < 5 * expected**0.5 for n in counts.values())


def test_evaluation_is_never_augmented(folder: Path):
    splits = open_images(config(folder, size=6, resize="none", crop="random", flip=True))
    name = splits.evaluation.id(0)
    whole = picture(int(name.split("/")[1].removesuffix(".png")), 10, 12).transpose(2, 0, 1)
    for seed in (None, 0, 1, 2):
        assert np.array_equal(splits.evaluation.example(0, seed).x, whole[:, 2:8, 3:9])
    assert np.array_equal(splits.train.example(0).x, splits.train.example(0, None).x)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": 6},
        {"size": 6, "crop": "random", "flip": True},
        {"size": 6, "resize": "none", "crop": "random"},
        {"size": (5, 9), "resize": "pad", "channels": 1},
    ],
)
def test_kept_images_are_those_that_are_decoded_anew(folder: Path, options: dict):
    kept, anew = (
        open_images(config(folder, cache_mb=cache_mb, **options)).train for cache_mb in (1, 0)
    )
    for index in range(len(kept)):
        for seed in (None, 1, 2, 1):
            first, second = kept.example(index, seed), anew.example(index, seed)
            assert torch.equal(first.x, second.x)
            assert first.label == second.label


def count_decoding(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows with every image that is decoded."""
    seen: list[int] = []
    original = canvas.decode

    def counted(value, channels, *, enough):
        seen.append(1)
        return original(value, channels, enough=enough)

    monkeypatch.setattr(canvas, "decode", counted)
    return seen


@pytest.mark.parametrize("options", [{}, {"size": 6}, {"size": 6, "crop": "random"}])
def test_the_index_pass_keeps_what_it_decodes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict
):
    seen = count_decoding(monkeypatch)
    splits = open_images(config(folder, **options))
    assert len(seen) == 10
    pixels(splits.train)
    pixels(splits.evaluation)
    assert len(seen) == 10


def test_what_does_not_fit_into_memory_is_decoded_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    images, _ = open_all_images(config(folder, size=300, cache_mb=1))  # 270,000 bytes each
    seen = count_decoding(monkeypatch)
    pixels(images)
    assert len(seen) == 10 - 3


def test_changing_an_example_changes_no_other(folder: Path):
    images, _ = open_all_images(config(folder))
    before = images.example(0).x.clone()
    images.example(0).x.fill_(0)
    assert torch.equal(images.example(0).x, before)


def test_workers_share_what_they_decode(folder: Path, tmp_path: Path):
    open_images(config(folder, size=6), folder=tmp_path / "run")
    train = open_images(
        config(folder, size=6), folder=tmp_path / "run"
    ).train  # nothing decoded yet
    list(in_order(train, 2, num_workers=1))
    for path in folder.rglob("*.png"):
        path.unlink()
    assert len(pixels(train)) == 9  # from memory: the files are gone


@pytest.mark.parametrize("kind", ["folder", "parquet", "idx"])
def test_a_pickled_copy_gives_the_same_images(kind: str, tmp_path: Path):
    if kind == "folder":
        path = write_folder(tmp_path / "data", ["a/1.png", "b/2.png", "b/3.png"])
    elif kind == "parquet":
        path = write_parquet(tmp_path / "a.parquet", 3, labels=[0, 1, 1])
    else:
        path = write_idx(tmp_path / "images-idx3-ubyte", np.arange(300).reshape(3, 10, 10))
    train = open_images(config(path, size=6, crop="random")).train
    copy = pickle.loads(pickle.dumps(train))
    assert torch.equal(copy.example(1, 5).x, train.example(1, 5).x)
    assert copy.fingerprint == train.fingerprint
    assert copy.id(1) == train.id(1)


def test_batches_do_not_depend_on_workers_ranks_or_where_the_run_goes_on(folder: Path):
    train = open_images(config(folder, size=6, crop="random", flip=True)).train

    def batches(num_workers: int, first: int, rank: int = 0, world: int = 1) -> list[torch.Tensor]:
        sampler = StatelessSampler(len(train), 4, seed=1, rank=rank, world_size=world)
        with Loader(
            train, sampler, first_step=first, last_step=6, num_workers=num_workers
        ) as loader:
            return [batch.x for (batch,) in loader]

    whole = batches(0, 0)
    assert all(torch.equal(x, y) for x, y in zip(batches(2, 0), whole, strict=True))
    assert all(torch.equal(x, y) for x, y in zip(batches(1, 4), whole[4:], strict=True))
    halves = zip(batches(0, 0, 0, 2), batches(2, 0, 1, 2), strict=True)
    assert all(torch.equal(torch.cat(x), y) for x, y in zip(halves, whole, strict=True))


def test_the_fingerprint_is_that_of_the_data_their_choice_and_their_size(folder: Path):
    splits = open_images(config(folder))
    fingerprints = [
        splits.train.fingerprint,
        splits.evaluation.fingerprint,
        open_images(config(folder, size=6)).train.fingerprint,
        open_images(config(folder, size=6, channels=1)).train.fingerprint,
        open_images(config(folder, eval_fraction=0.4)).train.fingerprint,
    ]
    assert len(set(fingerprints)) == 5
    assert open_images(config(folder, cache_mb=0)).train.fingerprint == fingerprints[0]


def test_no_images_are_refused(folder: Path):
    source = open_source(str(folder))
    with pytest.raises(ValueError, match="there are no images"):
        ImageExamples(source, config(folder), numbers=[])


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"size": (4, 0)},
        {"channels": 2},
        {"resize": "zoom"},
        {"eval_fraction": 1},
        {"cache_mb": -1},
        {"sizes": 4},
    ],
)
def test_impossible_configs_are_refused(options: dict):
    with pytest.raises(ValidationError):
        ImageDataConfig(path="digits", **options)


def test_a_config_is_the_same_after_it_was_written():
    adapter = TypeAdapter(ImageDataConfig)
    for size in (None, 32, (24, 32)):
        written = ImageDataConfig(path="digits", size=size, crop="random")
        assert adapter.validate_python(adapter.dump_python(written, mode="json")) == written


def test_images_of_every_mode_can_stand_in_one_folder(tmp_path: Path):
    rgb = Image.fromarray(picture(0, 9, 7))
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"):
        image = Image.new("I;16", (7, 9), 3000) if mode == "I;16" else rgb.convert(mode)
        kind = "tiff" if mode == "CMYK" else "png"
        (tmp_path / f"{mode.replace(';', '')}.{kind}").write_bytes(encoded(image, kind))
    images, unreadable = open_all_images(config(tmp_path, size=8))
    assert unreadable == ()
    batch = next(in_order(images, 8))
    assert batch.x.shape == (8, 3, 8, 8)
    assert batch.mask is None
