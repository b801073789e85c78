"""What must hold for the vectors on both sides of the quantizers."""

import pytest
import torch
from tests.tokens.models import images, tokenizer

from vqkit.data import collate, in_order
from vqkit.tokens.sizes import by_size
from vqkit.tokens.vectors import level_vectors


@pytest.mark.parametrize("sizes", [(16,), (16, 300)])
def test_they_are_what_the_model_quantizes_and_what_its_codes_decode_to(sizes: tuple[int, ...]):
    model = tokenizer(sizes=sizes)
    x = next(in_order(images(), 23)).x
    codes = model.encode(x)
    found = list(level_vectors(model, x))
    assert len(found) == len(sizes)
    for number, (level, own) in enumerate(zip(found, codes.levels, strict=True)):
        assert torch.equal(level.codes.indices, own.indices)
        assert torch.equal(level.side("z_e"), model.inputs(x, level=number)[0])
        assert torch.equal(level.side("z_q"), model.quantizers[number].decode(own.indices))
        assert level.mask is None


def test_they_are_zero_where_nothing_is_real():
    model = tokenizer()
    items = images(6, ragged=True)
    batch = collate([items.example(i) for i in range(6)], range(6))
    (level,) = level_vectors(model, batch.x, batch.mask)
    assert level.mask is not None
    assert not level.mask.all()
    for side in (level.side("z_e"), level.side("z_q")):
        assert not side[~level.mask].any()
        assert side[level.mask].any()
    assert all(part.mask is None for part in by_size(batch))
