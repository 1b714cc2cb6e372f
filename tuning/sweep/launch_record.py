"""Record of a launch: the first event of its journal, and the thread that delivers the journal to MLflow."""

import time
from dataclasses import asdict
from typing import Any

from cpsc.teacher import Teacher
from tuning.launch.events import LATENCY, LaunchStart
from tuning.launch.journal import Journal
from tuning.launch.journal_backup import JournalBackup
from tuning.launch.launch import records_copy
from tuning.redaction import redact
from tuning.study.config import Study
from tuning.study.teacher_fit import SWITCHED_OFF
from tuning.study.user_code import code_folders
from tuning.study.yaml_loader import dump_yaml, to_plain
from tuning.sweep.launch_notes import LaunchNotes
from tuning.tracking.delivery import MlflowWriter
from tuning.tracking.inputs import inputs_of
from tuning.trial.assets import Assets
from tuning.trial.model_cost import student_latency_ms, teacher_cost


def launch_start(study: Study, assets: Assets, launch_id: str) -> LaunchStart:
    """The journal's first event."""
    params = {
        "objective": study.objective,
        "epochs": study.config.epochs,
        "num_trials": study.search.num_trials,
        "sampler": study.search.sampler,
        "scheduler": study.prune.scheduler,
        "search_seed": study.search.seed,
        **{f"space.{path}": str(domain) for path, domain in study.space.items()},
        **_latencies(study, assets.teacher),
        **shared_params(assets),
        **(assets.ground.to_params() if assets.ground else {}),
    }
    return LaunchStart(
        time=time.time(),
        launch_id=launch_id,
        params={key: str(value) for key, value in params.items()},
        inputs=inputs_of(study, assets),
        code_folders=code_folders(),
        study=redact(dump_yaml(to_plain(study.source))),
    )


def _latencies(study: Study, teacher: Teacher) -> dict[str, str]:
    """Latencies of the searched students, measured here before any trial runs; empty if the student is not searched."""
    domain = study.space.get("student.arch")
    archs = map(str, domain.edges) if domain else ()
    return {f"{LATENCY}{arch}": f"{student_latency_ms(teacher, arch):.3g}" for arch in archs}


def shared_params(assets: Assets) -> dict[str, Any]:
    """Params that all trials of the launch share."""
    teacher = assets.teacher
    accuracy = {} if teacher.test_accuracy is None else {"teacher.test_accuracy": teacher.test_accuracy}
    return {
        "teacher.arch": teacher.arch,
        "teacher.digest": teacher.digest[:12],
        **accuracy,
        "teacher.normalisation": asdict(teacher.normalisation),
        **teacher_cost(teacher),
        "probe.num_images": len(assets.probe.labels),
        **({"examiners.runs": ", ".join(assets.examiners.images.runs)} if assets.examiners else {}),
        **({"teacher.batch_norms": about} if (about := str(assets.norms or "")) else {}),
        **({SWITCHED_OFF: ", ".join(assets.switched_off)} if assets.switched_off else {}),
    }


def open_writer(study: Study, name: str, launch_id: str) -> MlflowWriter:
    """The thread, not started yet, that delivers the journal of the launch `name`."""
    journal = Journal(study.local / name)
    copy = JournalBackup(journal, records_copy(study), name)
    return MlflowWriter(journal, study, name, launch_id, copy, LaunchNotes(journal, study, name))
