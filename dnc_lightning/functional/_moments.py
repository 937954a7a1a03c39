"""The passes over labelled features that moments are made of."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dnc_lightning.functional._gather import Shards, gathered_classes
from dnc_lightning.functional._tiles import TILE_BYTES, ClassTiles, Reduce, Tile, wide

SHIFT_SAMPLES = 256
"""Features that the common offset is estimated from."""


def common_shift(data: ClassTiles, total: Reduce) -> Tensor:
    """A point amid the features, [D]: the mean of some; any error in it cancels out."""
    some = data.features[:: max(1, len(data.features) // SHIFT_SAMPLES)].to(data.dtype)
    count = total(torch.tensor(float(len(some)), device=some.device))
    return total(some.sum(0)) / count


def class_sums(data: ClassTiles, shift: Tensor) -> Tensor:
    """Sum of `features - shift` by class, [C, D]."""
    dtype = wide(shift.device)
    sums = torch.zeros(len(data.count), shift.shape[0], dtype=dtype, device=shift.device)
    for tile in data.tiles(shift, None):
        sums.index_add_(0, tile.classes, tile.residual.sum(1).to(dtype))
    return sums


def second_pass(
    data: ClassTiles, shift: Tensor, mean: Tensor, centred: Tensor, *, per_class: bool
) -> Tensor:
    """Sums over the samples r of each class, side by side so that one reduction carries them.

    Columns: (delta_ij . r)^2 [C], |r|^2 r [D], |r|^2, |r|^4, and, where `per_class` says that the
    shard holds whole classes, the squared entries of the class's Gram matrix (n^2 tr Sigma^2).
    """
    num_classes, d = mean.shape
    out = torch.zeros(num_classes, num_classes + d + 3, dtype=mean.dtype, device=mean.device)
    centre, axes = mean.to(data.dtype), centred.to(data.dtype).T.contiguous()
    for tile in data.tiles(shift, centre):
        residual = tile.residual
        along = along_axes(tile, axes).square_().sum(1)
        square = torch.linalg.vector_norm(residual, dim=2).square_()
        third = (square[:, None] @ residual)[:, 0]
        scalars = [square.sum(1), square.square().sum(1), torch.zeros_like(square[:, 0])]
        if per_class and data.classes_fit:
            scalars[2] = (residual @ residual.transpose(1, 2)).square_().sum((1, 2))
        row = torch.cat([along, third, torch.stack(scalars, 1)], 1)
        out.index_add_(0, tile.classes, row.to(out.dtype))
    return out


def axis_covariances(data: ClassTiles, shift: Tensor, mean: Tensor, centred: Tensor) -> Tensor:
    """Sums of (delta_ij . r)(delta_ik . r) over the samples r of each class i, [C, C, C]."""
    num_classes = len(mean)
    out = torch.zeros(num_classes, num_classes, num_classes, dtype=mean.dtype, device=mean.device)
    axes = centred.to(data.dtype).T.contiguous()
    for tile in data.tiles(shift, mean.to(data.dtype)):
        along = along_axes(tile, axes)
        out.index_add_(0, tile.classes, (along.transpose(1, 2) @ along).to(out.dtype))
    return out


def along_axes(tile: Tile, axes: Tensor) -> Tensor:
    """Residuals of the tile's samples along delta_ij for every j, [c, n, C]."""
    c, n, _ = tile.residual.shape
    projection = (tile.residual.flatten(0, 1) @ axes).view(c, n, -1)
    own = projection.gather(2, tile.classes[:, None, None].expand(-1, n, 1))
    return own.sub(projection)


def find_shards(data: ClassTiles, size: Tensor, total: Reduce | None) -> Shards | None:
    """What the shards hold, where their samples are to be brought together class by class.

    Not where a class has more samples than its covariance has rows, or than a tile takes.
    """
    if total is None or float(size.max()) > min(data.rows, data.features.shape[1]):
        return None
    return Shards.find(data, data.features.sum(0, dtype=size.dtype), total)


def self_products(
    data: ClassTiles,
    shift: Tensor,
    mean: Tensor,
    size: Tensor,
    shards: Shards | None,
    total: Reduce | None,
) -> Tensor:
    """R' Sigma_i r of the samples r of each class i in class order, [N].

    From all products of a class's samples where whole classes can be had, else by covariances.

    Args:
        data: Of this shard.
        shift: As `ClassTiles.tiles`.
        mean: [C, D] class means around `shift`.
        size: [C] samples of all shards, at least 1.
        shards: From `find_shards`.
        total: Sums over the shards; None for one.
    """
    centre, n = mean.to(data.dtype), size.to(data.dtype)
    out = torch.zeros(len(data.features), dtype=data.dtype, device=shift.device)
    if shards is not None and total is not None:
        for found in gathered_classes(data, shift, centre, shards, total):
            for whole in found.whole.tiles(torch.zeros_like(shift), None):
                place, real = (x.to(shift.device) for x in data.places(whole.classes.cpu()))
                nth = found.before.to(shift.device)[whole.classes][:, None]
                nth = nth + torch.arange(place.shape[1], device=shift.device)
                row = nth.clamp(max=whole.residual.shape[1] - 1)[:, :, None]
                own = whole.residual.take_along_dim(row, 1)
                product = (own @ whole.residual.transpose(1, 2)).square_().sum(2)
                out[place[real]] = (product / n[whole.classes][:, None])[real]
    elif total is None and data.classes_fit:
        for tile in data.tiles(shift, centre):
            product = (tile.residual @ tile.residual.transpose(1, 2)).square_().sum(2)
            out[tile.place[tile.real]] = (product / n[tile.classes][:, None])[tile.real]
    else:
        for block, begin, end in covariance_slices(data, shift, mean, size, total or alone):
            block[:, :, end - begin :] *= 2
            for tile in data.tiles(shift, centre):
                turned = tile.residual[:, :, begin:end] @ block[tile.classes]
                product = (turned * tile.residual[:, :, begin:]).sum(2)
                out[tile.place[tile.real]] += product[tile.real]
    return out


def class_totals(data: ClassTiles, values: Tensor, dtype: torch.dtype) -> Tensor:
    """Sums by class [C] of values [N] in class order."""
    of = torch.repeat_interleave(data.count).to(values.device)
    out = torch.zeros(len(data.count), dtype=dtype, device=values.device)
    return out.index_add_(0, of, values.to(dtype))


def alone(tensor: Tensor) -> Tensor:
    """The sum over one shard."""
    return tensor


def trace_products(
    data: ClassTiles, shift: Tensor, mean: Tensor, size: Tensor, exact: bool, total: Reduce
) -> Tensor:
    """Give tr Sigma_i Sigma_j [C, C] if `exact`, else tr Sigma_i^2 as [C, 1]."""
    columns = len(mean) if exact else 1
    out = torch.zeros(len(mean), columns, dtype=mean.dtype, device=mean.device)
    for block, begin, end in covariance_slices(data, shift, mean, size, total):
        block[:, :, end - begin :] *= 2**0.5
        flat = block.flatten(1)
        out += (flat @ flat.T if exact else flat.square().sum(1, keepdim=True)).to(out.dtype)
    return out


def covariance_slices(
    data: ClassTiles, shift: Tensor, mean: Tensor, size: Tensor, total: Reduce
) -> Iterator[tuple[Tensor, int, int]]:
    """Yield rows begin:end of all covariances from column `begin` on, [C, end - begin, D - begin].

    The slices have bounded memory and can be summed over shards that hold parts of a class; what
    stands left of their diagonal blocks follows by symmetry.
    """
    num_classes, d = mean.shape
    centre = mean.to(data.dtype)
    width = max(1, 2 * TILE_BYTES // (data.dtype.itemsize * num_classes * d))
    for begin in range(0, d, width):
        end = min(begin + width, d)
        shape = (num_classes, end - begin, d - begin)
        block = torch.zeros(shape, dtype=data.dtype, device=mean.device)
        for tile in data.tiles(shift, centre):
            left = tile.residual[:, :, begin:end].transpose(1, 2)
            block.index_add_(0, tile.classes, left @ tile.residual[:, :, begin:])
        yield total(block) / size.to(data.dtype)[:, None, None], begin, end
