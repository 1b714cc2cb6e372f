"""A labelled dataset as tensors: all images are uint8 on one device, and are normalised and augmented in batches."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from cpsc.data.decoding import Say
from cpsc.device import precise
from cpsc.errors import DataError
from cpsc.kinds import of_stated_kinds

MIN_CLASSES = 2

TEST_PARTS = ("test", "val", "valid", "validation")
"""Names of the part that no teacher trains on, preferred ones first."""

LEVEL_SLACK = 1e-3
"""Added before truncation, in grey levels, so that white stays white if it lost its last digit in the normalised space."""


@dataclass(frozen=True)
class Split:
    """`images`: uint8 [N, K, H, W]; `labels`: int64 [N] in 0..C-1."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
@of_stated_kinds("normalisation")
class Normalisation:
    """Per-channel mean and standard deviation of pixels in [0, 1]: they define the input space that a teacher was trained in."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 [N, K, H, W] -> float32 in the teacher's space."""
        return self.from_unit(images.float() / 255.0)

    def from_unit(self, images: Tensor) -> Tensor:
        """float pixels in [0, 1] -> the same in the teacher's space, float32 or better."""
        pixels = precise(images)
        return (pixels - self._column(self.mean, pixels)) / self._column(self.std, pixels)

    def to_pixels(self, images: Tensor, *, truncate: bool = False) -> Tensor:
        """float in the teacher's space -> uint8, clamped to [0, 255]: the nearest grey level, or the next lower with `truncate`."""
        values = precise(images)
        pixels = values * self._column(self.std, values) + self._column(self.mean, values)
        levels = (pixels * 255.0 + LEVEL_SLACK).floor() if truncate else (pixels * 255.0).round()
        return levels.clamp(0, 255).to(torch.uint8)

    def bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The values of black and of white in the teacher's space, each [K, 1, 1], on the device of `like`."""
        mean, std = self._column(self.mean, like), self._column(self.std, like)
        return -mean / std, (1.0 - mean) / std

    @staticmethod
    def _column(values: Sequence[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


@dataclass(frozen=True)
class Dataset:
    """A part that teachers train on and a test part. `crop_padding` and `flip`: which shifts and flips keep the labels true."""

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    normalisation: Normalisation
    crop_padding: int
    flip: bool
    treatment: str = ""
    """Digest of the user's settings for `normalisation` and `flip`, which influence a teacher's weights like the images do."""

    def __post_init__(self) -> None:
        if self.num_classes < MIN_CLASSES:
            only = f", {self.class_names[0]}" if self.class_names else ""
            raise DataError(f"dataset {self.name}: has {self.num_classes} class{only}, but a teacher needs at least {MIN_CLASSES}")
        for part, split in (("train", self.train), ("test", self.test)):
            if len(split) == 0:
                raise DataError(f"dataset {self.name}: the {part} part is empty")
            height, width = split.images.shape[2:]
            if height != width or height % 4 or split.images.shape[1:] != self.train.images.shape[1:]:
                raise DataError(
                    f"dataset {self.name}: {part} images are {width}x{height}, "
                    "all must have the same size, be square and a multiple of 4 wide"
                )
            if not 0 <= int(split.labels.min()) <= int(split.labels.max()) < self.num_classes:
                raise DataError(
                    f"dataset {self.name}: {part} labels run from {int(split.labels.min())} to "
                    f"{int(split.labels.max())}, outside 0..{self.num_classes - 1}"
                )

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def digest(self) -> str:
        """SHA-256 of all pixels and labels, the training part first."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for tensor in (split.images, split.labels):
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def image_size(self) -> int:
        return self.train.images.shape[2]

    @property
    def is_grey(self) -> bool:
        """Whether all channels of every image are equal."""
        return all(torch.equal(split.images, split.images[:, :1].expand_as(split.images)) for split in (self.train, self.test))

    def in_one_channel(self) -> "Dataset":
        """The same images, which must be grey, with only the first of their equal channels."""
        train, test = (Split(split.images[:, :1].contiguous(), split.labels) for split in (self.train, self.test))
        normalisation = Normalisation(mean=self.normalisation.mean[:1], std=self.normalisation.std[:1])
        return replace(self, train=train, test=test, normalisation=normalisation)


def of_any_images(
    name: str, train: Split, test: Split, class_names: tuple[str, ...], normalisation: Normalisation | None, *, flip: bool
) -> Dataset:
    """A dataset of arbitrary images: crops move by an eighth of the side, as for CIFAR; a `normalisation` of None is measured."""
    return Dataset(
        name=name,
        train=train,
        test=test,
        class_names=class_names,
        normalisation=normalisation or measure_normalisation(train.images),
        crop_padding=train.images.shape[3] // 8,
        flip=flip,
    )


def check_size(name: str, part: str, found: int, published: int, say: Say) -> None:
    """Raise DataError if a part of a published dataset holds more images than were published; tell `say` if it holds fewer."""
    if found > published:
        raise DataError(
            f"dataset {name}: the {part} part holds {found:,} images, but {published:,} are published: remove the duplicates"
        )
    if found < published:
        say(f"dataset {name}: the {part} part holds {found:,} of the {published:,} published images")


def measure_normalisation(images: Tensor) -> Normalisation:
    """Mean and standard deviation of each channel of uint8 `images` [N, K, H, W], to four digits; the same on every machine.

    Raises DataError if a channel is constant.
    """
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for batch in images.split(4096):  # counting all at once would take eight times the memory of the images
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in batch.unbind(1)])
    values = torch.arange(256, dtype=torch.float64) / 255.0
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    mean = (share * values).sum(dim=1)
    std = (share * (values - mean[:, None]) ** 2).sum(dim=1).sqrt()
    rounded = Normalisation(mean=tuple(round(v, 4) for v in mean.tolist()), std=tuple(round(v, 4) for v in std.tolist()))
    if min(rounded.std) == 0.0:
        raise DataError(f"the training images have a constant channel (std {rounded.std}): set dataset.mean and dataset.std")
    return rounded


def augment(images: Tensor, *, crop_padding: int, flip: bool, rng: torch.Generator) -> Tensor:
    """Randomly crop each zero-padded image and, with `flip`, mirror it with probability 1/2. [N, K, H, W], any dtype."""
    num_images, _, height, width = images.shape
    device = images.device
    if flip:
        mirrored = torch.rand(num_images, device=device, generator=rng) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if crop_padding:
        padded = F.pad(images, (crop_padding,) * 4)
        tops, lefts = torch.randint(0, 2 * crop_padding + 1, (2, num_images), device=device, generator=rng)
        rows = tops[:, None, None] + torch.arange(height, device=device)[None, :, None]
        columns = lefts[:, None, None] + torch.arange(width, device=device)[None, None, :]
        samples = torch.arange(num_images, device=device)[:, None, None]
        images = padded[samples, :, rows, columns].permute(0, 3, 1, 2)
    return images
