"""What every trial of a study shares, made once and cached by digest: dataset, teacher, probe set."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from cpsc.data import Dataset, load_dataset
from cpsc.device import resolve_device
from cpsc.errors import ConfigError
from cpsc.probe import ProbeConfig, ProbeSet, synthesise
from cpsc.teacher import Teacher, measure, train_teacher
from tuning.config import Study, TeacherSource
from tuning.progress import Display, percent


@dataclass(frozen=True)
class Assets:
    """The inputs of a study's trials; `dataset` is None where there are no labelled images."""

    teacher: Teacher
    probe: ProbeSet
    dataset: Dataset | None


def prepare(study: Study, display: Display, *, force: bool = False, on_cluster: bool = False) -> Assets:
    """Load or make everything the study's trials share; `on_cluster`: on a driver that need not have the trials' GPU."""
    check_writable(study.storage)
    device = resolve_device("auto" if study.resources.gpus else "cpu") if on_cluster else study_device(study)
    dataset = load_dataset(study.dataset) if study.dataset else None
    teacher = obtain_teacher(study.teacher, dataset, study.storage, device, display, force=force)
    return Assets(teacher, obtain_probe(teacher, study.probe, study.storage, device, display), dataset)


def study_device(study: Study) -> torch.device:
    """CPU, or CUDA where the study asks for a GPU; ConfigError where it asks for more than there is."""
    gpus = study.resources.gpus
    if gpus == 0:
        return resolve_device("cpu")
    available = torch.cuda.device_count()
    if gpus > available:
        raise ConfigError(f"resources.gpus: {gpus:g} asked for, this machine has {available}; set it to 0 to use the CPU")
    return resolve_device("cuda")


def check_writable(folder: Path) -> None:
    """Raise ConfigError unless files can be made in `folder`, or it itself in the nearest folder that exists."""
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise ConfigError(
            f"storage: {folder} cannot be written ({error.strerror}), choose another with --set storage=..."
        ) from error


def obtain_teacher(
    source: TeacherSource,
    dataset: Dataset | None,
    storage: Path,
    device: torch.device,
    display: Display,
    *,
    force: bool = False,
) -> Teacher:
    """The teacher that `source` names, loaded or trained and kept; refused below `min_accuracy` unless forced.

    Where labelled images are at hand its accuracy is measured anew, not believed.
    """
    if source.path is not None:
        path = Path(source.path).expanduser()
        teacher, origin = Teacher.load(path), str(path)
    else:
        teacher, origin = _from_recipe(source, dataset, storage, device, display)
    accuracy = teacher.test_accuracy
    if dataset is not None:
        teacher.check_dataset(dataset)
        accuracy = measure(teacher.build(device), dataset, device)
    display.say(f"teacher {teacher.arch} {teacher.digest[:12]}: test accuracy {percent(accuracy)} ({origin})")
    if accuracy < source.min_accuracy and not force:
        raise ConfigError(
            f"config.teacher: {origin} scores {percent(accuracy)}, below min_accuracy {percent(source.min_accuracy)}; "
            "train it longer, or pass --force to use it all the same"
        )
    return teacher


def obtain_probe(teacher: Teacher, config: ProbeConfig, storage: Path, device: torch.device, display: Display) -> ProbeSet:
    """The teacher's probe set, loaded or synthesised and kept under both digests."""
    path = storage / "probes" / f"{teacher.digest[:12]}-{config.digest}.pt"
    if not path.is_file():
        with display.bar("probe set", config.num_images // config.batch_size * config.steps) as advance:
            probe = synthesise(teacher, config, device, on_step=lambda done, total: advance(done, f"step {done} of {total}"))
        probe.save(path)
    probe = ProbeSet.load(path, teacher=teacher)
    display.say(
        f"probe set of {len(probe.labels)} synthetic images: the teacher gives {percent(probe.teacher_accuracy)} "
        f"of them the class they were made for ({path})"
    )
    return probe


def _from_recipe(
    source: TeacherSource, dataset: Dataset | None, storage: Path, device: torch.device, display: Display
) -> tuple[Teacher, str]:
    recipe = source.recipe
    assert recipe is not None  # resolve_study has checked both
    assert dataset is not None
    path = storage / "teachers" / f"{dataset.name}-{recipe.arch}-{dataset.digest[:8]}-{recipe.digest}.pt"
    if not path.is_file():
        with display.bar(f"teacher {recipe.arch}", recipe.epochs) as advance:
            teacher = train_teacher(
                recipe, dataset, device, on_epoch=lambda epoch, loss: advance(epoch, f"epoch {epoch} loss {loss:.4f}")
            )
        teacher.save(path)
    return Teacher.load(path), str(path)
