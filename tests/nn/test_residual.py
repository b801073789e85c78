"""What must hold for residual blocks."""

import torch
import torch.nn.functional as F
from torch.testing import assert_close

from vqkit.nn import ResidualBlock, ResidualStack


def test_a_block_whose_last_convolution_is_zero_is_the_identity():
    block = ResidualBlock(6, 3)
    torch.nn.init.zeros_(block.narrow.weight)
    torch.nn.init.zeros_(block.narrow.bias)
    x = torch.randn(2, 6, 5, 4)
    assert torch.equal(block(x), x)


def test_a_block_adds_two_convolutions_each_behind_a_relu():
    torch.manual_seed(0)
    block = ResidualBlock(6, 3)
    x = torch.randn(2, 6, 5, 4)
    wide = F.unfold(x.clamp(min=0), 3, padding=1)  # a 3x3 convolution as a matrix product
    wide = block.wide.weight.flatten(1) @ wide + block.wide.bias.unsqueeze(1)
    narrow = block.narrow.weight.flatten(1) @ wide.clamp(min=0) + block.narrow.bias.unsqueeze(1)
    assert_close(block(x), x + narrow.reshape(x.shape))


def test_the_input_is_left_as_it_was():
    x = torch.randn(2, 6, 5, 4)
    before = x.clone()
    ResidualStack(6, 3, 2)(x)
    assert torch.equal(x, before)


def test_a_stack_without_blocks_is_a_relu():
    x = torch.randn(2, 6, 5, 4)
    assert torch.equal(ResidualStack(6, 3, 0)(x), x.clamp(min=0))


def test_a_stack_runs_its_blocks_in_order_and_ends_in_a_relu():
    stack = ResidualStack(6, 3, 3)
    x = torch.randn(2, 6, 5, 4)
    h = x
    for block in stack.blocks:
        h = block(h)
    assert torch.equal(stack(x), h.clamp(min=0))
