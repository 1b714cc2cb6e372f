"""Loading of a study's launch from the store that its study file names: all that a report needs, on any machine."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient

from cpsc.errors import ConfigError
from tuning.display import Display
from tuning.launch.reference import launch_of, load_study, study_file
from tuning.report.criteria import CriterionRank, rank_criteria
from tuning.results import Launch
from tuning.results.from_mlflow import load_launch
from tuning.study import Study
from tuning.tracking.client import existing_store_uri, reading_store, using_mlflow


@using_mlflow()
def read_launch(study: Study, name: str | None, display: Display) -> tuple[MlflowClient, Launch]:
    """The store's client and the launch `name` of `study`, or the latest if that is None, with all that its trials measured.

    A one-line ConfigError if the store has no such launch or cannot be read.
    """
    uri = existing_store_uri(study)
    with reading_store(uri):
        client = MlflowClient(tracking_uri=uri)
        return client, load_launch(
            client, study.name, name, curves=None, track=lambda trials, total: display.track("reading trials", trials, total)
        )


@using_mlflow()
def read_criteria(client: MlflowClient, launch: Launch, display: Display) -> list[CriterionRank]:
    """How well each criterion orders the launch's students, best first; empty if their test accuracy is not known."""
    return rank_criteria(client, launch, lambda trials, total: display.track("reading answers", trials, total))


def read_named(names: Sequence[str], overrides: list[str], display: Display) -> list[Launch]:
    """The launches that `names` refer to, each ``STUDY``, ``STUDY@LAUNCH`` or a launch; launches of the same name are numbered.

    ConfigError if there are fewer than two, or if one cannot be found or read.
    """
    if len(names) < 2:
        raise ConfigError("compare: takes at least two launches; name another study, STUDY@LAUNCH, or a launch")
    launches: list[Launch] = []
    for name in names:
        named, _, launch = (name, "", "") if Path(name).exists() else name.rpartition("@") if "@" in name else (name, "", "")
        file = study_file(Path(named))
        _, found = read_launch(load_study(file, overrides), launch or launch_of(file), display)
        same = sum(other.name.split(" #")[0] == found.name for other in launches)
        launches.append(replace(found, name=f"{found.name} #{same + 1}") if same else found)
    return launches
