"""What holds for every modality: from the shapes of one item to a run that was killed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.modalities.cases import CASES, Case, resized
from tests.training import tiny
from torch import Tensor
from torch.testing import assert_close

from vqkit import distributed
from vqkit.autoencoder import VQVAE
from vqkit.cli import run
from vqkit.cli.failures import guarded
from vqkit.config import RunConfig
from vqkit.data import Batch, Example, Items, collate
from vqkit.means import Mean
from vqkit.tokens.names import file_names
from vqkit.training import fit
from vqkit.training.loop import Trainer

BY_NAME = {case.name: case for case in CASES}
PRIOR = ["prior.layers=1", "prior.width=16", "prior.heads=2", "train.steps=3"]
PRIOR += ["train.batch_size=8", "train.device=cpu"]


@dataclass(frozen=True)
class Made:
    """What the commands made of the data of a case, one item at a time."""

    case: Case
    folder: Path

    @property
    def config(self) -> RunConfig:
        return self.case.config(self.folder)

    @property
    def items(self) -> Items:
        return self.config.data.open_all()[0]

    @property
    def model(self) -> VQVAE:
        return VQVAE.from_pretrained(self.folder / "run")

    def path(self, name: str) -> Path:
        return self.folder / name

    def call(self, *words: object) -> int:
        return guarded(run, [str(word) for word in words])


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A tokenizer, its tokens and a prior, by the commands."""
    found = Made(request.param, tmp_path_factory.mktemp(request.param.name))
    config = found.case.write(found.folder)
    home, data = found.path, found.config.data.path
    for words in (
        ["train", config, "-o", home("run")],
        ["encode", home("run"), data, home("tokens"), "--batch-size", 1],
        ["train-prior", home("tokens"), *PRIOR, "-t", home("run"), "-o", home("prior")],
    ):
        assert found.call(*words) == 0
    return found


def examples(made: Made, num: int = 4) -> list[Example]:
    items = made.items
    return [items.example(i) for i in range(num)]


def alone(example: Example) -> tuple[Tensor, Tensor | None]:
    """An item as a batch of one."""
    batch = collate([example], [0])
    return batch.x, batch.mask


def test_items_of_any_length_have_codes_and_come_back_as_long_as_they_were(made: Made):
    model = made.model
    for grid in made.case.grids:
        for example in examples(made):
            x, _ = alone(Example(resized(example.x, grid)))
            out, codes = model(x), model.encode(x)
            assert out.reconstruction.shape == x.shape
            assert len(codes.levels) == len(model.quantizers)
            for level, own in zip(codes.levels, out.codes.levels, strict=True):
                assert level.indices.dtype == torch.int64
                assert level.indices.shape == (1, *level.spec.grid, len(level.codebook_sizes))
                sizes = torch.tensor(level.codebook_sizes)
                assert ((level.indices >= 0) & (level.indices < sizes)).all()
                assert torch.equal(level.indices, own.indices)
            decoded = model.decode(codes)
            assert decoded.shape[:2] == x.shape[:2]
            assert all(a >= b for a, b in zip(decoded.shape[2:], x.shape[2:], strict=True))


def test_an_item_has_the_same_codes_in_a_batch_as_alone(made: Made):
    model = made.model
    for grid in made.case.grids:
        same = [Example(resized(each.x, grid)) for each in examples(made)]
        batch = model.encode(collate(same, range(4)).x)
        for i, example in enumerate(same):
            assert torch.equal(batch[i : i + 1].flat(), model.encode(alone(example)[0]).flat())


def masked(made: Made) -> tuple[Batch, list[Example]]:
    """A batch with an item that is not real at all, and its real items.

    Where the modality packs, they have unequal lengths.
    """
    grids = made.case.grids if made.case.packs else made.case.grids[:1]
    real = [
        Example(resized(each.x, grids[i % len(grids)])) for i, each in enumerate(examples(made))
    ]
    batch = collate([*real, real[-1]], range(5))
    mask = batch.x.new_ones(5, *batch.x.shape[2:]).bool() if batch.mask is None else batch.mask
    x, mask = batch.x.clone(), mask.clone()
    x[-1] = x[-1].flip(-1)
    mask[-1] = False
    return Batch(x, mask, None, batch.positions), real


def test_a_masked_batch_has_the_objectives_and_terms_of_its_items_alone(made: Made):
    model = made.model
    batch, real = masked(made)
    with torch.no_grad():
        whole = model(batch.x, batch.mask)
        parts = [model(*alone(example)) for example in real]
    for kind in ("objectives", "terms"):
        found: dict[str, Mean] = getattr(whole, kind)
        for name, mean in found.items():
            own: list[Mean] = [getattr(part, kind)[name] for part in parts]
            assert int(mean.count) == sum(int(each.count) for each in own), name
            expected = torch.stack([each.total for each in own]).sum()
            assert_close(mean.total, expected, rtol=1e-4, atol=1e-5)


def test_a_masked_batch_has_the_codes_of_its_items_alone(made: Made):
    model = made.model
    batch, real = masked(made)
    codes = model.encode(batch.x, batch.mask)
    for level in codes.levels:
        assert level.mask is not None
        assert not level.mask[-1].any()
        assert not level.indices[~level.mask].any()
    for i, example in enumerate(real):
        for level, own in zip(codes.levels, model.encode(*alone(example)).levels, strict=True):
            assert level.mask is not None
            kept = own.indices[0] if own.mask is None else own.indices[0][own.mask[0]]
            found = level.indices[i][level.mask[i]]
            assert torch.equal(found, kept.reshape(found.shape))


def test_a_masked_batch_has_the_metrics_of_its_items_alone(made: Made):
    model, kind = made.model, made.model.objective.modality
    batch, real = masked(made)
    whole, apart = kind.metrics("cpu"), kind.metrics("cpu")
    with torch.no_grad():
        parts = [model(*alone(example)).reconstruction for example in real]
    reconstruction = torch.zeros_like(collate([Example(p[0]) for p in parts], range(4)).x)
    reconstruction = torch.cat([reconstruction, reconstruction[:1]])
    for i, part in enumerate(parts):
        box = tuple(slice(length) for length in part.shape[2:])
        reconstruction[(i, slice(None), *box)] = part[0]
        apart.add(*(alone(real[i])[0], part))
    whole.add(batch.x, reconstruction, batch.mask)
    found, expected = whole.results(), apart.results()
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_tokens_become_files_of_the_models_own_reconstructions(made: Made, tmp_path: Path):
    out = tmp_path / "decoded"
    assert made.call("decode", made.path("run"), made.path("tokens"), out, "--batch-size", 1) == 0
    model, items = made.model, made.items
    kind = model.objective.modality
    own = []
    for i in range(len(items)):
        x, mask = alone(items.example(i))
        whole = kind.stored(model.decode(model.encode(x, mask))).cpu()
        own.append(whole[(0, slice(None), *map(slice, x.shape[2:]))])  # as long as the item
    expected = tmp_path / "expected"
    expected.mkdir()
    if kind.collection is not None and (out / kind.collection).exists():
        kind.save_all(expected / kind.collection, own)
    else:
        names = file_names((items.id(i) for i in range(len(items))), kind.suffix)
        for name, item in zip(names, own, strict=True):
            (expected / name).parent.mkdir(parents=True, exist_ok=True)
            kind.save(expected / name, item)
    found = {p.relative_to(expected): p.read_bytes() for p in expected.rglob("*") if p.is_file()}
    assert found
    for name, content in found.items():
        assert (out / name).read_bytes() == content, name


COMMANDS: dict[str, Callable[[Callable[[str], Path]], list[object]]] = {
    "inspect": lambda home: ["inspect", home("run")],
    "probe": lambda home: ["probe", home("run")],
    "encode": lambda home: ["encode", home("run"), home("data"), home("z"), "--features", "z_q"],
    "export": lambda home: ["export", home("tokens"), home("export"), "--format", "bin-idx"],
    "sample": lambda home: ["sample", home("prior"), "-n", 2, "-o", home("samples")],
    "evaluate": lambda home: ["evaluate", home("run")],
    "evaluate a prior": lambda home: ["evaluate", home("prior"), "--samples", 0],
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n.startswith("evaluate") else ()) for n in COMMANDS],
)
def test_every_command_works(made: Made, name: str, capsys: pytest.CaptureFixture[str]):
    def home(part: str) -> Path:
        return Path(made.config.data.path) if part == "data" else made.path(part)

    assert made.call(*COMMANDS[name](home)) == 0, capsys.readouterr().err
    if name == "probe":
        found = json.loads(made.path("run").joinpath("probe.json").read_text())
        assert found["modality"] == made.case.name
        assert found["features"]["input"]["accuracy"] >= 0


class KilledError(Exception):
    """What a test stops a run with."""


def train(config: RunConfig, folder: Path | None, *, double: bool = False) -> VQVAE:
    """What ``vqkit train`` does, from Python."""
    items = config.data.open()
    torch.manual_seed(config.train.seed)
    first = items.train.example(0, config.train.seed).x
    model = VQVAE.from_config(config.model.fitted(first.shape))
    model = model.double() if double else model
    fit(model, items.train, config.train, folder=folder, eval_examples=items.evaluation)
    return model


def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train(made.config, tmp_path / "whole")
    check = Trainer._check

    def deadly(self: Trainer, step: int, *args) -> int:
        if step == 3:
            raise KilledError
        return check(self, step, *args)

    monkeypatch.setattr(Trainer, "_check", deadly)
    with pytest.raises(KilledError):
        train(made.config, tmp_path / "killed")
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    monkeypatch.undo()
    train(made.config, tmp_path / "killed")
    whole, killed = (tmp_path / n / "model.safetensors" for n in ("whole", "killed"))
    assert killed.read_bytes() == whole.read_bytes()


def train_a_share(folder: Path, name: str) -> None:
    model = train(BY_NAME[name].config(folder), None, double=True)
    save_file(tiny.state(model), folder / f"{distributed.rank()}.safetensors")


@pytest.mark.slow
def test_two_processes_with_half_the_batch_equal_one(made: Made, tmp_path: Path):
    (tmp_path / "run.yaml").write_text((made.folder / "run.yaml").read_text())
    assert tiny.run_pair(train_a_share, tmp_path / "store", tmp_path, made.case.name) == [0, 0]
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert_close(first, second, rtol=0, atol=0)
    alone = tiny.state(train(made.config, None, double=True))
    assert_close(first, alone, rtol=0, atol=1e-9)
