"""Check of a study's teacher and probe set: doubts are reported, and a study that cannot give a result is refused."""

from collections.abc import Sequence

import torch

from cpsc.errors import ConfigError
from cpsc.ground import Finding, Ground, findings
from cpsc.ground_survey import survey_ground
from cpsc.probe import ProbeSet
from cpsc.teacher import Teacher
from tuning.display import Display


def settle_ground(
    teacher: Teacher, probe: ProbeSet, device: torch.device, display: Display, *, num_test: int, force: bool
) -> Ground:
    """Survey `teacher` and `probe`, and report what puts them in doubt. ConfigError, unless forced, if a finding is fatal.

    `num_test`: number of labelled images that the study has.
    """
    ground = survey_ground(teacher, probe, device, num_test=num_test)
    found = findings(ground)
    fatal = [finding for finding in found if finding.is_fatal]
    if fatal and not force:
        raise ConfigError(f"no ground to search on: {fatal[0]}{_others(fatal[1:])}; or pass --force to go on anyway")
    for finding in found:
        display.say(f"{'forced' if finding.is_fatal else 'warning'}: {finding}")
    return ground


def _others(fatal: Sequence[Finding]) -> str:
    return f" (also: {', '.join(finding.figure for finding in fatal)})" if fatal else ""
