"""Assets that every trial of a study shares, made once and cached by digest: dataset, teacher, probe set."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from cpsc.data import Dataset, Normalisation, load_dataset
from cpsc.data.decoding import GREY
from cpsc.device import resolve_device
from cpsc.errors import ConfigError
from cpsc.frechet import load_inception
from cpsc.ground import Ground
from cpsc.measurement import InceptionReference
from cpsc.norms import NormSurvey
from cpsc.probe import ProbeConfig, ProbeSet
from cpsc.published import PublishedConfig, load_teacher
from cpsc.teacher import Teacher, measure
from cpsc.teacher_training import check_trainable
from tuning.display import Display, percent
from tuning.redaction import redact
from tuning.storage import Storage
from tuning.study import Study, TeacherSource
from tuning.study.class_count import check_class_count
from tuning.study.paths import folder_path
from tuning.study.teacher_fit import check_images, check_students, fitted, survey_teacher, switched_off
from tuning.trial.busy_machine import busy_remark
from tuning.trial.examiners import Examiners, kept_examiners
from tuning.trial.ground import settle_ground
from tuning.trial.limits import check_limits, within_limits
from tuning.trial.making_probe import make_probe
from tuning.trial.making_teacher import make_teacher
from tuning.trial.network_check import check_above_chance, settle_network
from tuning.trial.resources import study_device


@dataclass(frozen=True)
class Assets:
    """The inputs of a study's trials; `dataset` is None where there are no labelled images."""

    teacher: Teacher
    probe: ProbeSet
    dataset: Dataset | None
    inception: InceptionReference | None = None
    norms: NormSurvey | None = None
    """Survey of the teacher's batch norms; None if none was made."""
    switched_off: tuple[str, ...] = ()
    """Settings of the study that are ignored because this teacher has nothing that they could act on."""
    examiners: Examiners | None = None
    """The examiners, if the study chooses its students by them and they exist: a sweep trains them, the storage keeps them."""
    ground: Ground | None = None
    """Figures of the teacher on its probe set and of the set itself; None if none were measured."""

    def fit(self, study: Study) -> Study:
        """Return `study`, as read from its file, fitted to this teacher: the study that is actually run."""
        return _as_run(study, self.teacher, self.norms)


def _as_run(study: Study, teacher: Teacher, norms: NormSurvey | None) -> Study:
    study = within_limits(study, teacher)
    return study if norms is None else fitted(study, norms)


def prepare(
    study: Study,
    display: Display,
    *,
    force: bool = False,
    on_cluster: bool = False,
    before_making: Callable[[], None] = lambda: None,
) -> Assets:
    """Load or make everything that the study's trials share; the study to run is then `Assets.fit` of this one.

    `on_cluster`: this process is a driver, which need not have the trials' GPU. `before_making` is called before a teacher is
    trained or a probe set is synthesised, so that whatever would stop the study can stop it before these minutes of work.
    """
    storage = open_storage(study)
    device = resolve_device("auto" if study.resources.gpus else "cpu") if on_cluster else study_device(study)
    dataset = load_dataset(study.dataset, say=display.say) if study.dataset else None
    dataset, teacher, norms = _obtain_surveyed(
        study.teacher, dataset, storage, device, display, force=force, before_making=before_making
    )
    _check_with_teacher(study, teacher, display, force=force)
    check_students(study, teacher)
    if left_out := check_limits(study, teacher):
        display.say(left_out)
    inception = _inception_reference(study, dataset)
    run, off = _as_run(study, teacher, norms), switched_off(study, norms)
    if off:
        terms = ", ".join(run.probe.terms)
        display.say(f"switched off for lack of batch norms: {', '.join(off)}; the probe set is made with {terms} alone")
    probe = obtain_probe(teacher, run.probe, storage, device, display, before_making=before_making)
    num_test = len(dataset.test) if dataset is not None else 0
    ground = settle_ground(teacher, probe, device, display, num_test=num_test, force=force)
    return Assets(teacher, probe, dataset, inception, norms, off, kept_examiners(run, teacher, storage), ground)


def _check_with_teacher(study: Study, teacher: Teacher, display: Display, *, force: bool) -> None:
    """Check the study against its teacher. `force` only reports what is wrong: a launch that is resumed was accepted with it."""
    try:
        check_class_count(study.base, study.space, teacher.num_classes)
        check_images(study, teacher)
    except ConfigError as error:
        if not force:
            raise
        display.say(str(error))


def _inception_reference(study: Study, dataset: Dataset | None) -> InceptionReference | None:
    """Load what FID needs before anything is trained: the trials only use it in their last epoch, which is late to fail."""
    if study.measure.inception_weights is None or dataset is None:
        return None
    weights = folder_path(study.measure.inception_weights, "measure.inception_weights")
    load_inception(weights)
    return InceptionReference(weights, dataset.train.images)


def open_storage(study: Study) -> Storage:
    """Open the study's storage, and check that it and the local folder can be written and read; ConfigError if not."""
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
    """The teacher that `source` names, loaded or trained and kept; ConfigError below `min_accuracy` unless forced.

    A teacher from a file is also refused if its network is not the one that its weights were trained in: see `network_check`.
    With labelled images, the accuracy of a teacher from a file is measured rather than believed. One that was trained here was
    measured then, on the same images: its name has their digest.
    """
    return _obtain_surveyed(source, dataset, storage, device, display, force=force, before_making=lambda: None)[1]


def _obtain_surveyed(
    source: TeacherSource,
    dataset: Dataset | None,
    storage: Storage,
    device: torch.device,
    display: Display,
    *,
    force: bool,
    before_making: Callable[[], None],
) -> tuple[Dataset | None, Teacher, NormSurvey]:
    """Like `obtain_teacher`, but returns also the dataset, in the teacher's number of channels, and a survey of its batch norms."""
    if source.path is not None:
        teacher, origin = _from_path(source.path, source.published, display)
        teacher, found = settle_network(teacher, source, origin, device, display, force=force)
    else:
        teacher, origin = _from_recipe(source, dataset, storage, device, display, before_making)
        found = ""
    accuracy = teacher.test_accuracy
    if dataset is not None:
        dataset = _with_its_channels(dataset, teacher, display)
        teacher.check_dataset(dataset)
        if source.path is not None:
            seen = replace(dataset, normalisation=teacher.normalisation)  # its training may not have used the dataset's
            accuracy = measure(teacher.build(device), seen, device)
    display.say(
        f"teacher {teacher.arch} {teacher.digest[:12]}: {teacher.num_classes} classes, {_spoken(teacher.normalisation)}, "
        f"test accuracy {percent(accuracy) if accuracy is not None else 'unknown'} ({origin}){found and f'; {found}'}"
    )
    norms = survey_teacher(teacher)
    if about := str(norms):
        display.say(f"this teacher: {about}")
    if source.path is not None and dataset is not None and not force:
        assert accuracy is not None
        check_above_chance(teacher, accuracy, len(dataset.test), origin)
    if source.min_accuracy > 0 and not force:
        _check_accuracy(accuracy, source.min_accuracy, origin)
    return dataset, teacher, norms


def kept_teacher(study: Study, display: Display) -> Teacher | None:
    """Load the teacher of `study` from its file or the storage without measuring it; None if it has not been trained yet.

    Of several teachers with the same recipe, trained on different images of the same dataset, any will do: their size is the same.
    """
    source = study.teacher
    if source.path is not None:
        return _from_path(source.path, source.published, display)[0]
    assert source.recipe is not None
    assert study.dataset is not None
    storage = Storage(study.storage)
    first, last = f"{study.dataset.name}-{source.recipe.arch}-", f"-{source.recipe.digest}.pt"
    names = [name for name in storage.names("teachers") if name.startswith(first) and name.endswith(last)]
    if not names:
        return None
    with storage.reading(storage.path(f"teachers/{names[0]}")) as path:
        return Teacher.load(path)


def _with_its_channels(dataset: Dataset, teacher: Teacher, display: Display) -> Dataset:
    """Convert grey images that were read as colour images, if the teacher takes one channel."""
    if teacher.channels != GREY or dataset.channels == GREY or not dataset.is_grey:
        return dataset
    display.say(f"dataset {dataset.name}: its images are grey and are read with one channel, as the teacher expects")
    return dataset.in_one_channel()


def _check_accuracy(accuracy: float | None, minimum: float, origin: str) -> None:
    if accuracy is None:
        raise ConfigError(
            f"config.teacher.min_accuracy: the test accuracy of {origin} is unknown; name labelled images in config.dataset "
            "to measure it, leave min_accuracy out, or pass --force"
        )
    if accuracy < minimum:
        raise ConfigError(
            f"config.teacher: {origin} scores {percent(accuracy)}, below min_accuracy {percent(minimum)}; "
            "train it longer, or pass --force to use it anyway"
        )


def _spoken(normalisation: Normalisation) -> str:
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (normalisation.mean, normalisation.std))
    return f"normalised by mean {mean} and std {std}"


def obtain_probe(
    teacher: Teacher,
    config: ProbeConfig,
    storage: Storage,
    device: torch.device,
    display: Display,
    *,
    before_making: Callable[[], None] = lambda: None,
) -> ProbeSet:
    """Load the teacher's probe set, or synthesise and keep it; its name has the digests of the teacher and of `config`."""
    name = probe_name(teacher, config, storage)
    if not storage.exists(name):
        before_making()
        _say_if_busy(device, display)
        make_probe(teacher, config, storage, name, device, display)
    with storage.reading(storage.path(name)) as path:
        probe = ProbeSet.load(path, teacher=teacher)
    display.say(
        f"probe set of {len(probe.labels)} synthetic images: the teacher gives {percent(probe.teacher_accuracy)} "
        f"of them the class they were made for ({storage}/{name})"
    )
    return probe


def probe_name(teacher: Teacher, config: ProbeConfig, storage: Storage) -> str:
    """Where `storage` keeps the probe set of `teacher`; a name given by an earlier version still counts, as launches may use it."""
    names = [f"probes/{teacher.digest[:12]}-{digest}.pt" for digest in (config.digest, config.earlier_digest)]
    return next((name for name in names if storage.exists(name)), names[0])


def _from_recipe(
    source: TeacherSource,
    dataset: Dataset | None,
    storage: Storage,
    device: torch.device,
    display: Display,
    before_making: Callable[[], None],
) -> tuple[Teacher, str]:
    recipe = source.recipe
    assert recipe is not None  # resolve_study has checked both
    assert dataset is not None
    parts = dataset.name, recipe.arch, dataset.digest[:8], dataset.treatment, recipe.digest
    name = f"teachers/{'-'.join(filter(None, parts))}.pt"
    if not storage.exists(name):
        check_trainable(dataset)
        before_making()
        _say_if_busy(device, display)
        make_teacher(recipe, dataset, storage, name, device, display)
    with storage.reading(storage.path(name)) as path:
        return Teacher.load(path), f"{storage}/{name}"


def _from_path(text: str, published: PublishedConfig | None, display: Display) -> tuple[Teacher, str]:
    """Load a bundle, or weights that another program saved, from a path or URI."""
    if "://" not in text:
        path = folder_path(text, "config.teacher.path")
        return load_teacher(path, published, say=display.say), str(path)
    folder, _, name = text.partition("?")[0].rpartition("/")
    query = text.partition("?")[2]
    storage = Storage(f"{folder}?{query}" if query else folder)
    with storage.reading(storage.path(name)) as path:
        return load_teacher(path, published, say=display.say), redact(text)


def _say_if_busy(device: torch.device, display: Display) -> None:
    if device.type == "cpu" and (remark := busy_remark(torch.get_num_threads())):
        display.say(remark)
