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
from cpsc.teacher import Teacher, TeacherRecipe, check_trainable, measure, train_teacher
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
    """What the teacher has of batch norms; None: nobody has looked."""
    switched_off: tuple[str, ...] = ()
    """Settings of the study that are not followed, for the teacher has nothing for them."""
    examiners: Examiners | None = None
    """Where the study's students are chosen by them: those that the storage has, or that a sweep has made."""
    ground: Ground | None = None
    """What the probe set says of the teacher and of itself; None: nobody has looked."""

    def fit(self, study: Study) -> Study:
        """`study`, as its file has it, as it is run with this teacher."""
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
    """Load or make everything the study's trials share; `on_cluster`: on a driver that need not have the trials' GPU.

    What is run is `Assets.fit` of the study. `before_making` is called before a teacher is trained or a probe set synthesised:
    what would stop the study after these minutes of work must stop it there.
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
        display.say(f"switched off for want of batch norms: {', '.join(off)}; the probe set is made by {terms} alone")
    probe = obtain_probe(teacher, run.probe, storage, device, display, before_making=before_making)
    num_test = len(dataset.test) if dataset is not None else 0
    ground = settle_ground(teacher, probe, device, display, num_test=num_test, force=force)
    return Assets(teacher, probe, dataset, inception, norms, off, kept_examiners(run, teacher, storage), ground)


def _check_with_teacher(study: Study, teacher: Teacher, display: Display, *, force: bool) -> None:
    """Forced, what the study goes on with is said: a launch that is resumed has been accepted with it."""
    try:
        check_class_count(study.base, study.space, teacher.num_classes)
        check_images(study, teacher)
    except ConfigError as error:
        if not force:
            raise
        display.say(str(error))


def _inception_reference(study: Study, dataset: Dataset | None) -> InceptionReference | None:
    """What an FID needs, tried out before anything is trained: the trials look at it in their last epoch."""
    if study.measure.inception_weights is None or dataset is None:
        return None
    weights = folder_path(study.measure.inception_weights, "measure.inception_weights")
    load_inception(weights)
    return InceptionReference(weights, dataset.train.images)


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
    """The same, between `dataset` with as many channels as it takes and what it has of batch norms."""
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
        seen = replace(dataset, normalisation=teacher.normalisation)  # it may have been trained with others than the dataset's
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
    """The teacher of `study` as its file or the storage has it, with nothing measured; None where it is yet to be trained.

    Of a recipe's teachers, trained on other images of the same dataset, any will do: they are of one size.
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
    """Grey images that were read in colour, for a teacher that takes one channel."""
    if teacher.channels != GREY or dataset.channels == GREY or not dataset.is_grey:
        return dataset
    display.say(f"dataset {dataset.name}: its images, which are grey, are taken with one channel, as the teacher takes them")
    return dataset.in_one_channel()


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


def obtain_probe(
    teacher: Teacher,
    config: ProbeConfig,
    storage: Storage,
    device: torch.device,
    display: Display,
    *,
    before_making: Callable[[], None] = lambda: None,
) -> ProbeSet:
    """The teacher's probe set, loaded or synthesised and kept under both digests."""
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
    """Where `storage` keeps the probe set of `teacher`: one that an earlier version made is as good, and a launch may have it."""
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
        teacher = _trained(recipe, dataset, device, display)
        with storage.writing(name) as path:
            teacher.save(path)
    with storage.reading(storage.path(name)) as path:
        return Teacher.load(path), f"{storage}/{name}"


def _trained(recipe: TeacherRecipe, dataset: Dataset, device: torch.device, display: Display) -> Teacher:
    """With a bar that moves with every batch and says how the last epoch went."""
    state = ""
    with display.bar(f"teacher {recipe.arch}", recipe.epochs) as advance:

        def on_epoch(epoch: int, loss: float) -> None:
            nonlocal state
            state = f"epoch {epoch} loss {loss:.4f}"
            advance(epoch, state)

        return train_teacher(recipe, dataset, device, on_epoch=on_epoch, on_batch=lambda epochs: advance(epochs, state))


def _from_path(text: str, published: PublishedConfig | None, display: Display) -> tuple[Teacher, str]:
    """A bundle, or weights that another program saved, at a path or URI."""
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
