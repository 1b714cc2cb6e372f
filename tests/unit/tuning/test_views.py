"""The saved view: in the form that MLflow's UI writes, with columns and charts that exist."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from cpsc.errors import ConfigError
from tests.support.made_sweep import made_store
from tuning.results.from_mlflow import load_launch
from tuning.results.leaderboard import headings, row
from tuning.study import Study, load_study
from tuning.tracking import store_uri
from tuning.tracking.notes import NOTE_TAG
from tuning.tracking.ui_view import VIEW_TAG, first_page, view_tag

pytestmark = pytest.mark.slow  # views are made in an MLflow store
FILE = Path(__file__).parents[3] / "search_spaces" / "digits.yaml"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    made = load_study(FILE, [f"storage={tmp_path_factory.mktemp('views') / 'runs'}"])
    made_store(made, num_trials=2, epochs=3)
    return made


def state(tag: str) -> dict[str, Any]:
    view = json.loads(tag)
    assert view.keys() == {"name", "createdAt", "updatedAt", "state"}
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(view["state"].removeprefix("deflate;"))))
    return found


def test_the_experiment_carries_the_view_and_the_ui_opens_on_it(study: Study) -> None:
    experiment = MlflowClient(store_uri(study)).get_experiment_by_name(study.name)
    assert experiment.tags[VIEW_TAG] == view_tag(study)
    page = first_page(store_uri(study), study.name)
    assert page == f"#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=cpsc-trials&workflowType=machine_learning"
    assert first_page(store_uri(study), "another") == "#/experiments?workflowType=machine_learning"


def test_every_column_and_most_charts_are_of_something_that_trials_record(study: Study) -> None:
    launch = load_launch(MlflowClient(store_uri(study)), study.name, curves=None)
    run = MlflowClient(store_uri(study)).get_run(launch.trials[0].run_id)
    known = {f"metrics.`{name}`" for name in run.data.metrics} | {f"params.`{name}`" for name in run.data.params}
    known |= {f"tags.`{name}`" for name in run.data.tags}
    columns = state(view_tag(study))["selectedColumns"]
    assert set(columns) <= known
    assert {f"params.`{path}`" for path in list(study.space)[:8]} <= set(columns)


def test_the_result_is_shown_as_the_report_shows_it(study: Study) -> None:
    launch = load_launch(MlflowClient(store_uri(study)), study.name)
    shown = dict(zip(headings(launch), row(launch.trials[0], launch), strict=True))
    tags = MlflowClient(store_uri(study)).get_run(launch.trials[0].run_id).data.tags
    assert tags["number"] == shown.pop("trial")
    assert {name: tags[name] for name in shown} == shown


def test_columns_stand_in_the_order_of_the_selection_and_have_a_width(study: Study) -> None:
    found = state(view_tag(study))
    assert [column for column in found["columnOrder"] if column in found["selectedColumns"]] == found["selectedColumns"]
    assert found["columnWidths"].keys() == set(found["columnOrder"])


def test_study_launch_and_trials_are_described(study: Study) -> None:
    client = MlflowClient(store_uri(study))
    launch = load_launch(client, study.name)
    described = [client.get_experiment_by_name(study.name), client.get_run(launch.run_id).data]
    assert all("**Next steps**" in thing.tags[NOTE_TAG] and "Finished" in thing.tags[NOTE_TAG] for thing in described)
    for trial in launch.trials:
        note = client.get_run(trial.run_id).data.tags[NOTE_TAG]
        assert f"**{trial.outcome.value.capitalize()}**" in note


def test_every_chart_stands_in_a_section_and_has_a_name_of_its_own(study: Study) -> None:
    found = state(view_tag(study))
    charts = found["compareRunCharts"]
    assert {chart["metricSectionId"] for chart in charts} == {section["uuid"] for section in found["compareRunSections"]}
    assert len({chart["uuid"] for chart in charts}) == len(charts)
    assert not any("/" in chart["uuid"] for chart in charts)  # the UI then leaves the chart out


def test_a_store_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(ConfigError, match="cannot be read as an MLflow store"):
        first_page(f"sqlite:///{tmp_path / 'mlflow.db'}", "tiny")
