"""Finish: ends a launch early with what it has found, as if the budget of its search were used up."""

from cpsc.errors import ConfigError
from tuning.file_lock import FileLock
from tuning.launch import Journal, replay_events
from tuning.launch.finish import FinishRequest
from tuning.launch.journal import LOCK_NAME
from tuning.launch.launch import check_resumable, open_launch, resume_command
from tuning.search.optuna_search import has_work
from tuning.study.population import POPULATION


def finish_launch(storage: str, name: str) -> str:
    """Ask the launch `name` in `storage` to propose no more trials -> a message on what happens next.

    Running trials finish, unless they are pruned; then the finalists run and the best student is registered. ConfigError if there
    is nothing left to finish.
    """
    study = open_launch(storage, name, [])
    history = replay_events(Journal(study.local / name).events(), metric=study.metric)
    check_resumable(history, study.space)
    if study.prune.scheduler == POPULATION:
        raise ConfigError(f"launch {name!r}: is a population, whose trials all run to their end; interrupt it with Ctrl-C")
    if not has_work(study, history):
        raise ConfigError(f"launch {name!r}: has ended, its search proposes nothing more; see its results with: cpsc-tune report")
    FinishRequest(study.local / name).make()
    ends = f"{name}: no new trials will start; running ones finish, then the best student is registered"
    if FileLock(study.local / name / LOCK_NAME).is_held():
        return ends
    return f"{ends}, by: {resume_command(study, name)}"
