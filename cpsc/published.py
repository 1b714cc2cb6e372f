"""Teachers trained by other programs: weights files are read safely and recognised by their keys and shapes."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from cpsc.data import cifar10, cifar100, tiny_imagenet
from cpsc.data.dataset import Normalisation
from cpsc.errors import CheckpointError, ConfigError, MissingSettingError
from cpsc.foreign import reading
from cpsc.foreign.fitting import fit, is_fitted, stored_dtypes, unprefixed
from cpsc.foreign.state_dicts import Weights, choose, some
from cpsc.kinds import of_stated_kinds
from cpsc.models import build_imported, check_import_path
from cpsc.recognition import Recognised, anchors, recognise
from cpsc.rng import seeded_init
from cpsc.rules import FORBID_UNKNOWN, require
from cpsc.teacher import MAX_CHANNELS, MAX_IMAGE_SIZE, UNKNOWN, Teacher, check_fields, check_weights, expected_weights

NORMALISATIONS = {
    "cifar10": cifar10.NORMALISATION,
    "cifar100": cifar100.NORMALISATION,
    "tiny_imagenet": tiny_imagenet.NORMALISATION,
    "imagenet": tiny_imagenet.NORMALISATION,
    "mnist": Normalisation(mean=(0.1307,), std=(0.3081,)),
    "half": Normalisation(mean=(0.5,), std=(0.5,)),
    "identity": Normalisation(mean=(0.0,), std=(1.0,)),
}
"""Normalisation constants by the names that published code bases use.

The CIFAR-100 teachers of PRE-DFKD, DAFL and DFAD were trained with CIFAR-10's constants; those of Tiny-ImageNet are ImageNet's.
"""
OF_ANY_CHANNELS = ("half", "identity")
"""Names whose single value applies to every channel."""
NORMALISATION_RULE = f"one of {', '.join(NORMALISATIONS)} or {{mean: [...], std: [...]}}"
MAX_CLASSES = 100_000
USUAL_CHANNELS = (1, 3)
"""Grey and colour. Any other number in what seem to be a network's first filters suggests that they belong to a later layer."""
MAX_GUESSES = 4
"""How many matrices of a factory's network, from the last one backwards, are tried as its classifier until the weights fit."""


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("")
class PublishedConfig:
    """What a weights file of another program does not say. A teacher bundle says all of it except the factory."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    normalisation: Normalisation | str | None = None
    """Constants that the teacher was trained with: a name in `NORMALISATIONS`, or the values, one per channel."""
    image_size: int | None = None
    class_names: tuple[str, ...] | None = None
    """Default: the numbers of the classes."""
    num_classes: int | None = None
    """Number of classes of a factory's network. Default: the number of `class_names`, or what its weights suggest. For built-in
    networks the weights tell it."""
    factory: str | None = None
    """``package.module:function`` that makes the user's own network. Default: a built-in network, recognised by its weights."""
    variant: str | None = None
    """Which of several networks with the same keys and shapes it is, see `models.VARIANTS`. Default: the built-in `standard`."""
    channels: int | None = None
    """Image channels of a factory's network. Default: as many as the normalisation or the first filters have. For built-in
    networks the weights tell it."""
    weights: str | None = None
    """If the file holds several networks: where the weights are, as its keys joined by dots, e.g. ``state_dict_ema``."""

    def __post_init__(self) -> None:
        given = self.normalisation
        if isinstance(given, Normalisation):
            values_hold = all(map(math.isfinite, (*given.mean, *given.std))) and all(value > 0 for value in given.std)
            rule = "a finite mean and a finite std > 0 for each channel"
            require(0 < len(given.mean) == len(given.std) and values_hold, "normalisation", given, rule)
        else:
            require(given is None or given in NORMALISATIONS, "normalisation", given, NORMALISATION_RULE)
        size, channels, names = self.image_size, self.channels, self.class_names
        rule = f"a multiple of 4 in 4..{MAX_IMAGE_SIZE}"
        require(size is None or (4 <= size <= MAX_IMAGE_SIZE and size % 4 == 0), "image_size", size, rule)
        require(channels is None or 1 <= channels <= MAX_CHANNELS, "channels", channels, f"in 1..{MAX_CHANNELS}")
        require(names is None or len(names) >= 2, "class_names", names, "two or more names")
        classes = self.num_classes
        require(classes is None or 2 <= classes <= MAX_CLASSES, "num_classes", classes, f"in 2..{MAX_CLASSES}")
        if names is not None and classes is not None:
            require(len(names) == classes, "num_classes", classes, f"left out or {len(names)}, as many as class_names")
        require(
            self.weights is None or (self.weights != "" and self.weights.isprintable()),
            "weights",
            self.weights,
            "a name in the file",
        )
        if self.factory is not None:
            check_import_path(self.factory)
            require(self.variant is None, "variant", self.variant, "left out with a factory, which makes one network")
        else:
            for name, value in (("channels", channels), ("num_classes", classes)):
                require(value is None, name, value, "left out without a factory: the weights tell them")

    def given(self) -> list[str]:
        """The names of the fields that are set."""
        return [name for name, value in vars(self).items() if value is not None]


def load_teacher(path: Path, config: PublishedConfig | None = None, *, say: Callable[[str], None] = lambda text: None) -> Teacher:
    """Load the teacher in a file: a teacher bundle, or weights that another program saved and `config` explains.

    Nothing in the file is executed. `say` receives remarks on what was chosen, converted or left out. Raises CheckpointError if the
    file cannot be read, or already contains what `config` says; MissingSettingError if `config` lacks a setting that is needed;
    ConfigError if the factory that it names cannot make the network.
    """
    config = config or PublishedConfig()
    content, unread = reading.read(path)
    if "version" in content and "class_names" in content:
        if extra := [name for name in config.given() if name != "factory"]:
            raise CheckpointError(f"{path}: a teacher bundle already contains {', '.join(extra)}: leave that out")
        return Teacher.load(path, factory=config.factory)
    try:
        weights = choose(content, config.weights)
        teacher, remarks = _import(weights, config)
    except MissingSettingError as error:
        raise error.said_of(path) from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if config.weights is not None or weights.is_averaged or not weights.is_known:
        say(f"{path.name}: uses the weights under {weights.name}")
    if unread:
        say(f"{path.name}: ignores objects other than weights: {some(dict.fromkeys(unread))}")
    for remark in [*stored_dtypes(weights.state), *remarks]:
        say(f"{path.name}: {remark}")
    return teacher


def _missing(*names: str) -> MissingSettingError:
    """The error for missing settings `names`; its message explains the first of them."""
    what = {
        "normalisation": f"the constants it was trained with, {NORMALISATION_RULE}",
        "image_size": "the side length of its images, e.g. 32",
        "channels": "the channels of its images, e.g. 3",
        "num_classes": "the number of its classes, e.g. 10",
    }
    return MissingSettingError(
        f"not a teacher bundle but bare weights, which need {names[0]} beside the path: {what[names[0]]}", *names
    )


def _import(weights: Weights, config: PublishedConfig) -> tuple[Teacher, list[str]]:
    """The teacher, and remarks on what was left out."""
    if unsaid := [name for name in ("normalisation", "image_size") if getattr(config, name) is None]:
        raise _missing(*unsaid)
    assert config.normalisation is not None
    assert config.image_size is not None
    remarks: list[str] = []
    if config.factory:
        found = _of_factory(weights, config.factory, config)
    else:
        found, remarks = _recognised(weights, config.variant)
    if not 2 <= found.num_classes <= MAX_CLASSES:
        raise CheckpointError(f"its classifier has {found.num_classes} classes, must be 2..{MAX_CLASSES}")
    names = config.class_names or tuple(map(str, range(found.num_classes)))
    if len(names) != found.num_classes:
        raise CheckpointError(f"class_names has {len(names)} names, but its classifier has {found.num_classes} classes")
    teacher = Teacher(
        arch=found.arch,
        class_names=names,
        channels=found.channels,
        image_size=config.image_size,
        normalisation=_resolve(config.normalisation, found.channels),
        dataset=UNKNOWN,
        test_accuracy=None,
        state=found.state,
    )
    try:
        check_fields(teacher)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    state, more = fit(found.state, expected_weights(teacher), weights.name)
    teacher = replace(teacher, state={name: tensor.detach() for name, tensor in state.items()})
    check_weights(teacher)
    # Copies, because a view would keep all of its underlying storage.
    return replace(teacher, state={name: tensor.clone().contiguous() for name, tensor in teacher.state.items()}), remarks + more


def _recognised(weights: Weights, variant: str | None) -> tuple[Recognised, list[str]]:
    """The built-in network, and remarks on what was left out. MissingSettingError if it is none: then only its user can make it."""
    state, remarks = unprefixed(weights.state, anchors(weights.state), weights.name)
    try:
        found = recognise(state, None)
    except CheckpointError as error:
        raise MissingSettingError(str(error), "factory") from error
    return (found if variant is None else recognise(state, variant)), remarks


def _resolve(given: Normalisation | str, channels: int) -> Normalisation:
    normalisation = NORMALISATIONS[given] if isinstance(given, str) else given
    if given in OF_ANY_CHANNELS:
        return Normalisation(mean=normalisation.mean * channels, std=normalisation.std * channels)
    if len(normalisation.mean) != channels:
        raise CheckpointError(f"normalisation has {len(normalisation.mean)} channels, but the network takes {channels}")
    return normalisation


def _of_factory(weights: Weights, factory: str, config: PublishedConfig) -> Recognised:
    """The user's own network. Unless stated, its number of classes is the rows of the last matrix for which all weights fit."""
    assert config.normalisation is not None
    assert config.image_size is not None
    given = config.normalisation
    constants = NORMALISATIONS[given] if isinstance(given, str) else given
    rows = [tensor.shape[0] for tensor in reversed(weights.state.values()) if isinstance(tensor, Tensor) and tensor.ndim == 2]
    stated = config.num_classes or (len(config.class_names) if config.class_names else None)
    guesses = [stated] if stated else list(dict.fromkeys(rows))[:MAX_GUESSES]
    if not guesses:
        raise _missing("num_classes")
    channels = config.channels or (_told_channels(weights) if given in OF_ANY_CHANNELS else len(constants.mean))
    for num_classes in guesses if len(guesses) > 1 else []:
        with contextlib.suppress(ConfigError), seeded_init(0, "teacher"):  # a factory may refuse a wrong guess
            network = build_imported(factory, num_classes=num_classes, channels=channels, image_size=config.image_size)
            if is_fitted(weights.state, network.state_dict(), weights.name):
                return Recognised(factory, num_classes, channels, weights.state)
    return Recognised(factory, guesses[0], channels, weights.state)


def _told_channels(weights: Weights) -> int:
    """Image channels, by the first filters of the network in the order in which it declares its layers."""
    filters = [tensor for tensor in weights.state.values() if isinstance(tensor, Tensor) and tensor.ndim == 4]
    if not filters or filters[0].shape[1] not in USUAL_CHANNELS:
        raise _missing("channels")
    return filters[0].shape[1]
