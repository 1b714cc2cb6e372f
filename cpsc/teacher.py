"""Teachers: a trained network as a self-describing bundle, which is saved, loaded, checked and frozen."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cpsc import checkpoint
from cpsc.config import Precision
from cpsc.data.dataset import Dataset, Normalisation
from cpsc.data.decoding import MODES
from cpsc.device import DTYPES, cast_weights, place
from cpsc.errors import CheckpointError, ConfigError
from cpsc.metrics import accuracy, predict
from cpsc.models import build_imported, build_model, check_image_size, check_import_path, is_import_path, shapes_alone
from cpsc.rng import seeded_init

BUNDLE_VERSION = 1
UNKNOWN = "unknown"
"""The dataset of a teacher that was not trained here."""
MAX_CHANNELS, MAX_IMAGE_SIZE = 64, 1024
"""Limits beyond any use, so that a damaged number cannot exhaust the machine's memory."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained classifier and all that is needed to use it: architecture, input space, weights and test accuracy."""

    arch: str
    """The name of a built-in network, or the import path ``package.module:factory`` of the user's own."""
    class_names: tuple[str, ...]
    channels: int
    image_size: int
    normalisation: Normalisation
    dataset: str
    test_accuracy: float | None
    """None if its training is unknown and no labelled images were available."""
    state: Mapping[str, Tensor]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def digest(self) -> str:
        """SHA-256 of architecture, input space and weights: teachers with equal digests compute equal outputs."""
        digest = hashlib.sha256(json.dumps([self.arch, self.channels, self.image_size, asdict(self.normalisation)]).encode())
        for name in sorted(self.state):
            tensor = self.state[name].detach().cpu().contiguous()
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())  # as bytes, because NumPy has no bfloat16
        return digest.hexdigest()

    def build(self, device: torch.device, *, precision: Precision = "fp32") -> nn.Module:
        """The network on `device`, permanently frozen: eval mode, no weight gradients.

        For passes under autocast in `precision` the weights are cast here once instead of at every pass, if `is_cast_for` says so.
        """
        network = self.build_untrained()
        try:
            network.load_state_dict(dict(self.state))
        except RuntimeError as error:
            raise CheckpointError(f"teacher weights do not fit {self.arch}: {str(error).splitlines()[-1].strip()}") from error
        placed = place(network, device).eval().requires_grad_(False)
        return cast_weights(placed, DTYPES[precision]) if self.is_cast_for(precision) else placed

    def is_cast_for(self, precision: Precision) -> bool:
        """Whether `build` casts the weights to `precision`; never those of a user's own network, which may use them in any way."""
        return precision in DTYPES and not is_import_path(self.arch)

    def build_untrained(self) -> nn.Module:
        """The network on the CPU with placeholder weights; the caller's random streams are not advanced.

        ConfigError if `arch` is an import path that cannot be imported on this machine.
        """
        with seeded_init(0, "teacher"):
            if is_import_path(self.arch):
                return build_imported(self.arch, num_classes=self.num_classes, channels=self.channels, image_size=self.image_size)
            return build_model(self.arch, num_classes=self.num_classes, channels=self.channels)

    def check_dataset(self, dataset: Dataset) -> None:
        """Raise ConfigError if the number of classes or the image shape of `dataset` differ from the teacher's."""
        ours = (self.num_classes, self.channels, self.image_size)
        theirs = (dataset.num_classes, dataset.channels, dataset.image_size)
        if ours != theirs:
            only_channels = ours[0] == theirs[0] and ours[2] == theirs[2] and self.channels in MODES
            way_out = f", or read it with dataset.channels: {self.channels}" if only_channels else ""
            raise ConfigError(
                f"teacher was trained on {ours[0]} classes of {ours[1]}x{ours[2]}x{ours[2]} images, dataset "
                f"{dataset.name} has {theirs[0]} classes of {theirs[1]}x{theirs[2]}x{theirs[2]}: use the teacher's dataset{way_out}"
            )

    def named(self, arch: str) -> "Teacher":
        """The same weights in the network `arch`, which has the same keys and shapes."""
        return replace(self, arch=arch)

    def save(self, path: Path) -> None:
        """Write the bundle atomically."""
        fields = {name: value for name, value in vars(self).items() if name not in ("state", "normalisation")}
        payload = fields | {
            "version": BUNDLE_VERSION,
            "normalisation": asdict(self.normalisation),
            "state": {name: tensor.cpu() for name, tensor in self.state.items()},
            "digest": self.digest,
        }
        checkpoint.save(payload, path)

    @classmethod
    def load(cls, path: Path, *, factory: str | None = None) -> "Teacher":
        """Read a bundle; CheckpointError if it is missing, corrupt, of another format, altered or unusable.

        `factory`: the import path that the user has named. A bundle whose network has an import path is refused unless the user
        has named the same one, because someone else may have made the file, and importing runs code.
        """
        try:
            payload = checkpoint.load(path, kind="teacher")
            checkpoint.check_version(payload, BUNDLE_VERSION, path=path, kind="teacher bundle")
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {'delete it and ' if path.is_file() else ''}make one with the teacher verb") from error
        try:
            fields = {name: payload[name] for name in cls.__dataclass_fields__}
            normalisation = Normalisation(**{key: tuple(value) for key, value in fields.pop("normalisation").items()})
            teacher = cls(**fields, normalisation=normalisation)
            check_fields(teacher)
            digest = payload["digest"]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise CheckpointError(f"{path}: not a teacher bundle ({error}), make one with the teacher verb") from error
        _check_factory(teacher.arch, factory, path)
        try:
            check_weights(teacher)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        if not isinstance(digest, str) or teacher.digest != digest:
            raise CheckpointError(f"{path}: weights do not match the bundle's digest, the file was altered: take the original")
        return teacher


def _check_factory(arch: str, factory: str | None, path: Path) -> None:
    """Raise CheckpointError unless the user has named the import path of the bundle's network."""
    if factory == arch:
        return
    if is_import_path(arch):
        raise CheckpointError(
            f"{path}: its network is made by {arch!r}, which is imported only if you name it: "
            f"set it as the teacher's factory{f', not {factory}' if factory else ''} if you trust it"
        )
    if factory is not None:
        raise CheckpointError(f"{path}: factory {factory} would have no effect, this bundle's network is {arch}")


def check_fields(teacher: Teacher) -> None:
    """Raise ValueError naming the first field with an invalid value; a file may hold anything."""
    names, channels, size, score = teacher.class_names, teacher.channels, teacher.image_size, teacher.test_accuracy
    mean, std = teacher.normalisation.mean, teacher.normalisation.std
    rules = {
        "class_names": isinstance(names, tuple) and len(names) >= 2 and all(isinstance(name, str) for name in names),
        "channels": type(channels) is int and 1 <= channels <= MAX_CHANNELS,
        "image_size": type(size) is int and 0 < size <= MAX_IMAGE_SIZE and size % 4 == 0,
        "dataset": isinstance(teacher.dataset, str),
        "test_accuracy": score is None or (type(score) is float and 0 <= score <= 1),
        "normalisation": len(mean) == len(std) == channels
        and all(type(value) is float and math.isfinite(value) for value in (*mean, *std))
        and all(value > 0 for value in std),
        "state": isinstance(teacher.state, Mapping),
    }
    if odd := [name for name, holds in rules.items() if not holds]:
        raise ValueError(f"{odd[0]} is not valid for a teacher")
    try:
        if is_import_path(teacher.arch):
            check_import_path(teacher.arch)
        else:
            check_image_size(teacher.arch, teacher.image_size)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def expected_weights(teacher: Teacher) -> dict[str, Tensor]:
    """State dict with the names, shapes and dtypes of the teacher's architecture; its values are meaningless."""
    if is_import_path(teacher.arch):
        return teacher.build_untrained().state_dict()
    with shapes_alone():
        return build_model(teacher.arch, num_classes=teacher.num_classes, channels=teacher.channels).state_dict()


def check_weights(teacher: Teacher) -> None:
    """Raise CheckpointError unless the weights fit the architecture and compute finite numbers."""
    expected = expected_weights(teacher)
    if odd := expected.keys() ^ teacher.state.keys():
        name = min((name for name in odd if isinstance(name, str)), default="a key that is not text")
        raise CheckpointError(
            f"teacher weights do not fit {teacher.arch}: {name} is {'missing' if name in expected else 'not one of its weights'}"
        )
    for name, wanted in expected.items():
        found = teacher.state[name]
        if not isinstance(found, Tensor) or _kind(found) != (wanted.shape, wanted.dtype, torch.strided, "cpu"):
            raise CheckpointError(f"teacher weights do not fit {teacher.arch}: {name} must be {wanted.dtype} {tuple(wanted.shape)}")
        if not found.isfinite().all():
            raise CheckpointError(f"teacher weight {name} holds NaN or infinity: the training diverged, train it with a lower lr")
    black = torch.zeros(1, teacher.channels, teacher.image_size, teacher.image_size, dtype=torch.uint8)
    logits = predict(teacher.build(torch.device("cpu")), teacher.normalisation.normalise(black))
    if not logits.isfinite().all():
        raise CheckpointError("teacher weights compute NaN or infinity: the training diverged, train it with a lower lr")


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.layout, str]:
    return tensor.shape, tensor.dtype, tensor.layout, tensor.device.type


def measure(network: nn.Module, dataset: Dataset, device: torch.device) -> float:
    """Top-1 accuracy of `network` on the dataset's test part."""
    images = dataset.normalisation.normalise(dataset.test.images.to(device))
    return accuracy(predict(network, images), dataset.test.labels.to(device))
