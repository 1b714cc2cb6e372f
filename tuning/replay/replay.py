"""Replay of a recorded trial in this process, from its start or a checkpoint, compared with its record epoch by epoch."""

from collections.abc import Collection, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cpsc.errors import ConfigError
from cpsc.methods import effective_settings
from tuning.display import Display
from tuning.lineage import Segment, lineage_words
from tuning.outcome import Outcome
from tuning.replay.comparison import Comparison
from tuning.replay.debugger import attach_debugger
from tuning.replay.profiler import StepProfiler, check_trace_file
from tuning.results.ancestry import with_lineage
from tuning.results.checkpoints import KeptCheckpoint, check_wanted, kept_checkpoint
from tuning.results.earlier import beginning_with
from tuning.results.recorded_trial import RecordedTrial, find_trial, stores_of, study_of, taken_over
from tuning.study import Study, build_config
from tuning.study.base_config import parameter_paths, users_methods
from tuning.study.nested_keys import flatten
from tuning.study.overrides import parse_assignments
from tuning.study.teacher_fit import STATISTICS, SWITCHED_OFF, without_statistics
from tuning.study.yaml_loader import to_plain
from tuning.tracking.client import using_mlflow
from tuning.trial import Assets, prepare
from tuning.trial.context import trial_context
from tuning.trial.environment import differences, environment
from tuning.trial.local import epoch_line, raise_if_diverged, run_epochs
from tuning.trial.trainable import DistillTrainable, local_trainable

WITHOUT_EFFECT = ("checkpoint", "local", "name", "prune", "search", "space", "start", "storage", "tracking")
"""Sections of a study that no trial's numbers depend on."""


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """Options of a replay. `epochs`: the last epoch to run; `from_checkpoint`: last, best or an epoch."""

    epochs: int | None = None
    from_checkpoint: str | None = None
    assignments: list[str] = field(default_factory=list)
    profile: Path | None = None
    profile_steps: int = 30
    debugger: bool = False


@dataclass(frozen=True)
class ReplayResult:
    """How a replay ended. `is_as_recorded`: False if numbers differ although nothing was changed on purpose."""

    verdict: str
    table: str | None
    is_as_recorded: bool


@dataclass(frozen=True)
class Changes:
    """What ``--set`` changes: values of the trial's own parameters, and assignments to the rest of the study."""

    point: Mapping[str, Any]
    study: list[str]

    @classmethod
    def parse(cls, assignments: list[str], searched: Collection[str] = ()) -> "Changes":
        """Sort `assignments` into parameters of the trial and other settings of the study. ConfigError if one is malformed.

        `searched`: parameters of the study, including those of a user's own method.
        """
        known, point, study = {*parameter_paths(), *searched}, {}, []
        for assignment in assignments:
            ((path, value),) = parse_assignments([assignment]).items()
            if (short := path.removeprefix("config.")) in known:
                point[short] = value
            else:
                study.append(assignment)
        return cls(point, study)

    def effective(self, settings: Mapping[str, Any]) -> list[str]:
        """In words, the changes that affect what the trial computes, given the recorded `settings` by path."""
        changed = [
            f"{path} {settings.get(path, 'not recorded')} -> {value}"
            for path, value in self.point.items()
            if path not in settings or to_plain(settings[path]) != to_plain(value)
        ]
        return changed + [text for text in self.study if text.partition("=")[0].partition(".")[0] not in WITHOUT_EFFECT]


@using_mlflow()
def replay_trial(
    run_id: str, options: ReplayOptions, display: Display, *, storage: str, tracking: str | None = None
) -> ReplayResult:
    """Run the trial of the MLflow run `run_id` again and compare. ConfigError, before anything runs, if that is not possible.

    DivergedError if it diverges although its record did not.
    """
    if options.profile is not None:
        check_trace_file(options.profile)
    if options.from_checkpoint is not None:
        check_wanted(options.from_checkpoint)
    trial = with_lineage(find_trial(run_id, stores_of(storage, tracking)))
    changes = Changes.parse(options.assignments, trial.point)
    study = study_of(trial, storage, changes.study)
    if STATISTICS in trial.facts.get(SWITCHED_OFF, ""):  # so that the file's value is not taken for a change
        study = without_statistics(study)
    trial = trial.knowing(parameter_paths(users_methods(study.source.get("config"), study.source.get("space"))))
    point = recorded_point(trial, study, display) | dict(changes.point)
    num_epochs = build_config(study.base, point).epochs
    if trial.schedule:
        display.say(f"{trial}: its state comes from {lineage_words(trial.lineage)}, with the values of each")
    began = "began with " if trial.schedule else ""
    display.say(f"{trial}: {began}{', '.join(f'{path} {format_value(value)}' for path, value in trial.point.items())}")
    with ExitStack() as stack:
        start = None
        if options.from_checkpoint is not None:
            start = stack.enter_context(kept_checkpoint(trial, study, options.from_checkpoint))
        first = start.epoch + 1 if start else 1
        last = last_epoch(trial, first=first, num_epochs=num_epochs, wanted=options.epochs, is_extended="epochs" in changes.point)
        assets = prepare(as_launched(study, trial, display), display, force=True)
        context = trial_context(assets.fit(study), assets)
        if trial.is_finalist:
            context = replace(context, threads=context.finalist_threads or context.threads)
        trainable = local_trainable(context, point, scheduled(trial, point))
        stack.callback(trainable.stop)
        _report_surroundings(trial, trainable, assets, display)
        changed = changes.effective(trial.settings)
        if changed:
            display.say(f"changed: {'; '.join(changed)}; the numbers will differ from the record")
        return _run(trainable, trial, start, options, display, first=first, last=last, changed=changed)


def as_launched(study: Study, trial: RecordedTrial, display: Display) -> Study:
    """`study` with the earlier points that the trial's launch began with: its examiners are found by them."""
    earlier = taken_over(trial, study)
    if study.transfer and earlier is None:
        display.say(
            f"transfer: the journal of launch {trial.launch} is neither in {study.local} nor in its storage, so the earlier points "
            f"that it began with are not known; exam scores may differ from the record"
        )
    return beginning_with(study, earlier)


def recorded_point(trial: RecordedTrial, study: Study, display: Display) -> dict[str, Any]:
    """The trial's point, plus every setting whose recorded value differs from what the study gives now.

    These are settings that a resume changed, and defaults or presets that changed in this version.
    """
    point = dict(trial.point)
    given = dict(flatten(to_plain(effective_settings(build_config(study.base, point)))))
    for path, value in trial.settings.items():
        if path in given and str(given[path]) != str(value):
            display.say(f"{path}: recorded {value}, but the study file gives {given[path]}; the recorded value is used")
            point[path] = value
    if unsaid := given.keys() - trial.settings.keys():
        values = ", ".join(f"{path} {given[path]}" for path in sorted(unsaid))
        display.say(f"not recorded, so this version's values are used: {values}")
    return point


def scheduled(trial: RecordedTrial, point: Mapping[str, Any]) -> list[Segment]:
    """The values along the trial's lineage, each overridden by the values of `point` that differ from the trial's first ones."""
    changed = {path: value for path, value in point.items() if path not in trial.point or value != trial.point[path]}
    return [Segment(segment.after, {**segment.point, **changed}) for segment in trial.schedule]


def last_epoch(trial: RecordedTrial, *, first: int, num_epochs: int, wanted: int | None, is_extended: bool = False) -> int:
    """The epoch to stop after: `wanted`, else where the record ends or, if nothing of the record is left, the trial's end.

    A failed trial runs one epoch further, into the failure. `is_extended`: its number of epochs was changed, so run them all.
    """
    if wanted is not None and wanted > num_epochs:
        raise ConfigError(f"--epochs: the trial has {num_epochs} epochs, got {wanted}; for more: --set epochs={wanted}")
    recorded = min(num_epochs, trial.last_epoch + (trial.outcome is Outcome.FAILED))
    last = wanted or (num_epochs if is_extended or recorded < first else recorded)
    if last < first:
        raise ConfigError(
            f"--from-checkpoint: the checkpoint is of epoch {first - 1}, so nothing is left to run up to epoch {last}; "
            f"choose an earlier one, or more epochs"
        )
    return last


def format_value(value: Any) -> str:
    """A parameter's value in a readable form."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _report_surroundings(trial: RecordedTrial, trainable: DistillTrainable, assets: Assets, display: Display) -> None:
    """Report what else the numbers depend on if it differs from the record: teacher, versions, hardware."""
    recorded = trial.facts.get("teacher.digest")
    if recorded is not None and recorded != assets.teacher.digest[:12]:
        display.say(f"the teacher is {assets.teacher.digest[:12]}, but {recorded} was recorded; the numbers will differ")
    if trial.environment is None:
        display.say("the record does not name the torch version and processor it was made on, which may cause differences")
        return
    for difference in differences(trial.environment, environment(trainable.distiller.device)):
        display.say(f"different {difference}; the numbers may differ in their last digits, and more and more from there on")


def _run(
    trainable: DistillTrainable,
    trial: RecordedTrial,
    start: KeptCheckpoint | None,
    options: ReplayOptions,
    display: Display,
    *,
    first: int,
    last: int,
    changed: list[str],
) -> ReplayResult:
    if start is not None:
        trainable.load_checkpoint(str(start.folder))
        display.say(f"continued from the checkpoint of epoch {start.epoch}")
    if options.debugger:
        attach_debugger(trainable.distiller)
    profiler = StepProfiler(options.profile_steps) if options.profile else None
    bars = Display(quiet=True) if options.debugger else display  # a bar redraws over the debugger's prompt
    comparison = Comparison(trial, changed)
    with profiler.watching() if profiler else nullcontext():
        for result in run_epochs(trainable, bars, first=first, last=last):
            found = comparison.add(result)
            if result["diverged"] and not comparison.expects_divergence:
                raise_if_diverged(result)
            display.say(f"{'diverged' if result['diverged'] else epoch_line(result)}: {found}")
    table = None
    if profiler is not None and options.profile is not None:
        table = f"{profiler.write(options.profile)}\n{profiler.num_profiled} training steps are in {options.profile}"
    return ReplayResult(comparison.verdict(), table, comparison.is_as_recorded or bool(changed))
