"""The study file that a user writes, validated as a whole before anything starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter

from cpsc.config import DistillConfig
from cpsc.data import DatasetConfig
from cpsc.data.dataset import Normalisation
from cpsc.errors import ConfigError
from cpsc.examiners import ExaminerConfig
from cpsc.import_path import is_import_path
from cpsc.methods import METHODS
from cpsc.probe import ProbeConfig
from cpsc.published import NORMALISATION_RULE, PublishedConfig
from cpsc.teacher_training import TeacherRecipe
from tuning.redaction import redact
from tuning.study.base_config import BaseConfig, build_config, check_settings
from tuning.study.class_count import class_count
from tuning.study.distributions import Distribution
from tuning.study.finalists import FinalistConfig, check_finalists
from tuning.study.fitting_sections import fitting_probe, fitting_recipe
from tuning.study.names import check_fits, check_study_name
from tuning.study.overrides import SCALE, apply_overrides, apply_scale, parse_assignments
from tuning.study.paths import folder_path, from_folder, with_absolute_files
from tuning.study.population import POPULATION, PopulationConfig, check_population
from tuning.study.prior import PriorConfig
from tuning.study.published_point import published_point
from tuning.study.search_space import parse_space
from tuning.study.start_points import grid_points, parse_start
from tuning.study.tracking_uri import is_tracking_uri
from tuning.study.validation import format_value, said_as_text, validate
from tuning.study.yaml_loader import read_mapping

_PROBE, _EXAMINERS, _DATASET = TypeAdapter(ProbeConfig), TypeAdapter(ExaminerConfig), TypeAdapter(DatasetConfig)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class StopConfig(_Section):
    """When a search stops by itself, before its budgets are used up."""

    trials_without_gain: int | None = Field(default=None, ge=1)
    """Stop after this many trials that were proposed after the best one and ended without being better."""
    min_gain: float = Field(default=0.0, ge=0, le=1)
    """The smallest gain that counts as better, in the objective's unit: 0.003 is 0.3 points of agreement."""
    terminator: Literal["regret_bound", "emmr"] | None = None
    """An Optuna terminator: `regret_bound` ends the search if the possible remaining gain is below `min_gain` (Makarova et al.,
    AutoML 2022), `emmr` if the expected minimum regret no longer changes (Ishibashi et al., AISTATS 2023)."""
    min_trials: int = Field(default=20, ge=2)
    """Trials that must have run to their end before a terminator is asked; `emmr` itself waits for 30."""


class LimitsConfig(_Section):
    """The most that a student may cost."""

    model_config = ConfigDict(serialize_by_alias=True)

    macs: float | None = Field(default=None, gt=0, alias="student.macs")
    """Multiply-adds per image."""
    parameters: float | None = Field(default=None, gt=0, alias="student.parameters")
    """Number of trainable parameters."""
    bytes: float | None = Field(default=None, gt=0, alias="student.bytes")
    """Size of its exported weights."""

    @property
    def bounds(self) -> dict[str, float]:
        """The limits that are set, by ``student.macs`` and so on."""
        return {name: value for name, value in self.model_dump().items() if value is not None}


class SearchConfig(_Section):
    """How points are proposed, and how many."""

    sampler: Literal["tpe", "gp", "prior", "random", "grid"] = "tpe"
    """`prior` starts at and near the published values. `grid` runs every combination of the choices under `space` once; if `start`
    lists points, it runs those, combined with all values of the parameters that no point mentions."""
    num_trials: int = Field(default=16, ge=1)
    startup_trials: int = Field(default=10, ge=1)
    """Trials before TPE or the Gaussian process models the objective; the latter counts completed trials only."""
    prior: PriorConfig | None = None
    """For sampler `prior`: how close the best values are expected to be to the published ones; default: medium confidence."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    time_budget_s: float | None = Field(default=None, gt=0)
    """After this time no new trials are proposed; running ones finish."""
    epoch_budget: int | None = Field(default=None, ge=1)
    """The same after this many epochs, counted over all trials."""
    stop: StopConfig = StopConfig()
    """The same once trials no longer improve."""
    limits: LimitsConfig = LimitsConfig()
    """The most that a student may cost. Students beyond a limit are never trained."""
    max_concurrent: int | None = Field(default=None, ge=1)
    """Most trials at a time; default: as many as the resources allow."""
    finalists: FinalistConfig | None = None
    """After the search its best points are rerun under new seeds, and the student is chosen by their mean."""

    @property
    def prior_deviation(self) -> float:
        """The prior's standard deviation, as a share of each range."""
        return (self.prior or PriorConfig()).deviation


class PruneConfig(PopulationConfig):
    """The scheduler that ends poor trials early or, with `pbt`, lets them continue from the state of a better one."""

    scheduler: Literal["asha", "pbt", "none"] = "asha"
    grace_epochs: int = Field(default=1, ge=1)
    reduction_factor: float = Field(default=3, ge=1.1, le=1000)


class ResourceConfig(_Section):
    """Resources of one trial, which uses `cpus` threads."""

    cpus: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0)


class CheckpointConfig(_Section):
    """How often a trial saves a checkpoint, and which of its files go to MLflow."""

    every_epochs: int = Field(default=1, ge=1)
    artifacts: Literal["last_and_best", "best", "none"] = "last_and_best"


class MeasureConfig(_Section):
    """Additional measurements that need files of their own."""

    inception_weights: str | None = None
    """Weights of the original FID's Inception-v3; if set, each trial's last epoch gets an FID against the training images."""


class EarlierLaunch(_Section):
    """A launch in the store of an MLflow server."""

    tracking: str
    study: str
    launch: str | None = None
    """Default: the study's latest launch."""


_LaunchName = Annotated[str, Tag("launch")] | Annotated[EarlierLaunch, Tag("store")]
"""An earlier launch: by its name or path, or in a store; thanks to the tag, an error names the right kind."""


class TrackingConfig(_Section):
    """Where a launch is recorded in addition to its journal. `uri`: an MLflow server; default: a SQLite file in `local`."""

    uri: str | None = None
    tensorboard: bool = False
    """Whether to write TensorBoard event files, too: to ``tensorboard`` in the launch's folder under `local`."""


class StudyFile(_Section):
    """The keys of a study file, as written."""

    name: str
    scale: str | None = None
    """A file in the folder ``scales`` that this file is merged over: the same study on another dataset. See `apply_scale`."""
    config: dict[str, Any]
    space: dict[str, Any] = {}
    start: list[dict[str, Any]] = []
    transfer: list[Annotated[_LaunchName, Discriminator(lambda entry: "launch" if isinstance(entry, str) else "store")]] = []
    """Earlier launches whose trials the search learns from: a name in `storage`, a folder's path or a URI that ends in the name,
    or a launch in an MLflow store. See `tuning.sweep.transfer`."""
    objective: Literal["exam_score", "probe_overlap", "probe_agreement", "test_accuracy"] = "exam_score"
    search: SearchConfig = SearchConfig()
    prune: PruneConfig = PruneConfig()
    resources: ResourceConfig = ResourceConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    measure: MeasureConfig = MeasureConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: str = "runs"
    """Shared by all nodes: teachers, probe sets, checkpoints, records. A folder, or a URI that `pyarrow.fs` supports."""
    local: str | None = None
    """On the driver's own disk: records in progress and the SQLite store. Default: `storage`, or runs if that is a URI."""


_STUDY_FILE = TypeAdapter(StudyFile)


@dataclass(frozen=True, kw_only=True)
class TeacherSource:
    """The teacher's file, or a recipe to train it on the study's dataset, and the accuracy below which it is refused."""

    path: str | None
    recipe: TeacherRecipe | None
    min_accuracy: float
    published: PublishedConfig | None = None
    """Settings next to ``path`` for weights that another program saved; None if there are none."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A resolved study: every setting is decided and checked, nothing has started."""

    name: str
    base: BaseConfig
    """The `DistillConfig` keys under ``config``, which points override."""
    teacher: TeacherSource
    dataset: DatasetConfig | None
    probe: ProbeConfig
    examiners: ExaminerConfig
    space: Mapping[str, Distribution]
    start: list[dict[str, Any]]
    transfer: list[str | EarlierLaunch]
    objective: str
    search: SearchConfig
    prune: PruneConfig
    resources: ResourceConfig
    checkpoint: CheckpointConfig
    measure: MeasureConfig
    tracking: TrackingConfig
    storage: str
    """An absolute path or a URI."""
    local: Path
    source: Mapping[str, Any]
    """The file's content with the overrides applied, as it is recorded."""

    @property
    def config(self) -> DistillConfig:
        """The config without any point applied."""
        return build_config(self.base, {})

    @property
    def metric(self) -> str:
        """The metric that ASHA and Optuna use: they take the last reported value, so it is the running best."""
        return f"best_{self.objective}"

    @property
    def finalist_cpus(self) -> int:
        """CPU cores of a finalist's run."""
        finalists = self.search.finalists
        return finalists.cpus if finalists and finalists.cpus else self.resources.cpus

    @property
    def has_examiners(self) -> bool:
        """Whether students are compared on the examiners' images, too, besides the probe set."""
        return self.objective == "exam_score"

    @property
    def first_point(self) -> dict[str, Any]:
        """The point that a sweep tries first, if the file names one."""
        return dict(self.start[0]) if self.start else {}


def load_study(path: Path, overrides: list[str] | None = None) -> Study:
    """Read a study file, apply `overrides` (``path=value``) and check it. ConfigError names file, path, value and rule in one line.

    Relative paths in the file are resolved against its folder, those in `overrides` against the working directory.
    """
    return _load(path, overrides or [], lambda raw: from_folder(raw, path.parent))


def load_recorded_study(path: Path, overrides: list[str]) -> Study:
    """Like `load_study`, for the study file of a launch, whose paths are relative to the working directory.

    If it has no objective, it was recorded when ``probe_agreement`` was the default.
    """
    return _load(path, overrides, lambda raw: {"objective": "probe_agreement", **raw}, fits_classes=False)


def _load(
    path: Path, overrides: list[str], prepared: Callable[[dict[str, Any]], dict[str, Any]], *, fits_classes: bool = True
) -> Study:
    """`prepared` turns the file's content into what the overrides are applied to."""
    try:
        raw, assignments = _layers(path, overrides)
        content = apply_overrides(prepared(raw), assignments, keys=StudyFile.model_fields.keys())
        return resolve_study(content, fits_classes=fits_classes)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def searched_paths(path: Path, overrides: list[str]) -> set[str]:
    """The parameters that the study searches with these overrides, even if the study is otherwise incomplete."""
    try:
        raw, assignments = _layers(path, overrides)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    space = assignments.get("space", raw.get("space"))
    added = {name.removeprefix("space.") for name in assignments if name.startswith("space.")}
    return added | {name for name in space if isinstance(name, str)} if isinstance(space, dict) else added


def _layers(path: Path, overrides: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The file's content merged over its scale, which the command line may override, and the remaining assignments."""
    raw = read_mapping(path, keys="name, config and space")
    assignments = parse_assignments(overrides)
    if SCALE in assignments:
        raw[SCALE] = assignments.pop(SCALE)
    return apply_scale(raw, path), assignments


def resolve_study(raw: Mapping[str, Any], *, fits_classes: bool = True) -> Study:
    """The study that a file's content describes. `fits_classes`: whether omitted probe set sizes follow the number of classes."""
    file = validate(_STUDY_FILE, raw, where="study")
    check_study_name(file.name)
    _check_tracking_uri(file.tracking.uri)
    config = with_absolute_files(file.config, file.space)
    dataset = _parse_dataset(config.pop("dataset", None))
    teacher = _parse_teacher(config.pop("teacher", None), dataset)
    num_classes = class_count(config.pop("num_classes", None), dataset, teacher.published)
    sizes = fitting_probe(config.pop("probe", {}), num_classes=num_classes if fits_classes else 0)
    probe = validate(_PROBE, sizes, where="config.probe")
    examiners = validate(_EXAMINERS, config.pop("examiners", {}), where="config.examiners")
    base = BaseConfig(
        num_classes=num_classes,
        by_method=_parse_by_method(config.pop("by_method", {})),
        preset=_parse_preset(config.pop("preset", None)),
        own=config,
    )
    _check_together(file, dataset, epochs=build_config(base, {}).epochs)
    space = parse_space(file.space, base, is_grid=file.search.sampler == "grid")
    points = _parse_points(file, space, base)
    _check_epochs(space, base)
    check_finalists(file.search.finalists, space, base)
    search = _parse_search(file.search, points)
    _check_prune(file.prune, search, space, epochs=build_config(base, {}).epochs)
    storage = _parse_storage(file.storage)
    local = _local_folder(file.local, storage)
    check_fits(local, file.name)
    return Study(
        name=file.name,
        base=base,
        teacher=teacher,
        dataset=dataset,
        probe=probe,
        examiners=examiners,
        space=space,
        start=points,
        transfer=file.transfer,
        objective=file.objective,
        search=search,
        prune=file.prune,
        resources=file.resources,
        checkpoint=file.checkpoint,
        measure=file.measure,
        tracking=file.tracking,
        storage=storage,
        local=local,
        source=_recorded_source(raw, file, sizes),
    )


def _recorded_source(raw: Mapping[str, Any], file: StudyFile, probe: Any) -> dict[str, Any]:
    """`raw` plus the values that must not change when the launch is resumed, even if a default changes by then."""
    follows_classes = probe != fitting_probe(file.config.get("probe", {}), num_classes=0)
    config = {**file.config, "probe": probe} if follows_classes else raw["config"]
    return {**raw, "objective": file.objective, "config": config}


def _local_folder(named: str | None, storage: str) -> Path:
    """Where the driver keeps its own records: the storage, unless it is not a folder on this machine."""
    if named:
        return folder_path(named, "local")
    return Path("runs").absolute() if "://" in storage else Path(storage)


def _check_tracking_uri(uri: str | None) -> None:
    if uri is not None and not is_tracking_uri(uri):
        uri = redact(uri)
        raise ConfigError(f"tracking.uri: must be an MLflow server, e.g. http://127.0.0.1:5000, or a database URI, got {uri!r}")


def _check_together(file: StudyFile, dataset: DatasetConfig | None, *, epochs: int) -> None:
    """Raise ConfigError if sections of the file contradict each other."""
    if file.transfer and file.search.sampler == "grid":
        raise ConfigError("transfer: must be left out with sampler grid, which runs fixed points and learns nothing from others")
    if file.search.stop.terminator == "regret_bound" and not file.search.stop.min_gain:
        raise ConfigError("search.stop.terminator: regret_bound needs search.stop.min_gain, the gain below which to stop")
    if file.objective == "test_accuracy" and dataset is None:
        raise ConfigError("objective: test_accuracy needs config.dataset, the labelled images to measure it on")
    if file.measure.inception_weights is not None and dataset is None:
        raise ConfigError("measure.inception_weights: needs config.dataset, the real images that the FID compares with")
    if file.prune.scheduler == "asha" and file.prune.grace_epochs > epochs:
        raise ConfigError(f"prune.grace_epochs: must be <= config.epochs ({epochs}), got {file.prune.grace_epochs}")


def _parse_storage(text: str) -> str:
    """An absolute path, or the URI unchanged; Arrow checks it when it is opened. A ``file://`` URI is decoded to a path."""
    if "://" not in text or not text.isprintable():
        return str(folder_path(text, "storage"))
    if not text.startswith("file://"):
        return text
    try:
        address = urlsplit(text)
        if address.netloc not in ("", "localhost") or address.query or address.fragment:
            raise ValueError("it contains more than a path")
    except ValueError as error:
        raise ConfigError(f"storage: {text!r} is not a folder on this machine, write it as a plain path") from error
    return str(folder_path(unquote(address.path), "storage"))


def check_searchable(study: Study) -> None:
    """Raise ConfigError if the study has no parameter to search."""
    if not study.space:
        raise ConfigError("space: names no parameter, so there is nothing to search; run the config with: cpsc-tune trial")


def _parse_dataset(raw: Any) -> DatasetConfig | None:
    if raw is None:
        return None
    return validate(_DATASET, {"name": raw} if isinstance(raw, str) else raw, where="config.dataset")


def _parse_teacher(raw: Any, dataset: DatasetConfig | None) -> TeacherSource:
    if not isinstance(raw, dict) or not raw:
        raise ConfigError(f"config.teacher: must name a bundle (path) or a recipe (arch, epochs, ...), got {raw!r}")
    rest = dict(raw)
    path, min_accuracy = rest.pop("path", None), rest.pop("min_accuracy", 0.0)
    if isinstance(min_accuracy, bool) or not isinstance(min_accuracy, int | float) or not 0 <= min_accuracy <= 1:
        text = said_as_text(min_accuracy)
        raise ConfigError(f"config.teacher.min_accuracy: must be in [0, 1], got {min_accuracy!r}{text}")
    if path is not None:
        if not isinstance(path, str):
            raise ConfigError(f"config.teacher.path: must be a file's path, got {path!r}")
        return TeacherSource(path=path, recipe=None, min_accuracy=min_accuracy, published=parse_published(rest))
    recipe = validate(TypeAdapter(TeacherRecipe), fitting_recipe(rest), where="config.teacher")
    if dataset is None:
        raise ConfigError("config.teacher: a recipe needs config.dataset to train on; without a dataset, give the path of a bundle")
    return TeacherSource(path=None, recipe=recipe, min_accuracy=min_accuracy)


def parse_published(raw: dict[Any, Any]) -> PublishedConfig | None:
    """Settings for the file at `path`, None without any; whether they are needed is known only once the file is read."""
    if odd := raw.keys() & TeacherRecipe.__dataclass_fields__.keys():
        raise ConfigError(f"config.teacher: path names a trained teacher, so {', '.join(sorted(odd))} must be left out")
    constants, where = raw.get("normalisation"), "config.teacher.normalisation"
    if isinstance(constants, dict):
        if odd := constants.keys() - {"mean", "std"}:
            raise ConfigError(f"{where}: must have the keys mean and std only, got {', '.join(sorted(map(str, odd)))}")
        raw = raw | {"normalisation": validate(TypeAdapter(Normalisation), constants, where=where)}
    elif not isinstance(constants, str | None):
        raise ConfigError(f"{where} must be {NORMALISATION_RULE}, got {format_value(constants)}")
    return validate(TypeAdapter(PublishedConfig), raw, where="config.teacher") if raw else None


def _parse_preset(name: Any) -> str | None:
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"config.preset: must be a name, got {name!r}")
    return name


def _parse_by_method(raw: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(raw, dict) or not all(isinstance(settings, dict) for settings in raw.values()):
        raise ConfigError(
            f"config.by_method: must map methods to settings, e.g. {{dafl: {{weights: {{kl: 1}}}}}}, got {format_value(raw)}"
        )
    if odd := [name for name in raw if name not in METHODS and not is_import_path(name)]:
        raise ConfigError(f"config.by_method.{odd[0]}: unknown method, use one of {', '.join(METHODS)}")
    for method, settings in raw.items():
        check_settings(settings, method=method, where=f"config.by_method.{method}")
    return raw


def _check_epochs(space: Mapping[str, Distribution], base: BaseConfig) -> None:
    """Raise ConfigError if the searched methods would run for different numbers of epochs, as their presets may."""
    if "method" not in space:
        return
    epochs = {method: build_config(base, {"method": method}).epochs for method in space["method"].arguments}
    if len(set(epochs.values())) > 1:
        found = ", ".join(f"{method} {number}" for method, number in epochs.items())
        raise ConfigError(f"space.method: all methods must run for the same number of epochs, set config.epochs ({found})")


def _check_prune(prune: PruneConfig, search: SearchConfig, space: Mapping[str, Distribution], *, epochs: int) -> None:
    """Raise ConfigError if the population cannot run as configured, or if its settings are given without it."""
    if prune.scheduler != POPULATION:
        if prune.changed:
            rule = f"only scheduler {POPULATION} has it, got scheduler {prune.scheduler}; leave it out"
            raise ConfigError(f"prune.{prune.changed[0]}: {rule}")
        return
    without = {
        "search.finalists": search.finalists,
        "search.time_budget_s": search.time_budget_s,
        "search.epoch_budget": search.epoch_budget,
        "search.stop.trials_without_gain": search.stop.trials_without_gain,
        "search.stop.terminator": search.stop.terminator,
    }
    check_population(prune, space, size=search.num_trials, epochs=epochs, without=without)


def _parse_points(file: StudyFile, space: Mapping[str, Distribution], base: BaseConfig) -> list[dict[str, Any]]:
    """The points to try first, for sampler `prior` including the published one; for a grid, all points."""
    if file.search.sampler == "grid":
        return grid_points(file.start, space, base)
    points = parse_start(file.start, space, base)
    if file.search.sampler == "prior" and space and (published := published_point(base, space)) not in points:
        return [published, *points]
    return points


def _parse_search(search: SearchConfig, points: list[dict[str, Any]]) -> SearchConfig:
    if search.prior is not None and search.sampler != "prior":
        raise ConfigError(f"search.prior: only sampler prior uses it, got sampler {search.sampler}; set that, or leave it out")
    if search.sampler != "grid":
        return search
    if "num_trials" in search.model_fields_set:
        raise ConfigError(f"search.num_trials: must be left out with sampler grid, which runs all {len(points)} points")
    return search.model_copy(update={"num_trials": len(points)})
