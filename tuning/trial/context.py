"""Context of a trial: what all trials of a study share, sent to every worker that runs one."""

from dataclasses import dataclass

from cpsc.data import Split
from cpsc.measurement import InceptionReference
from cpsc.probe import ProbeSet
from cpsc.teacher import Teacher
from tuning.storage import Storage
from tuning.study.base_config import BaseConfig
from tuning.study.config import Study
from tuning.study.user_code import code_folders
from tuning.trial.assets import Assets
from tuning.trial.examiners import Examiners
from tuning.trial.handshake import StorageHandshake


@dataclass(frozen=True, kw_only=True)
class TrialContext:
    """What all trials of a study share. It travels to the workers once, through Ray's object store."""

    base: BaseConfig
    teacher: Teacher
    probe: ProbeSet
    test: Split | None
    objective: str
    examiners: Examiners | None = None
    inception: InceptionReference | None = None
    threads: int
    device: str
    gpus: float
    storage: Storage
    code_folders: tuple[str, ...] = ()
    """Where to look for the teacher's factory and for methods, beside the installed packages."""
    finalist_threads: int | None = None
    """Threads of a finalist's run, if they differ from `threads`."""
    handshake: StorageHandshake | None = None
    """Checked by every worker of a cluster before its first trial."""


def trial_context(study: Study, assets: Assets, handshake: StorageHandshake | None = None) -> TrialContext:
    """What the trials of `study` share."""
    return TrialContext(
        base=study.base,
        teacher=assets.teacher,
        probe=assets.probe,
        test=assets.dataset.test if assets.dataset else None,
        inception=assets.inception,
        examiners=assets.examiners,
        objective=objective_with(study, assets),
        threads=study.resources.cpus,
        finalist_threads=study.finalist_cpus,
        device="cuda" if study.resources.gpus else "cpu",
        gpus=study.resources.gpus,
        storage=Storage(study.storage),
        code_folders=code_folders(),
        handshake=handshake,
    )


def objective_with(study: Study, assets: Assets) -> str:
    """The metric that chooses the study's students; without examiners, as in a trial that runs alone, it is the probe set's."""
    return "probe_overlap" if study.has_examiners and assets.examiners is None else study.objective
