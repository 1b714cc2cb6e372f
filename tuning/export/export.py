"""Export of a study's best student: files that need neither this package nor Ray, each verified before it is put in place."""

import datetime
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from torch import Tensor

from cpsc import checkpoint
from cpsc.atomic_file import atomic_path
from cpsc.deploy import build_deployed
from cpsc.errors import CheckpointError, ConfigError
from cpsc.metrics import agreement
from tuning.display import Display, percent
from tuning.export.formats import (
    FORMATS,
    JSON_FILE,
    NETWORK_FILE,
    README_FILE,
    SAFETENSORS,
    WEIGHTS,
    Format,
    network_source,
    readme,
)
from tuning.outcome import Outcome
from tuning.results.ancestry import with_lineage
from tuning.results.checkpoints import best_student
from tuning.results.from_mlflow import load_launch
from tuning.results.front import COSTS, best_within
from tuning.results.recorded_trial import RecordedTrial, find_trial
from tuning.results.trial_record import number_in
from tuning.study import Study
from tuning.study.yaml_loader import to_plain
from tuning.tracking.champion import ALIAS, MODEL_ABSENT
from tuning.tracking.client import existing_store_uri, reading_store, using_mlflow
from tuning.trial import Assets, prepare

EXPORT_VERSION = 1
TOLERANCE = 1e-4
"""Allowed deviation, relative to the largest logit: a program may compute the same sums in another order."""
BATCH = 256
FILES = (NETWORK_FILE, JSON_FILE, README_FILE, *(kind.file for kind in FORMATS.values()))
RECORDED = ("probe_agreement", "probe_kl", "test_accuracy", "test_agreement")


def parse_formats(text: str | None) -> list[str] | None:
    """Parse ``--formats``: names of `FORMATS`; None if it is not given. ConfigError for an unknown format."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if odd := [name for name in names if name not in FORMATS]:
        raise ConfigError(f"--formats: must be some of {', '.join(FORMATS)}, separated by commas, got {odd[0]!r}")
    return list(dict.fromkeys(names))


def parse_at(text: str) -> tuple[str, float]:
    """Parse ``--at``, for example ``macs=2e7``: a cost and its limit. ConfigError if it is malformed."""
    name, _, value = text.partition("=")
    limit = number_in(value)
    if name not in COSTS or limit is None or not limit > 0:
        raise ConfigError(f"--at: must be one of {', '.join(COSTS)} and a number, e.g. macs=2e7, got {text!r}")
    return name, limit


@using_mlflow()
def export_student(
    study: Study,
    output: Path,
    display: Display,
    *,
    run_id: str | None = None,
    at: tuple[str, float] | None = None,
    formats: Sequence[str] | None = None,
) -> list[str]:
    """Write the best student of the run `run_id`, or of the study's champion, to `output` -> what was written, line by line.

    `at`: instead, the best student of the study's latest launch within a cost limit, see `parse_at`. `formats`: names of
    `FORMATS`; None: all that can be written here. Every file is compared with the checkpoint's student on the whole probe
    set, and older files are replaced only after all new ones have passed. ConfigError or CheckpointError if one cannot be
    written or does not pass; `output` is then left as it was.
    """
    check_folder(output)
    for name in formats or ():
        FORMATS[name].check()
    uri = existing_store_uri(study)
    if at is not None:
        run_id = _run_within(uri, study.name, *at)
    trial = with_lineage(find_trial(run_id or _champion_run(uri, study.name), [uri]))
    if trial.study_name != study.name:
        raise ConfigError(f"run {trial.run_id}: belongs to study {trial.study_name}, not {study.name}; name that study's file")
    assets = prepare(study, display, force=True)
    _check_teacher(trial, assets)
    with best_student(trial, study) as file:
        saved = checkpoint.load(file, kind="best student", needs=("arch", "student"))
    if not isinstance(saved["student"], dict):
        raise CheckpointError(
            f"run {trial.run_id}: {trial} has no student, as it ended before its first epoch did; name another trial with --run"
        )
    return StudentExport(trial, saved["arch"], saved["student"], assets, output, display).write(formats)


def check_folder(output: Path) -> None:
    """Raise ConfigError if the export would replace files that no export wrote."""
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output: {output} is a file; name a folder")
    is_ours = (output / JSON_FILE).exists() or any(output.glob(f".{JSON_FILE}.*"))  # the second if an export was killed
    foreign = [] if is_ours else [file for file in FILES if (output / file).exists()]
    if foreign:
        raise ConfigError(f"--output: {output} has a {foreign[0]} that no export wrote; name another folder")


def _run_within(uri: str, name: str, cost: str, limit: float) -> str:
    """The run of the best student within the limit in the study's latest launch."""
    with reading_store(uri):
        launch = load_launch(MlflowClient(tracking_uri=uri), name)
    return str(best_within(launch, cost, limit).run_id)


def _champion_run(uri: str, name: str) -> str:
    """The run of the study's registered champion."""
    with reading_store(uri):
        try:
            return str(MlflowClient(tracking_uri=uri).get_model_version_by_alias(name, ALIAS).run_id)
        except MlflowException as error:
            if error.error_code not in MODEL_ABSENT:
                raise
            raise ConfigError(
                f"study {name!r}: no student has the alias {ALIAS}; run its sweep to the end, or name a trial with --run"
            ) from error


def _check_teacher(trial: RecordedTrial, assets: Assets) -> None:
    """Raise ConfigError if the study's teacher is not the one the student learned from: its normalisation would be wrong."""
    recorded, found = trial.facts.get("teacher.digest"), assets.teacher.digest[:12]
    if recorded is not None and recorded != found:
        raise ConfigError(
            f"run {trial.run_id}: its teacher was {recorded}, but this study's is {found}; "
            f"name the study file of its launch, {trial.launch}/study.yaml in the sweep's storage"
        )


class StudentExport:
    """Writes the files of one student to a folder."""

    def __init__(
        self, trial: RecordedTrial, arch: str, weights: dict[str, Tensor], assets: Assets, output: Path, display: Display
    ) -> None:
        self._trial, self._arch, self._output, self._display = trial, arch, output, display
        self._teacher = assets.teacher
        self._model = build_deployed(arch, weights, assets.teacher)
        self._network = network_source(arch, num_classes=assets.teacher.num_classes, channels=assets.teacher.channels)
        self._pixels = assets.probe.images.float().div(255.0)
        with torch.no_grad():
            self._expected = torch.cat([self._model(batch) for batch in _batches(self._pixels)])
            answers = assets.teacher.build(torch.device("cpu"))
            normalised = assets.teacher.normalisation.normalise(assets.probe.images)
            self._agreement = agreement(self._expected, torch.cat([answers(batch).logits for batch in _batches(normalised)]))

    def write(self, formats: Sequence[str] | None) -> list[str]:
        """Write and verify all files, then put them in place. `JSON_FILE` is removed first and added last, so it always fits."""
        written: dict[str, str] = {}
        with ExitStack() as stack:
            facts_file = stack.enter_context(atomic_path(self._output / JSON_FILE))
            with self._display.bar("export", len(FORMATS)) as advance:
                for done, (name, kind) in enumerate(FORMATS.items(), start=1):
                    if formats is None or name in formats:
                        self._write_format(stack, kind, written, is_wanted=formats is not None)
                    advance(done, name)
            if any(FORMATS[name].file in written for name in (WEIGHTS, SAFETENSORS)):
                stack.enter_context(atomic_path(self._output / NETWORK_FILE)).write_text(self._network, encoding="utf-8")
                written[NETWORK_FILE] = "builds the network of the weights"
            facts = self._facts(written)
            facts_file.write_text(json.dumps(facts, indent=2) + "\n")
            text = readme(facts, list(written))
            stack.enter_context(atomic_path(self._output / README_FILE)).write_text(text, encoding="utf-8")
            (self._output / JSON_FILE).unlink(missing_ok=True)
        for file in set(FILES) - written.keys() - {JSON_FILE, README_FILE}:
            (self._output / file).unlink(missing_ok=True)  # from an earlier export of another student
        return [*(f"{file}: {verdict}" for file, verdict in written.items()), self._summary()]

    def _write_format(self, stack: ExitStack, kind: Format, written: dict[str, str], *, is_wanted: bool) -> None:
        """Add a verified file in one format. If the format was not asked for and cannot be written, it is left out."""
        try:
            kind.check()
            with ExitStack() as attempt:
                path = attempt.enter_context(atomic_path(self._output / kind.file))
                kind.write(self._model, self._pixels[:2], path)
                verdict = self._verified(kind, path)
                stack.push(attempt.pop_all())  # put in place together with all others
        except ConfigError as error:
            if is_wanted:
                raise
            self._display.say(f"{kind.file} is left out: {error}")
        else:
            written[kind.file] = verdict

    def _verified(self, kind: Format, path: Path) -> str:
        """Compare the file at `path` with the checkpoint's student -> the result in words. CheckpointError if they differ."""
        answer = kind.open(path, self._network, self._teacher.normalisation)
        with torch.no_grad():
            found = torch.cat([answer(batch) for batch in _batches(self._pixels)])
        return compare(found, self._expected, file=kind.file, is_exact=kind.is_exact)

    def _facts(self, written: dict[str, str]) -> dict[str, Any]:
        teacher, trial = self._teacher, self._trial
        best = trial.best_epoch
        measured = trial.at(best) if best is not None else {}
        return {
            "version": EXPORT_VERSION,
            "arch": self._arch,
            "classes": list(teacher.class_names),
            "input": {
                "channels": teacher.channels,
                "image_size": teacher.image_size,
                "pixels": f"float32 [N, {teacher.channels}, {teacher.image_size}, {teacher.image_size}] in [0, 1]",
                "normalisation": {"mean": list(teacher.normalisation.mean), "std": list(teacher.normalisation.std)},
            },
            "provenance": {
                "study": trial.study_name,
                "launch": trial.launch,
                "trial": trial.number,
                "run_id": trial.run_id,
                "epoch": best,
                "metrics": {name: measured[name] for name in RECORDED if name in measured},
                "teacher": {"arch": teacher.arch, "digest": teacher.digest, "test_accuracy": teacher.test_accuracy},
                "torch": torch.__version__,
                "exported": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            },
            "verified": {"probe_images": len(self._pixels), "probe_agreement": self._agreement, "files": dict(written)},
            **self._values(),
        }

    def _values(self) -> dict[str, Any]:
        """What the student was trained with; for a trial of a population, also which values were used after which epoch."""
        settings, schedule = dict(self._trial.settings), self._trial.schedule
        if not schedule:
            return {"config": to_plain(settings)}
        told = [[segment.after, to_plain(dict(segment.point))] for segment in schedule]
        return {"config": to_plain({**settings, **schedule[-1].point}), "schedule": told}

    def _summary(self) -> str:
        trial = self._trial
        recorded = trial.at(trial.best_epoch).get("probe_agreement") if trial.best_epoch else None
        ended = ", which diverged later" if trial.outcome is Outcome.DIVERGED else ""
        return (
            f"exported to {self._output}: the student of trial {trial.number} of launch {trial.launch} at epoch {trial.best_epoch}"
            f"{ended}; it agrees with the teacher on {percent(self._agreement)} of the probe set (recorded {percent(recorded)})"
        )


def compare(found: Tensor, expected: Tensor, *, file: str, is_exact: bool) -> str:
    """How far the logits [N, C] of `file` are from the checkpoint's, in words.

    CheckpointError if they are not bit-equal (for `is_exact`), differ by more than `TOLERANCE` of the largest logit, or predict
    another class.
    """
    images = f"{len(expected)} probe images"
    if found.shape != expected.shape:
        raise CheckpointError(f"{file}: gives logits of shape {tuple(found.shape)}, not {tuple(expected.shape)}; it is not kept")
    if is_exact:
        if not torch.equal(found, expected):
            raise CheckpointError(f"{file}: does not give the checkpoint's logits bit by bit; it is not kept")
        return f"logits bit-equal to the checkpoint's on {images}"
    largest = max(1.0, expected.abs().max().item())
    off = (found - expected).abs().max().item()
    if not off <= TOLERANCE * largest:  # false for NaN, too
        raise CheckpointError(f"{file}: a logit is off by {off:.3g}, allowed is {TOLERANCE * largest:.3g}; it is not kept")
    others = int((found.argmax(dim=1) != expected.argmax(dim=1)).sum())
    if others:
        raise CheckpointError(f"{file}: predicts another class than the checkpoint for {others} of {images}; it is not kept")
    return f"logits within {off:.1e} of the checkpoint's (allowed {TOLERANCE * largest:.1e}), same class on {images}"


def _batches(images: Tensor) -> list[Tensor]:
    """First one image alone, to test that the batch size is free, then the rest in batches of `BATCH`."""
    return [batch for batch in (images[:1], *images[1:].split(BATCH)) if len(batch)]
