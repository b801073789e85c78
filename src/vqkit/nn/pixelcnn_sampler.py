"""A gated PixelCNN position by position: each number is computed once."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.nn.earlier_attention import EarlierAttention, EarlierCache
from vqkit.nn.pixelcnn import GatedLayer, GatedPixelCNN


class Rows:
    """The last rows of a grid side by side, for a convolution that reads them: (W, B, rows C).

    A convolution over them is one matrix product for each of its columns, without a copy: shifted
    by a column the rows are as contiguous as before.

    Args:
        convolution: Whose kernel has so many rows and columns.
        batch: Number of items B.
        width: Columns W of the grid.
    """

    def __init__(self, convolution: nn.Conv2d, batch: int, width: int) -> None:
        channels_out, channels, rows, columns = convolution.weight.shape
        kernel = convolution.weight.detach().permute(3, 2, 1, 0)
        self.kernel = kernel.reshape(columns, rows * channels, channels_out)
        self.memory = kernel.new_zeros(width + columns - 1, batch, rows * channels)
        self.newest = self.memory[columns // 2 :][:width, :, -channels:]
        flat, length = self.memory.flatten(0, 1), width * batch
        self.shifted = [flat[column * batch :][:length] for column in range(columns)]

    def turn(self) -> None:
        """Makes place for the next row, which is then to be written into ``newest``."""
        channels = self.newest.shape[-1]
        if self.memory.shape[-1] > channels:
            self.memory[..., :-channels] = self.memory[..., channels:].clone()

    def convolve(self, added: Tensor) -> Tensor:
        """The convolution at the newest row, and what is added to it: (W B, C out)."""
        for rows, kernel in zip(self.shifted, self.kernel, strict=True):
            added = torch.addmm(added, rows, kernel)
        return added


class Row:
    """One row of a grid with what is left of it, (B, reach + W, C), for a convolution along it.

    Args:
        convolution: Whose kernel has so many columns.
        batch: Number of items B.
        width: Columns W of the grid.
        reach: How many columns before a position are read, 0 outside of the grid.
    """

    def __init__(self, convolution: nn.Conv2d, batch: int, width: int, reach: int) -> None:
        channels_out, channels, _, columns = convolution.weight.shape
        kernel = convolution.weight.detach().squeeze(2).permute(2, 1, 0)
        self.kernel = kernel.reshape(columns * channels, channels_out)
        memory = kernel.new_zeros(batch, (reach + width) * channels)
        self.row = memory.unflatten(1, (-1, channels))[:, reach:]
        # Made once: a view costs as much time as a small product.
        starts, length = range(0, width * channels, channels), columns * channels
        self.windows = [memory[:, start : start + length] for start in starts]
        self.places = list(self.row.unbind(1))


class CachedLayer:
    """The weights of a gated layer as matrices, and the rows that it reads.

    Args:
        layer: Whose weights are copied.
        batch: Number of items B.
        width: Columns W of the grid.
        vector: What all positions of an item are conditioned on. (B, V)
    """

    def __init__(self, layer: GatedLayer, batch: int, width: int, vector: Tensor | None) -> None:
        self.rows = Rows(layer.vertical, batch, width)
        self.row = Row(layer.horizontal, batch, width, layer.horizontal.kernel_size[1] - 1)
        self.across = matrix(layer.across)
        self.output = matrix(layer.output)
        self.condition = None if layer.condition is None else matrix(layer.condition)
        biases = [convolution.bias for convolution in (layer.vertical, layer.horizontal)]
        constant = torch.cat(cast(list[Tensor], biases)).expand(batch, -1)
        if layer.vector is not None and vector is not None:
            constant = constant + layer.vector(vector)
        self.constant = constant.repeat(width, 1)
        self.along = constant.new_empty(width * batch, constant.shape[1] // 2)
        self.columns = list(self.along.unflatten(0, (width, batch)).unbind())
        self.before_gate = torch.empty_like(self.columns[0])
        self.to_squash = self.before_gate.chunk(2, dim=1)[0]

    def begin_row(self, condition: Tensor | None, below: Tensor) -> None:
        """All of a row that its own positions have no part in.

        Args:
            condition: What the row is conditioned on. (W B, condition_channels)
            below: Where the row of the vertical stack is written. (W, B, D)
        """
        given = self.constant
        if condition is not None and self.condition is not None:
            given = torch.addmm(given, condition, self.condition)
        to_vertical, to_horizontal = given.chunk(2, dim=1)
        down = self.rows.convolve(to_vertical)
        down.chunk(2, dim=1)[0].tanh_()
        torch.add(self.rows.newest, F.glu(down, dim=1).view(below.shape), out=below)
        torch.addmm(to_horizontal, below.flatten(0, 1), self.across, out=self.along)

    def step(self, column: int, after: Tensor) -> None:
        """One position of the horizontal stack, written to ``after`` (B, D)."""
        row, before_gate = self.row, self.before_gate
        torch.addmm(self.columns[column], row.windows[column], row.kernel, out=before_gate)
        self.to_squash.tanh_()
        torch.addmm(row.places[column], F.glu(before_gate, dim=1), self.output, out=after)


def matrix(convolution: nn.Conv2d) -> Tensor:
    """The weight of a 1x1 convolution, as rows are multiplied by it. (C, C out)"""
    return convolution.weight.detach().flatten(1).T.contiguous()


class PixelCNNSampler:
    """Computes one position after another, each from what the others before it left.

    The vertical stack advances by a whole row when that begins, the horizontal one by a position.
    The weights are copied: later changes of the network are not seen.

    Args:
        network: Whose weights are used, without dropout.
        batch: Number of items B.
        height: Rows H of the grid.
        width: Columns W of the grid.
        condition: As for the network. (B, condition_channels, H, W)
        vector: As for the network. (B, vector_dim)
    """

    @torch.no_grad()
    def __init__(
        self,
        network: GatedPixelCNN,
        batch: int,
        height: int,
        width: int,
        *,
        condition: Tensor | None,
        vector: Tensor | None,
    ) -> None:
        self.width, self.length, self.position = width, height * width, 0
        self.rows_above = Rows(network.rows_above, batch, width)
        reach = network.row_so_far.kernel_size[1]
        self.row_so_far = Row(network.row_so_far, batch, width, reach)
        self.above, self.along, self.bias = (
            cast(Tensor, convolution.bias).detach().clone()
            for convolution in (network.rows_above, network.row_so_far, network.output)
        )
        layers = cast(list[GatedLayer], list(network.layers))
        with torch.autocast(self.bias.device.type, enabled=False):
            vector = None if vector is None else vector.to(self.bias.dtype)
            self.layers = [CachedLayer(layer, batch, width, vector) for layer in layers]
        self.attentions = {
            int(place): EarlierCache(cast(EarlierAttention, attention), batch, height, width)
            for place, attention in network.attentions.items()
        }
        self.conditions = None  # row by row, (W B, C)
        if condition is not None:
            rows = condition.to(self.bias.dtype).permute(2, 3, 0, 1)
            self.conditions = rows.flatten(1, 2).contiguous()
        last_row = self.bias.new_empty(width, batch, network.width)
        self.below = [*(layer.rows.newest for layer in self.layers), last_row]
        places = [layer.row.places for layer in self.layers]
        self.after = [*places, [self.bias.new_empty(batch, network.width)] * width]
        self.output = matrix(network.output)

    @torch.no_grad()
    def step(self, previous: Tensor | None = None) -> Tensor:
        """What the network gives at the next position in raster order.

        Args:
            previous: The input of the position before; anything at the first. (B, inputs)

        Returns:
            Features, as ``GatedPixelCNN.forward`` gives them there. (B, D)

        Raises:
            ValueError: If there is no next position, or ``previous`` has another shape.
        """
        if self.position == self.length:
            raise ValueError(f"the grid has {self.length} positions, and all were computed")
        with torch.autocast(self.bias.device.type, enabled=False):  # a cast costs more than a step
            return self._step(previous)

    def _step(self, previous: Tensor | None) -> Tensor:
        row, column = divmod(self.position, self.width)
        if self.position:
            self._remember((column or self.width) - 1, previous)
        if column == 0:
            self._begin_row(row)
        after = self.after[0][column]
        window, kernel = self.row_so_far.windows[column], self.row_so_far.kernel
        torch.addmm(self.along, window, kernel, out=after)
        for number, layer in enumerate(self.layers, start=1):
            after = self.after[number][column]
            layer.step(column, after)
            if number in self.attentions:
                after.copy_(self.attentions[number].step(after, previous))
        self.position += 1
        return torch.addmm(self.bias, after.relu(), self.output).relu_()

    def _remember(self, column: int, previous: Tensor | None) -> None:
        """Keeps the input of the position before, which is in that column."""
        place = self.row_so_far.places[column]
        if previous is None or previous.shape != place.shape:
            found = None if previous is None else tuple(previous.shape)
            raise ValueError(f"previous has shape {found}; give {tuple(place.shape)}")
        place.copy_(previous)

    def _begin_row(self, row: int) -> None:
        """Computes what a row depends on but its own positions."""
        self.rows_above.turn()
        if row:
            self.rows_above.newest.copy_(self.row_so_far.row.transpose(0, 1))
        for layer in self.layers:
            layer.rows.turn()
        first = self.below[0]
        bias = self.above.expand(first.shape[0] * first.shape[1], -1)
        first.copy_(self.rows_above.convolve(bias).view(first.shape))
        condition = None if self.conditions is None else self.conditions[row]
        for layer, below in zip(self.layers, self.below[1:], strict=True):
            layer.begin_row(condition, below)
