"""A gated PixelCNN over features of a grid, with a cache for sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.nn.dropout import StatelessDropout
from vqkit.nn.earlier_attention import EarlierAttention

if TYPE_CHECKING:
    from vqkit.nn.pixelcnn_sampler import PixelCNNSampler


def gate(x: Tensor) -> Tensor:
    """tanh of the first half of the channels times sigmoid of the second. (B, 2 D, ...)"""
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedLayer(nn.Module):
    """One layer of both stacks; all that it reads of a position comes from before that position.

    Conditional Image Generation with PixelCNN Decoders, figure 2 and equations 4 and 5,
    https://arxiv.org/abs/1606.05328. The vertical stack knows the rows above, the horizontal one
    the row so far too. No weight is masked: the kernels have the rows and columns alone that they
    may read. Unlike the paper's, the vertical stack adds to its input as well, which lets deep
    stacks learn, and the horizontal one reads it behind its gate.

    Args:
        width: Channels D of both stacks.
        kernel: Columns k of the vertical kernels, odd; they have the rows up to the middle one.
        dropout: Probability of dropping an element behind a gate.
        condition_channels: Channels of a map to condition on; None for none.
        vector_dim: Length of vectors to condition on; None for none.
    """

    def __init__(
        self,
        width: int,
        kernel: int,
        *,
        dropout: float,
        condition_channels: int | None,
        vector_dim: int | None,
    ) -> None:
        super().__init__()
        reach = kernel // 2
        self.vertical = nn.Conv2d(width, 2 * width, (reach + 1, kernel))
        self.across = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.horizontal = nn.Conv2d(width, 2 * width, (1, reach + 1))
        self.output = nn.Conv2d(width, width, 1, bias=False)
        self.condition = self.vector = None
        if condition_channels is not None:
            self.condition = nn.Conv2d(condition_channels, 4 * width, 1, bias=False)
        if vector_dim is not None:
            self.vector = nn.Linear(vector_dim, 4 * width, bias=False)
        self.dropout = StatelessDropout(dropout)

    def forward(
        self, v: Tensor, h: Tensor, condition: Tensor | None, vector: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The next features of the vertical and of the horizontal stack. (B, D, H, W) each."""
        reach = self.vertical.kernel_size[1] // 2
        down = self.vertical(F.pad(v, (reach, reach, reach, 0)))
        along = self.horizontal(F.pad(h, (reach, 0, 0, 0)))
        for given in self._given(condition, vector):
            to_vertical, to_horizontal = given.chunk(2, dim=1)
            down, along = down + to_vertical, along + to_horizontal
        v = v + self.dropout(gate(down))
        return v, h + self.output(self.dropout(gate(along + self.across(v))))

    def _given(self, condition: Tensor | None, vector: Tensor | None) -> list[Tensor]:
        """What is added before the gates of both stacks. Each (B, 4 D, H, W) or (B, 4 D, 1, 1)"""
        given = []
        if self.condition is not None and condition is not None:
            given.append(self.condition(condition))
        if self.vector is not None and vector is not None:
            given.append(self.vector(vector)[:, :, None, None])
        return given


class GatedPixelCNN(nn.Module):
    """Features of each position of a grid from all positions strictly before it, in raster order.

    Conditional Image Generation with PixelCNN Decoders, https://arxiv.org/abs/1606.05328, with the
    attention of PixelSNAIL, https://arxiv.org/abs/1712.09763, between the layers if asked for.
    Grids may have any size.

    Args:
        inputs: Channels of the grid.
        width: Channels D of the stacks and of the result.
        num_layers: Number of gated layers, after the one that reads the grid.
        first_kernel: Side of the square that the first layer sees the earlier half of; odd.
        kernel: The same for the gated layers.
        dropout: Probability of dropping an element behind a gate, and of what attention adds.
        attention_every: After how many layers there is attention, each time; None for none.
        heads: Number of attention heads; divides the width.
        condition_channels: Channels of a map to condition on; None for none.
        vector_dim: Length of vectors to condition on, one for each item; None for none.

    Raises:
        ValueError: If a size is out of range.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        num_layers: int,
        first_kernel: int = 5,
        kernel: int = 3,
        dropout: float = 0.0,
        attention_every: int | None = None,
        heads: int = 4,
        condition_channels: int | None = None,
        vector_dim: int | None = None,
    ) -> None:
        super().__init__()
        at_least_1 = {"num_layers": num_layers, "inputs": inputs, "width": width}
        if attention_every is not None:
            at_least_1["attention_every"] = attention_every
        for name, value in at_least_1.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; give at least 1")
        for name, value in {"first_kernel": first_kernel, "kernel": kernel}.items():
            if value < 3 or value % 2 == 0:
                raise ValueError(f"{name} is {value}; give an odd number of at least 3")
        self.inputs, self.width = inputs, width
        self.condition_channels, self.vector_dim = condition_channels, vector_dim
        self.rows_above = nn.Conv2d(inputs, width, (first_kernel // 2, first_kernel))
        self.row_so_far = nn.Conv2d(inputs, width, (1, first_kernel // 2))
        self.layers = nn.ModuleList(
            GatedLayer(
                width,
                kernel,
                dropout=dropout,
                condition_channels=condition_channels,
                vector_dim=vector_dim,
            )
            for _ in range(num_layers)
        )
        places = range(attention_every, num_layers + 1, attention_every) if attention_every else ()
        self.attentions = nn.ModuleDict(
            {
                str(place): EarlierAttention(inputs, width, heads=heads, dropout=dropout)
                for place in places
            }
        )
        self.output = nn.Conv2d(width, width, 1)
        self._initialize()

    def _initialize(self) -> None:
        """Each sum of products starts with the variance of what it sums; biases start at 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, EarlierAttention):
                nn.init.normal_(module.nothing, std=0.02)
        for module in self.modules():
            if isinstance(module, EarlierAttention):  # starts as almost the identity
                nn.init.normal_(module.output.weight, std=0.1 * self.width**-0.5)

    def forward(
        self, x: Tensor, condition: Tensor | None = None, vector: Tensor | None = None
    ) -> Tensor:
        """All positions at once.

        Args:
            x: The grid. (B, inputs, H, W)
            condition: What each position may know beforehand. (B, condition_channels, H, W)
            vector: What all positions of an item may know. (B, vector_dim)

        Returns:
            Features; those at (i, j) depend on x strictly before (i, j) in raster order, and on
            all of the condition nearby and of the vector. (B, D, H, W), none negative

        Raises:
            ValueError: If a shape does not fit the network.
        """
        if x.dim() != 4 or x.shape[1] != self.inputs or 0 in x.shape[2:]:
            shape = tuple(x.shape)
            raise ValueError(f"x has shape {shape}; give (B, {self.inputs}, H, W)")
        batch, _, height, width = x.shape
        self.check_given(batch, height, width, condition, vector)
        reach = self.row_so_far.kernel_size[1]
        v = self.rows_above(F.pad(x, (reach, reach, reach, -1)))  # without the last row
        h = self.row_so_far(F.pad(x, (reach, -1, 0, 0)))
        for number, layer in enumerate(self.layers, start=1):
            v, h = layer(v, h, condition, vector)
            if str(number) in self.attentions:
                h = self.attentions[str(number)](h, x)
        return F.relu(self.output(F.relu(h)))

    def sampler(
        self,
        batch: int,
        height: int,
        width: int,
        condition: Tensor | None = None,
        vector: Tensor | None = None,
    ) -> PixelCNNSampler:
        """Computes one position after another, each from what the others before it left.

        Args:
            batch: Number of items B.
            height: Rows H of the grid.
            width: Columns W of the grid.
            condition: As for ``forward``. (B, condition_channels, H, W)
            vector: As for ``forward``. (B, vector_dim)

        Raises:
            ValueError: If a shape does not fit the network.
        """
        from vqkit.nn.pixelcnn_sampler import PixelCNNSampler

        self.check_given(batch, height, width, condition, vector)
        return PixelCNNSampler(self, batch, height, width, condition=condition, vector=vector)

    def check_given(
        self, batch: int, height: int, width: int, condition: Tensor | None, vector: Tensor | None
    ) -> None:
        """Raises ValueError unless what is given is what the network was made for."""
        expected = {
            "condition": (self.condition_channels, condition, (height, width)),
            "vector": (self.vector_dim, vector, ()),
        }
        for name, (channels, given, grid) in expected.items():
            shape = None if channels is None else (batch, channels, *grid)
            found = None if given is None else tuple(given.shape)
            if shape != found:
                raise ValueError(f"{name} has shape {found}; the network was made for {shape}")
