"""What every trial of a study shares, made once and cached by digest: dataset, teacher, probe set."""

from dataclasses import dataclass, replace

import torch

from cpsc.data import Dataset, Normalisation, load_dataset
from cpsc.device import resolve_device
from cpsc.errors import ConfigError
from cpsc.frechet import load_inception
from cpsc.measurement import InceptionReference
from cpsc.probe import ProbeConfig, ProbeSet, synthesise
from cpsc.published import PublishedConfig, load_teacher
from cpsc.teacher import Teacher, measure, train_teacher
from tuning.config import Study, TeacherSource, folder_path
from tuning.network_check import check_above_chance, settle_network
from tuning.progress import Display, percent
from tuning.redaction import redact
from tuning.storage import Storage


@dataclass(frozen=True)
class Assets:
    """The inputs of a study's trials; `dataset` is None where there are no labelled images."""

    teacher: Teacher
    probe: ProbeSet
    dataset: Dataset | None
    inception: InceptionReference | None = None


def prepare(study: Study, display: Display, *, force: bool = False, on_cluster: bool = False) -> Assets:
    """Load or make everything the study's trials share; `on_cluster`: on a driver that need not have the trials' GPU."""
    storage = open_storage(study)
    device = resolve_device("auto" if study.resources.gpus else "cpu") if on_cluster else study_device(study)
    dataset = load_dataset(study.dataset, say=display.say) if study.dataset else None
    teacher = obtain_teacher(study.teacher, dataset, storage, device, display, force=force)
    inception = _inception_reference(study, dataset)
    return Assets(teacher, obtain_probe(teacher, study.probe, storage, device, display), dataset, inception)


def _inception_reference(study: Study, dataset: Dataset | None) -> InceptionReference | None:
    """What an FID needs, tried out before anything is trained: the trials look at it in their last epoch."""
    if study.measure.inception_weights is None or dataset is None:
        return None
    weights = folder_path(study.measure.inception_weights, "measure.inception_weights")
    load_inception(weights)
    return InceptionReference(weights, dataset.train.images)


def study_device(study: Study) -> torch.device:
    """CPU, or CUDA where the study asks for a GPU; ConfigError where it asks for more than there is."""
    gpus = study.resources.gpus
    if gpus == 0:
        return resolve_device("cpu")
    available = torch.cuda.device_count()
    if gpus > available:
        raise ConfigError(f"resources.gpus: {gpus:g} asked for, this machine has {available}; set it to 0 to use the CPU")
    return resolve_device("cuda")


def open_storage(study: Study) -> Storage:
    """The study's storage, and its local folder, tried out: ConfigError where one cannot be written and read."""
    storage = Storage(study.storage)
    storage.check()
    if str(study.local) != storage.root:
        Storage(str(study.local)).check()
    return storage


def obtain_teacher(
    source: TeacherSource,
    dataset: Dataset | None,
    storage: Storage,
    device: torch.device,
    display: Display,
    *,
    force: bool = False,
) -> Teacher:
    """The teacher that `source` names, loaded or trained and kept; refused below `min_accuracy` unless forced.

    One from a file is also refused where its network is not the one that its weights were trained in: see `network_check`.
    Where labelled images are at hand its accuracy is measured anew, not believed.
    """
    if source.path is not None:
        teacher, origin = _from_path(source.path, source.published)
        teacher, found = settle_network(teacher, source, origin, device, display, force=force)
    else:
        (teacher, origin), found = _from_recipe(source, dataset, storage, device, display), ""
    accuracy = teacher.test_accuracy
    if dataset is not None:
        teacher.check_dataset(dataset)
        seen = replace(dataset, normalisation=teacher.normalisation)  # it may have been trained with others than the dataset's
        accuracy = measure(teacher.build(device), seen, device)
    display.say(
        f"teacher {teacher.arch} {teacher.digest[:12]}: {teacher.num_classes} classes, {_spoken(teacher.normalisation)}, "
        f"test accuracy {percent(accuracy) if accuracy is not None else 'unknown'} ({origin}){found and f'; {found}'}"
    )
    if source.path is not None and dataset is not None and not force:
        assert accuracy is not None
        check_above_chance(teacher, accuracy, len(dataset.test), origin)
    if source.min_accuracy > 0 and not force:
        _check_accuracy(accuracy, source.min_accuracy, origin)
    return teacher


def _check_accuracy(accuracy: float | None, minimum: float, origin: str) -> None:
    if accuracy is None:
        raise ConfigError(
            f"config.teacher.min_accuracy: nobody knows what {origin} scores; name labelled images by config.dataset "
            "to measure it, leave min_accuracy out, or pass --force"
        )
    if accuracy < minimum:
        raise ConfigError(
            f"config.teacher: {origin} scores {percent(accuracy)}, below min_accuracy {percent(minimum)}; "
            "train it longer, or pass --force to use it all the same"
        )


def _spoken(normalisation: Normalisation) -> str:
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (normalisation.mean, normalisation.std))
    return f"normalised by mean {mean} and std {std}"


def obtain_probe(teacher: Teacher, config: ProbeConfig, storage: Storage, device: torch.device, display: Display) -> ProbeSet:
    """The teacher's probe set, loaded or synthesised and kept under both digests."""
    name = probe_name(teacher, config)
    if not storage.exists(name):
        with display.bar("probe set", config.num_images // config.batch_size * config.steps) as advance:
            probe = synthesise(teacher, config, device, on_step=lambda done, total: advance(done, f"step {done} of {total}"))
        with storage.writing(name) as path:
            probe.save(path)
    with storage.reading(storage.path(name)) as path:
        probe = ProbeSet.load(path, teacher=teacher)
    display.say(
        f"probe set of {len(probe.labels)} synthetic images: the teacher gives {percent(probe.teacher_accuracy)} "
        f"of them the class they were made for ({storage}/{name})"
    )
    return probe


def probe_name(teacher: Teacher, config: ProbeConfig) -> str:
    """Where the storage keeps the probe set of `teacher`."""
    return f"probes/{teacher.digest[:12]}-{config.digest}.pt"


def _from_recipe(
    source: TeacherSource, dataset: Dataset | None, storage: Storage, device: torch.device, display: Display
) -> tuple[Teacher, str]:
    recipe = source.recipe
    assert recipe is not None  # resolve_study has checked both
    assert dataset is not None
    name = f"teachers/{dataset.name}-{recipe.arch}-{dataset.digest[:8]}-{recipe.digest}.pt"
    if not storage.exists(name):
        with display.bar(f"teacher {recipe.arch}", recipe.epochs) as advance:
            teacher = train_teacher(
                recipe, dataset, device, on_epoch=lambda epoch, loss: advance(epoch, f"epoch {epoch} loss {loss:.4f}")
            )
        with storage.writing(name) as path:
            teacher.save(path)
    with storage.reading(storage.path(name)) as path:
        return Teacher.load(path), f"{storage}/{name}"


def _from_path(text: str, published: PublishedConfig | None) -> tuple[Teacher, str]:
    """A bundle, or weights that another program saved, at a path or URI."""
    if "://" not in text:
        path = folder_path(text, "config.teacher.path")
        return load_teacher(path, published), str(path)
    folder, _, name = text.partition("?")[0].rpartition("/")
    query = text.partition("?")[2]
    storage = Storage(f"{folder}?{query}" if query else folder)
    with storage.reading(storage.path(name)) as path:
        return load_teacher(path, published), redact(text)
