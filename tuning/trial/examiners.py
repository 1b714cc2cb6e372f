"""Examiners of a study: where the storage keeps their images and epochs, and how an examiner is trained."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from cpsc import checkpoint
from cpsc.device import resolve_device
from cpsc.digests import recipe_digest
from cpsc.distiller import STATE_VERSION, Distiller
from cpsc.errors import CheckpointError
from cpsc.examiners import ExamImages, run_digest
from cpsc.measurement import Measurement
from cpsc.probe import ProbeSet
from cpsc.rules import changed_fields
from cpsc.teacher import Teacher
from tuning.storage import Storage
from tuning.study import Study, build_config
from tuning.study.nested_keys import Point
from tuning.study.user_code import look_in
from tuning.study.yaml_loader import to_plain
from tuning.trial.resources import cap_gpu_memory

FOLDER = "examiners"
KIND = "examiner's epoch"
VERSION = 1


@dataclass(frozen=True)
class Examiners:
    """The images of a study's examiners, and the storage `folder` of their epochs, which trials that are the same run reuse."""

    images: ExamImages
    folder: str


@dataclass(frozen=True)
class TrainedEpoch:
    """An epoch of an examiner. `parts`: its networks; `metrics`: of its training; `images`: those it contributed, if any."""

    parts: Mapping[str, Any]
    metrics: dict[str, Any]
    images: Tensor | None

    def save(self, storage: Storage, name: str) -> None:
        """Write the epoch as `name`, atomically."""
        with storage.writing(name) as path:
            checkpoint.save({"version": VERSION, **vars(self)}, path)

    @classmethod
    def load(cls, storage: Storage, name: str) -> "TrainedEpoch":
        """Load the epoch `name`. CheckpointError if it does not exist or cannot be read."""
        with storage.reading(storage.path(name)) as path:
            payload = checkpoint.load(path, kind=KIND, needs=("version", *cls.__dataclass_fields__))
            checkpoint.check_version(payload, VERSION, path=path, kind=KIND)
        return cls(payload["parts"], payload["metrics"], payload["images"])


def examiners_folder(study: Study, teacher: Teacher) -> str:
    """Where the storage keeps the examiners of `study`: the name is a digest of everything that their images depend on."""
    recipe = {
        "version": STATE_VERSION,  # format of an epoch's parts, which trials reuse
        "base": asdict(study.base),
        "config": changed_fields(study.config),
        "space": {path: str(domain) for path, domain in study.space.items()},
        "start": study.start,
        "seed": study.search.seed,
        "examiners": changed_fields(study.examiners),
    }
    return f"{FOLDER}/{teacher.digest[:12]}-{recipe_digest(to_plain(recipe))}"


def images_name(folder: str) -> str:
    """The file with the images of all examiners."""
    return f"{folder}.pt"


def epoch_name(folder: str, run: str, epoch: int) -> str:
    """The file of one epoch of the examiner `run`."""
    return f"{folder}/{_epoch_file(run, epoch)}"


def _epoch_file(run: str, epoch: int) -> str:
    return f"{run}-{epoch:03d}.pt"


def kept_examiners(study: Study, teacher: Teacher, storage: Storage) -> Examiners | None:
    """Load the examiners of `study` from the storage; None if it asks for none, or they are not trained yet.

    CheckpointError if their file cannot be read.
    """
    folder = examiners_folder(study, teacher)
    name = images_name(folder)
    if not study.has_examiners or not storage.exists(name):
        return None
    try:
        with storage.reading(storage.path(name)) as path:
            return Examiners(ExamImages.load(path, teacher=teacher), folder)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; delete it to make new ones") from error


@dataclass(frozen=True, kw_only=True)
class ExaminerTraining:
    """How one examiner is trained, on any worker. `shares`: by epoch, how many images it contributes; `last`: its last epoch."""

    study: Study
    teacher: Teacher
    probe: ProbeSet
    storage: Storage
    folder: str
    shares: Mapping[int, int]
    last: int
    code_folders: Sequence[str]

    def run(self, point: Point) -> float:
        """Train the examiner of `point` from its last stored epoch -> its student's agreement on the probe set.

        DivergedError if it diverges.
        """
        look_in(self.code_folders)
        torch.set_num_threads(self.study.resources.cpus)
        cap_gpu_memory(self.study.resources.gpus)
        config = build_config(self.study.base, point)
        run, device = run_digest(config), resolve_device("cuda" if self.study.resources.gpus else "cpu")
        distiller = Distiller(config, self.teacher, measurement=Measurement(self.teacher, device, probe=self.probe))
        self._go_on(distiller, run)
        while distiller.epoch < self.last:
            metrics = distiller.train_epoch()
            epoch = TrainedEpoch(distiller.parts_state(), metrics, self._images(distiller))
            epoch.save(self.storage, epoch_name(self.folder, run, distiller.epoch))
        return distiller.evaluate()["probe_agreement"]

    def num_trained(self, runs: Sequence[str]) -> int:
        """How many epochs of `runs` the storage has."""
        names = set(self.storage.names(self.folder))
        return sum(_epoch_file(run, epoch) in names for run in runs for epoch in range(1, self.last + 1))

    def images_of(self, run: str) -> Tensor:
        """All images that the examiner contributed, uint8 [n, K, H, W]. CheckpointError if one of its epochs cannot be read."""
        epochs = [TrainedEpoch.load(self.storage, epoch_name(self.folder, run, epoch)) for epoch in self.shares]
        return torch.cat([epoch.images for epoch in epochs if epoch.images is not None])

    def _images(self, distiller: Distiller) -> Tensor | None:
        if (num := self.shares.get(distiller.epoch)) is None:
            return None
        return distiller.draw_images(num, part=list(self.shares).index(distiller.epoch), num_parts=len(self.shares))

    def _go_on(self, distiller: Distiller, run: str) -> None:
        """Continue from the last readable epoch, as an earlier process may have been killed."""
        for number in range(self.last, 0, -1):
            with suppress(CheckpointError):
                distiller.continue_after(number, TrainedEpoch.load(self.storage, epoch_name(self.folder, run, number)).parts)
                return
