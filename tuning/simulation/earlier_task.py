"""The task that an arm has already searched: another record of the same space."""

from collections.abc import Sequence
from pathlib import Path

from cpsc.errors import ConfigError
from tuning.simulation.arms import Arm
from tuning.simulation.fitting import check_fit
from tuning.simulation.lookup import CurveLookup
from tuning.simulation.record import Record
from tuning.study import Study


def earlier_task(file: Path | None, study: Study, arms: Sequence[Arm], *, neighbours: int) -> CurveLookup | None:
    """The curves in `file` by point; None if no arm asks for them.

    ConfigError if the file is given without such an arm or the other way round, or if the record does not fit the study.
    """
    asking = next((arm for arm in arms if arm.earlier), None)
    if asking is None:
        if file is not None:
            raise ConfigError(f"--source: {file} is not used, as no arm has +transfer or +misled; add one, or leave --source out")
        return None
    if file is None:
        raise ConfigError(f"--arm: {asking} needs the record that an earlier search ran on; name it with --source")
    record = Record.load(file)
    check_fit(study, record)
    return CurveLookup(record, study.space, neighbours=min(neighbours, len(record.trials)))
