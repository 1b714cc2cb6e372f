"""Training of a teacher by a recipe, from its beginning or from where an earlier process was interrupted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from cpsc import checkpoint
from cpsc.config import Precision, StudentConfig
from cpsc.data.dataset import Dataset, augment
from cpsc.device import autocast, place, resolve_precision
from cpsc.digests import recipe_digest
from cpsc.errors import CheckpointError, ConfigError, DataError
from cpsc.kinds import of_stated_kinds
from cpsc.models import build_model, check_arch, check_image_size
from cpsc.optimizers import SGD, Adam
from cpsc.rng import seeded_init, stream
from cpsc.rules import FORBID_UNKNOWN, require
from cpsc.schedule import student_lr
from cpsc.teacher import Teacher, measure

UNFINISHED_VERSION = 1


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("")
class TeacherRecipe:
    """How a teacher is trained: SGD with warm-up and cosine decay, with crops and flips if the dataset allows them.

    He et al. 2016 (arXiv:1512.03385) sec. 4.2 with the weight decay of the published DFKD teachers. For a transformer use
    `adamw` (Loshchilov and Hutter 2019, arXiv:1711.05101) with a learning rate near 1e-3 and a weight decay near 0.05.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    arch: str
    epochs: int = 200
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 5e-4
    warmup_epochs: int = 5
    precision: Precision = "fp32"
    """As in `DistillConfig`: `auto` is bf16 if the processor multiplies it natively, else fp32."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_arch(self.arch)
        require(self.epochs >= 1, "epochs", self.epochs, ">= 1")
        require(self.epochs <= 1_000_000, "epochs", self.epochs, "<= 1000000")
        require(self.batch_size >= 2, "batch_size", self.batch_size, ">= 2")
        require(self.batch_size <= 65_536, "batch_size", self.batch_size, "<= 65536")
        require(self.seed >= 0, "seed", self.seed, ">= 0")
        require(self.warmup_epochs <= self.epochs, "warmup_epochs", self.warmup_epochs, f"<= epochs ({self.epochs})")
        try:
            self.as_schedule()  # checks lr, momentum and weight decay
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix("student.")) from error

    def as_schedule(self) -> StudentConfig:
        """Settings of the same warm-up and cosine decay as the student's."""
        return StudentConfig(
            arch=self.arch,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            warmup_epochs=self.warmup_epochs,
        )

    @property
    def digest(self) -> str:
        """Digest of everything here that determines the trained weights. SGD is left out, so that older digests stay valid."""
        return recipe_digest({name: value for name, value in asdict(self).items() if (name, value) != ("optimizer", "sgd")})


@dataclass(frozen=True, kw_only=True)
class UnfinishedTeacher:
    """A training between two batches, and all that is needed to continue it bit for bit."""

    epoch: int
    """From 1; the one that the next batch belongs to, or that has just ended."""
    batches: Sequence[Tensor]
    """int64 [n]: indices of the images of each of the epoch's batches."""
    losses: Tensor
    """float32 [B]: of the epoch's batches so far."""
    network: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    rng: Tensor
    maker: str
    """Identifies recipe, images, their treatment and the type of device."""

    @property
    def epochs(self) -> float:
        """Epochs so far, as a fraction."""
        return self.epoch - 1 + len(self.losses) / len(self.batches)

    def save(self, path: Path) -> None:
        """Write atomically."""
        checkpoint.save({"version": UNFINISHED_VERSION, **vars(self)}, path)

    @classmethod
    def load(cls, path: Path, recipe: TeacherRecipe, dataset: Dataset, device: torch.device) -> "UnfinishedTeacher":
        """Read what `save` wrote; CheckpointError if it is missing, corrupt, or from another recipe, dataset or type of device."""
        names = list(cls.__dataclass_fields__)
        found = cls(**checkpoint.load_fields(path, names, version=UNFINISHED_VERSION, kind="unfinished teacher"))
        if found.maker != _maker(recipe, dataset, device):
            raise CheckpointError(f"{path}: made by another recipe, from other images or on another type of device")
        return found


def _maker(recipe: TeacherRecipe, dataset: Dataset, device: torch.device) -> str:
    return f"{recipe.digest} {dataset.digest} {dataset.treatment} {device.type}"


def check_trainable(dataset: Dataset) -> None:
    """Raise DataError if no teacher can be trained on `dataset`."""
    if len(dataset.train) < 2:
        raise DataError(f"dataset {dataset.name}: a teacher cannot be trained on one image, batch norm needs at least two")


def train_teacher(
    recipe: TeacherRecipe,
    dataset: Dataset,
    device: torch.device,
    *,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
    on_batch: Callable[[float], None] = lambda epochs: None,
    begun: UnfinishedTeacher | None = None,
    keep: Callable[[Callable[[], UnfinishedTeacher]], None] = lambda state: None,
) -> Teacher:
    """Train on the dataset's training part and measure on its test part.

    `on_epoch(epoch, mean loss)` reports progress, and within epochs `on_batch(epochs so far, as a fraction)`. `keep` is called
    after each batch with a function that returns the state. Continuing from such a state, `begun`, gives the same weights, bit
    for bit.
    """
    check_trainable(dataset)
    check_image_size(recipe.arch, dataset.image_size)
    training = _Training(recipe, dataset, device)
    if begun is not None:
        training.go_on(begun)
    training.run(on_epoch=on_epoch, on_batch=on_batch, keep=keep)
    return Teacher(
        arch=recipe.arch,
        class_names=dataset.class_names,
        channels=dataset.channels,
        image_size=dataset.image_size,
        normalisation=dataset.normalisation,
        dataset=dataset.name,
        test_accuracy=measure(training.network, dataset, device),
        state={name: tensor.detach().cpu().contiguous() for name, tensor in training.network.state_dict().items()},
    )


class _Training:
    """A network in training, whose state between two batches can be taken and continued from."""

    def __init__(self, recipe: TeacherRecipe, dataset: Dataset, device: torch.device) -> None:
        self._recipe, self._dataset, self._device = recipe, dataset, device
        precision = resolve_precision(recipe.precision, device)
        if precision == "fp16":
            raise ConfigError(
                "precision 'fp16' is not supported for training a teacher (no gradient scaling): use bf16, fp32 or auto"
            )
        self._computing = autocast(precision, device)
        with seeded_init(recipe.seed, "teacher"):
            network = build_model(recipe.arch, num_classes=dataset.num_classes, channels=dataset.channels)
        self.network = place(network, device)
        self._optimizer = _new_optimizer(recipe, self.network)
        self._images, self._labels = dataset.train.images.to(device), dataset.train.labels.to(device)
        self._rng = stream(recipe.seed, "teacher/batches", device)
        self._schedule = recipe.as_schedule()
        self._maker = _maker(recipe, dataset, device)
        self._epoch, self._losses = 0, list[Tensor]()
        self._begin_epoch()

    def run(
        self,
        *,
        on_epoch: Callable[[int, float], None],
        on_batch: Callable[[float], None],
        keep: Callable[[Callable[[], UnfinishedTeacher]], None],
    ) -> None:
        """Train to the end of the last epoch."""
        while True:
            for batch in self._batches[len(self._losses) :]:
                self._losses.append(self._step(batch))
                keep(self._state)
                if len(self._losses) < len(self._batches):
                    on_batch(self._epoch - 1 + len(self._losses) / len(self._batches))
            on_epoch(self._epoch, torch.stack(self._losses).mean().item())
            if self._epoch == self._recipe.epochs:
                return
            self._begin_epoch()

    def go_on(self, begun: UnfinishedTeacher) -> None:
        """Take the state `begun`."""
        self.network.load_state_dict(dict(begun.network))
        self._optimizer.load_state_dict(dict(begun.optimizer))
        self._rng.set_state(begun.rng)
        self._epoch = begun.epoch
        self._batches = [batch.to(self._device) for batch in begun.batches]
        self._losses = list(begun.losses.to(self._device))

    def _begin_epoch(self) -> None:
        self._epoch += 1
        self._optimizer.param_groups[0]["lr"] = student_lr(self._schedule, epoch=self._epoch, epochs=self._recipe.epochs)
        self._batches = _shuffled_batches(len(self._labels), self._recipe.batch_size, self._rng)
        self._losses = []

    def _step(self, batch: Tensor) -> Tensor:
        """Train on the images with the indices `batch` -> their loss."""
        dataset = self._dataset
        x = augment(self._images[batch], crop_padding=dataset.crop_padding, flip=dataset.flip, rng=self._rng)
        x = dataset.normalisation.normalise(x).contiguous(memory_format=torch.channels_last)
        with self._computing():
            logits = self.network(x).logits
        loss = F.cross_entropy(logits.float(), self._labels[batch])
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def _state(self) -> UnfinishedTeacher:
        return UnfinishedTeacher(
            epoch=self._epoch,
            batches=self._batches,
            losses=torch.stack(self._losses),
            network=self.network.state_dict(),
            optimizer=self._optimizer.state_dict(),
            rng=self._rng.get_state(),
            maker=self._maker,
        )


def _new_optimizer(recipe: TeacherRecipe, network: nn.Module) -> Optimizer:
    parameters, lr, weight_decay = network.parameters(), recipe.lr, recipe.weight_decay
    if recipe.optimizer == "adamw":
        return Adam(parameters, lr=lr, weight_decay=weight_decay, decoupled_weight_decay=True, fused=True)
    return SGD(parameters, lr=lr, momentum=recipe.momentum, weight_decay=weight_decay, nesterov=False, fused=True)


def _shuffled_batches(num_images: int, batch_size: int, rng: torch.Generator) -> list[Tensor]:
    order = torch.randperm(num_images, device=rng.device, generator=rng)
    batches = [cast(Tensor, batch) for batch in order.split(batch_size)]
    # A last batch of one image has no variance for batch norm.
    return batches if len(batches[-1]) > 1 else batches[:-1]
