"""Images in as few bytes as hold them bit by bit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CODES = 256
"""Values that a byte can stand for."""

BLOCK = 64
"""Images that are converted at a time, so that the scratch stays small."""


class DoesNotFitError(Exception):
    """The images would take more bytes than they may."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(nbytes)
        self.nbytes = nbytes


def as_float(images: Tensor) -> Tensor:
    """Scale uint8 images to [0, 1] as torchvision's ToTensor does; leave floats alone."""
    if images.dtype != torch.uint8:
        return images
    # By a tensor: CUDA multiplies by the reciprocal of a number, which rounds otherwise.
    return images / torch.full((), 255.0, device=images.device)


@dataclass(frozen=True)
class Coded:
    """A float image in a byte a pixel."""

    codes: Tensor  # [C, H, W] uint8
    table: Tensor  # [C, 256] float32

    def decode(self) -> Tensor:
        """The image, [C, H, W] float32."""
        return decode(self.codes[None], self.table)[0]


def decode(codes: Tensor, table: Tensor) -> Tensor:
    """Look up images [N, C, H, W] float32 from codes [N, C, H, W] uint8 and table [C, 256]."""
    images = torch.empty(codes.shape, dtype=table.dtype, device=codes.device)
    for channel, values in enumerate(table):
        own = codes[:, channel]
        images[:, channel] = values.index_select(0, own.flatten().int()).view(own.shape)
    return images


def floats_of(image: Tensor | Coded) -> Tensor:
    """One image [C, H, W] as floats."""
    return image.decode() if isinstance(image, Coded) else as_float(image)


class Shelf:
    """Takes up a known number of images one after the other, and keeps them exactly.

    As uint8 while all are; else as bytes that index a table of each channel's values, which is what
    pixels that were bytes and went through a transform of single pixels, such as Normalize, need;
    and as float32 from the first image on that has a 257th value in a channel. Only the values
    decide, so that it does not matter what made them.

    Args:
        size: Images that will come, at most.
        limit: Bytes that they may take.
        palette: Values that are known already, taken up once there are floats.
    """

    def __init__(self, size: int, limit: float, palette: Palette | None = None) -> None:
        self.size = size
        self.limit = limit
        self.known = palette
        self.count = 0
        self.images: Tensor | None = None  # [size, C, H, W], uint8, float32, or integers [size, T]
        self.palette: Palette | None = None  # None where bytes are no codes
        self._last: tuple[Tensor, Tensor | None] | None = (
            None  # a table, and its values' codes here
        )

    @property
    def table(self) -> Tensor | None:
        """[C, 256] float32, what bytes of each channel stand for; None if they are no codes."""
        return None if self.palette is None else self.palette.table()

    def put(self, image: Tensor | Coded) -> None:
        """Take up one image [C, H, W], uint8, float32 or coded.

        Raises:
            DoesNotFitError: all images of this kind would take more bytes than the limit.
        """
        pixels = image.codes if isinstance(image, Coded) else image
        if self.images is None:
            ids = not pixels.is_floating_point() and pixels.dtype != torch.uint8  # of tokens
            self.images = self._empty(pixels, pixels.dtype if ids else torch.uint8)
        if self.images.dtype == torch.uint8:
            if self.palette is None and (pixels is not image or pixels.is_floating_point()):
                self._use_palette(len(pixels))
            kept = pixels if self.palette is None else self._encoded(image, self.palette)
            if kept is not None:
                self.images[self.count] = kept
                self.count += 1
                return
            self._use_floats()
        self.images[self.count] = floats_of(image)
        self.count += 1

    def _encoded(self, image: Tensor | Coded, palette: Palette) -> Tensor | None:
        """Bytes of the palette, or None if it would need too many."""
        if not isinstance(image, Coded):
            return palette.encode(as_float(image))
        if self._last is None or self._last[0] is not image.table:
            self._last = image.table, palette.encode(image.table)
        codes = self._last[1]
        if codes is None or _are_own(codes):
            return None if codes is None else image.codes
        return decode(image.codes[None], codes)[0]

    def _use_palette(self, channels: int) -> None:
        assert self.images is not None
        self.palette = self.known or Palette(channels)
        for image in self.images[: self.count]:
            codes = self.palette.encode(as_float(image))
            assert codes is not None  # a channel of bytes has 256 values at most
            image.copy_(codes)

    def _use_floats(self) -> None:
        assert self.images is not None
        assert self.table is not None
        table, codes, self.palette = self.table, self.images, None
        self.images = self._empty(codes[0], torch.float32)
        for begin in range(0, self.count, BLOCK):
            rows = slice(begin, min(begin + BLOCK, self.count))
            self.images[rows] = decode(codes[rows], table)

    def _empty(self, image: Tensor, dtype: torch.dtype) -> Tensor:
        nbytes = self.size * image.numel() * dtype.itemsize
        if nbytes > self.limit:
            raise DoesNotFitError(nbytes)
        return torch.empty(self.size, *image.shape, dtype=dtype)


def _are_own(codes: Tensor) -> bool:
    """Whether each code [C, 256] is its own place, or that of one which nothing has."""
    own = codes == torch.arange(CODES, dtype=torch.uint8)
    return bool((own | (codes == 0)).all() and own[:, 0].all())


class Palette:
    """Up to 256 values of each channel, told apart by their bits, and bytes that stand for them."""

    def __init__(self, channels: int) -> None:
        self._channels = [_Channel() for _ in range(channels)]

    def encode(self, image: Tensor) -> Tensor | None:
        """Turn an image [C, H, W] float32 into bytes, or None if a channel has too many values."""
        bits = image.contiguous().view(torch.int32)
        codes = torch.empty(image.shape, dtype=torch.uint8)
        for channel, own, into in zip(self._channels, bits, codes, strict=True):
            found = channel.encode(own.flatten())
            if found is None:
                return None
            into.copy_(found.view(own.shape))
        return codes

    def table(self) -> Tensor:
        """[C, 256] float32; codes that nothing has stand for what code 0 does."""
        table = torch.empty(len(self._channels), CODES, dtype=torch.int32)
        for row, channel in zip(table, self._channels, strict=True):
            row.fill_(channel.values[0] if len(channel.values) else 0)
            row[: len(channel.values)] = channel.values
        return table.view(torch.float32)


class _Channel:
    """A hash table without collisions: one look-up a pixel, and one to see that it is right."""

    def __init__(self) -> None:
        self.values = torch.empty(0, dtype=torch.int32)  # by code, in order of appearance
        self._codes = torch.zeros(1 << 16, dtype=torch.uint8)  # by hash
        self._factor = 1
        self._generator = torch.Generator().manual_seed(0)

    def encode(self, bits: Tensor) -> Tensor | None:
        """Codes [P] uint8 of bits [P] int32; None if these would be too many values."""
        if not len(self.values) and not self._learn(bits):
            return None
        codes = self._look_up(bits)
        new = bits[self.values.index_select(0, codes.int()) != bits]
        if not len(new):
            return codes
        return self._look_up(bits) if self._learn(new) else None

    def _look_up(self, bits: Tensor) -> Tensor:
        return self._codes.index_select(0, self._hash(bits))

    def _hash(self, bits: Tensor) -> Tensor:
        return (bits * self._factor).bitwise_right_shift_(16).bitwise_and_(0xFFFF)

    def _learn(self, new: Tensor) -> bool:
        values = torch.cat([self.values, torch.unique(new)])
        if len(values) > CODES:
            return False
        for _ in range(100):  # 256 values fall into 65,536 places without collision 6 times of 10
            places = self._hash(values)
            if len(torch.unique(places)) == len(values):
                self.values = values
                self._codes.zero_()
                self._codes[places] = torch.arange(len(values), dtype=torch.uint8)
                return True
            drawn = int(torch.randint(1 << 30, (), generator=self._generator))
            self._factor = 2 * drawn + 1 - (1 << 30)
        return False
