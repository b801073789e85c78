"""What must hold when the codebooks of a model are refitted, pruned, extended and saved."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.autoencoder.models import built, images, levels, small
from torch import Tensor
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.modalities.image import GaussianObjective
from vqkit.quantizers import (
    EMAConfig,
    EMAVectorQuantizer,
    FSQConfig,
    NormalizedConfig,
    ProductConfig,
    QuantizerConfig,
    RegularizedConfig,
    ResidualConfig,
    SimVQConfig,
    VQConfig,
)

EMA = EMAConfig(codebook_size=16)
KINDS: dict[str, QuantizerConfig] = {
    "single": EMA,
    "gradient": VQConfig(codebook_size=16),
    "simvq": SimVQConfig(codebook_size=16),
    "normalized": NormalizedConfig(quantizer=EMA),
    "regularized": RegularizedConfig(quantizer=EMA, diversity=1),
    "residual": ResidualConfig(quantizer=EMA, stages=3),
    "shared residual": ResidualConfig(quantizer=EMA, stages=3, shared=True),
    "product": ProductConfig(quantizer=EMA),
    "heads": ProductConfig(quantizer=EMAConfig(codebook_size=40), shared=True),
    "grouped residual": ProductConfig(quantizer=ResidualConfig(quantizer=EMA, stages=2)),
}


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> VQVAE:
    return small(KINDS[request.param]).eval()


def used_by(model: VQVAE, x: Tensor) -> dict[str, Tensor]:
    """Which entries of each codebook some items use. Each (K,) bool"""
    columns = model.encode(x).levels[0].indices.flatten(0, -2).unbind(-1)
    pairs = zip(model.codebooks().items(), columns, strict=True)
    return {name: torch.isin(torch.arange(book.size), column) for (name, book), column in pairs}


def remapped(indices: Tensor, remaps: dict[str, Tensor]) -> Tensor:
    """Old indices (..., Q) as new ones. (..., Q)"""
    columns = zip(remaps.values(), indices.unbind(-1), strict=True)
    return torch.stack([remap[column] for remap, column in columns], -1)


def sizes(model: VQVAE) -> tuple[int, ...]:
    return model.quantizers[0].codebook_sizes


def test_a_pruned_model_is_saved_and_opened_and_old_codes_decode_as_before(
    model: VQVAE, tmp_path: Path
):
    x = images(2, seed=5)
    codes, used = model.encode(x), used_by(model, x)
    before, full = model.decode(codes), sizes(model)
    remaps = model.prune(used)
    assert list(remaps) == list(model.codebooks())
    assert sizes(model) < full
    model.save_pretrained(tmp_path)
    opened = VQVAE.from_pretrained(tmp_path)
    assert sizes(opened) == sizes(model)
    new = opened.encode(x)
    indices = remapped(codes.levels[0].indices, remaps)
    for quantizer in (model.quantizers[0], opened.quantizers[0]):
        old = small(model.config.quantizer).quantizers[0]
        assert torch.equal(quantizer.decode(indices), old.decode(codes.levels[0].indices))
    assert torch.equal(new.levels[0].indices, indices)
    assert torch.equal(opened.decode(new), before)
    assert opened.fingerprint() == model.fingerprint()
    assert_close(dict(opened.state_dict()), dict(model.state_dict()), rtol=0, atol=0)


def test_an_extended_model_is_saved_and_opened_and_trains_on(model: VQVAE, tmp_path: Path):
    for number, book in enumerate(dict.fromkeys(model.codebooks().values())):
        book.extend(torch.randn(number + 1, book.entries.shape[1]))  # stages of unequal sizes
    model.save_pretrained(tmp_path)
    opened = VQVAE.from_pretrained(tmp_path)
    assert sizes(opened) == sizes(model)
    assert torch.equal(opened.encode(images(4)).flat(), model.encode(images(4)).flat())
    for seed in range(3):
        first, second = (one.train()(images(6, seed=seed)) for one in (model, opened))
        assert torch.equal(first.loss, second.loss)
    for name, book in opened.codebooks().items():
        assert book.entries.requires_grad is model.codebooks()[name].entries.requires_grad


def test_a_state_of_another_size_that_a_user_loads_is_an_error():
    model, other = small(EMA), small(EMAConfig(codebook_size=12))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="make the quantizer with the sizes that were saved"):
        model.load_state_dict(other.state_dict())
    assert sizes(model) == (16,)
    for name in ("entries", "average_counts", "unused_for"):
        key = f"quantizers.0.codebook.{name}"
        assert torch.equal(model.state_dict()[key], before[key])


def test_a_pruned_model_of_ones_own_modules_is_opened_into_them(tmp_path: Path):
    model = levels(2)
    model.prune({"quantizer_1": torch.arange(9) < 5})
    assert [q.codebook_sizes for q in model.quantizers] == [(8,), (5,)]
    model.save_pretrained(tmp_path)
    opened = VQVAE.from_pretrained(tmp_path, model=levels(2))
    assert torch.equal(opened.encode(images(3, 1)).flat(), model.encode(images(3, 1)).flat())
    assert [q.codebook_sizes for q in opened.quantizers] == [(8,), (5,)]


@pytest.mark.parametrize("num", [2, 3])
def test_levels_that_a_config_built_are_pruned_and_extended_each_alone(tmp_path: Path, num: int):
    model, x = built(num).eval(), images(2, 1, seed=5)
    codes = model.encode(x)
    used = {
        f"quantizer_{n}": torch.isin(torch.arange(8 + n), level.indices)
        for n, level in enumerate(codes.levels)
    }
    before, kept = model.decode(codes), [int(each.sum()) for each in used.values()]
    remaps = model.prune(used)
    new = model.encode(x)
    assert [q.codebook_sizes for q in model.quantizers] == [(size,) for size in kept]
    for level, old, remap in zip(new.levels, codes.levels, remaps.values(), strict=True):
        assert torch.equal(level.indices, remap[old.indices])
    assert torch.equal(model.decode(new), before)
    model.codebooks()["quantizer_1"].extend(100 + torch.randn(3, 4))
    model.save_pretrained(tmp_path)
    opened = VQVAE.from_pretrained(tmp_path)
    kept[1] += 3
    assert [q.codebook_sizes for q in opened.quantizers] == [(size,) for size in kept]
    assert torch.equal(opened.encode(x).flat(), new.flat())
    assert torch.equal(opened.decode(opened.encode(x)), before)


def test_entries_of_another_length_are_not_made_to_fit(tmp_path: Path):
    levels(1).save_pretrained(tmp_path)
    other = levels(1)
    other.quantizers[0].codebook = EMAVectorQuantizer(3, 8).codebook  # pyright: ignore
    with pytest.raises(ValueError, match="does not fit the model"):
        VQVAE.from_pretrained(tmp_path, model=other)


def test_without_a_word_what_the_averages_call_unused_is_pruned():
    model = small(EMA)
    book = model.codebooks()["quantizer"]
    book.unused_for[3:7] = 10**6
    entries = book.entries[[0, 1, 2, *range(7, 16)]].clone()
    (remap,) = model.prune().values()
    assert torch.equal(book.entries, entries)
    assert remap[7:].tolist() == list(range(3, 12))


def test_a_codebook_with_two_names_keeps_what_either_uses():
    model = small(ProductConfig(quantizer=EMA, shared=True))
    first, second = torch.arange(16) < 5, torch.arange(16) >= 14
    remaps = model.prune({"quantizer part 0": first, "quantizer part 1": second})
    assert sizes(model) == (7, 7)
    assert torch.equal(remaps["quantizer part 0"], remaps["quantizer part 1"])
    assert remaps["quantizer part 0"][[0, 4, 14, 15]].tolist() == [0, 4, 5, 6]
    model.prune({"quantizer part 0": torch.arange(7) < 3})  # of the other nothing is known
    assert sizes(model) == (7, 7)


def test_a_prune_that_is_refused_changes_no_codebook():
    model = small(KINDS["residual"])
    before = copy.deepcopy(model.state_dict())
    some, one = torch.arange(16) < 5, torch.arange(16) < 1
    for used, match in [
        ({"quantizer stage 0": some, "quantizer stage 2": one}, "1 of 16 entries would stay"),
        ({"quantizer stage 0": some, "quantizer stage 9": some}, "names quantizer stage 9; the"),
    ]:
        with pytest.raises(ValueError, match=match):
            model.prune(used)
    assert_close(model.state_dict(), before, rtol=0, atol=0)


def errors_of(model: VQVAE, x: Tensor) -> list[float]:
    """Of each level, the mean squared error of what it quantizes."""
    found = []
    for level, quantizer in enumerate(model.quantizers):
        z_e, _ = model.inputs(x, level=level)
        found.append(float((z_e - quantizer.decode(quantizer.encode(z_e))).square().mean()))
    return found


@pytest.mark.parametrize(("make", "num"), [(levels, 1), (levels, 2), (built, 2), (built, 3)])
def test_refitting_moves_entries_alone_to_the_means_of_the_encoders_vectors(
    make: Callable[[int], VQVAE], num: int
):
    model, batches = make(num), [images(8, 1, seed=seed) for seed in (3, 4, 5)]
    with torch.no_grad():
        for book in model.codebooks().values():
            book.entries += 0.1 * torch.randn_like(book.entries)
    networks = {n: t.clone() for n, t in model.state_dict().items() if "quantizers" not in n}
    before = errors_of(model, torch.cat(batches))
    found = model.refit(batches, passes=20)
    after = errors_of(model, torch.cat(batches))
    assert list(found) == list(model.codebooks())
    for errors, was, now in zip(found.values(), before, after, strict=True):
        assert errors[-1] == pytest.approx(now, rel=1e-4)
        assert errors[-1] < was
    assert found[next(iter(found))][0] == pytest.approx(before[0], rel=1e-4)
    for name, tensor in networks.items():
        assert torch.equal(model.state_dict()[name], tensor)
    for level, quantizer in enumerate(model.quantizers):
        z_e = model.inputs(torch.cat(batches), level=level)[0].flatten(0, -2)
        indices = quantizer.encode(z_e).squeeze(-1)
        if len(errors_ := list(found.values())[level]) < 21:  # nothing moved any more
            assert errors_[-1] <= errors_[0]
            for k in indices.unique():
                mean = z_e[indices == k].mean(0)
                assert_close(quantizer.decode(k.view(1)), mean, rtol=0, atol=1e-4)


def test_what_is_not_real_has_no_part_in_a_refit():
    model, twin, x = levels(1), levels(1), images(6, 1)
    mask = torch.zeros(6, 16, 16, dtype=torch.bool)
    mask[:, :, :8] = True
    other = x.clone()
    other[~mask.unsqueeze(1)] = 255
    model.refit([(x, mask)])
    twin.refit([(other, mask)])
    assert_close(model.state_dict(), twin.state_dict(), rtol=0, atol=0)
    assert int(model.codebooks()["quantizer"].average_counts.sum()) == 6 * 8 * 4


def test_a_refitted_model_is_in_the_mode_it_was_in():
    model = small().train()
    model.refit([images(4)])
    assert model.training
    assert all(part.training for part in model.modules())


def test_what_has_no_entries_to_refit_is_refused():
    with pytest.raises(ValueError, match="no learned codebook; there is nothing to refit"):
        small(FSQConfig(levels=(3, 3, 3, 3))).refit([images(4)])
    with pytest.raises(TypeError, match="can be read once"):
        small().refit(x for x in [images(4)])  # pyright: ignore[reportArgumentType]
    model = levels(2)
    book = EMAVectorQuantizer(4, 8).codebook
    quantizers = [EMAVectorQuantizer(4, 8, codebook=book) for _ in range(2)]
    parts = model.encoder, quantizers, model.decoder, GaussianObjective()
    with pytest.raises(ValueError, match="levels share a codebook"):
        VQVAE(*parts, top_down=list(model.top_down)).refit([images(4, 1)])


def test_codebooks_are_named_by_what_they_are():
    def names(kind: str) -> list[str]:
        return list(small(KINDS[kind]).codebooks())

    assert names("single") == names("normalized") == ["quantizer"]
    assert names("product") == ["quantizer part 0", "quantizer part 1"]
    assert names("residual") == [f"quantizer stage {number}" for number in range(3)]
    assert names("grouped residual") == [
        f"quantizer part {part} stage {stage}" for part in range(2) for stage in range(2)
    ]
    assert list(levels(2).codebooks()) == ["quantizer_0", "quantizer_1"]
