"""Whether a study can be simulated on a record: they must search the same space, in trials of the same length."""

from cpsc.errors import ConfigError
from tuning.simulation.record import Record
from tuning.study import Study
from tuning.study.nested_keys import flatten
from tuning.study.yaml_loader import to_plain


def check_fit(study: Study, record: Record) -> None:
    """Raise ConfigError if the curves of `record` cannot stand for the trials that `study` would run."""
    space, recorded = to_plain(study.source["space"]), record.space
    if odd := sorted(path for path in space.keys() | recorded.keys() if space.get(path) != recorded.get(path)):
        raise ConfigError(f"space.{odd[0]}: differs from the record of {record.launch}; record a launch of this study")
    if study.config.epochs != record.epochs:
        raise ConfigError(f"config.epochs: {study.config.epochs}, but trials in the record of {record.launch} have {record.epochs}")
    if study.objective != record.objective:
        raise ConfigError(f"objective: {study.objective}, but the record of {record.launch} has {record.objective}")
    for trial in record.trials:
        if odd := [path for path, value in trial.point.items() if path not in study.space or not study.space[path].contains(value)]:
            raise ConfigError(f"record of {record.launch}: trial {trial.number} is outside its own space.{odd[0]}; make it again")


def differences(study: Study, record: Record) -> list[str]:
    """Settings, by dotted path, in which trials of `study` and those of `record` differ."""
    own, recorded = (dict(flatten(config)) for config in (to_plain(study.source["config"]), record.config))
    return sorted(path for path in own.keys() | recorded.keys() if own.get(path) != recorded.get(path))
