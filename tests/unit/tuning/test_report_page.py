"""The report of a sweep that was never run, made from its store: page, pictures, tables; on another machine, and while it runs."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pandas
import polars
import pytest
from mlflow import MlflowClient
from pyarrow import parquet

from cpsc.errors import ConfigError
from cpsc.marks import Marks
from tests.support.made_sweep import EPOCH_S, made_store
from tuning.display import Display, to_json
from tuning.report import read_criteria, read_launch, read_named, write_report
from tuning.report.as_json import criteria_figures, launch_figures
from tuning.report.comparison import best_so_far, comparison_rows
from tuning.report.criteria import CriterionRank
from tuning.report.files import write_comparison_files
from tuning.report.parquet import TRIALS
from tuning.results import Launch
from tuning.study import Study, load_study
from tuning.tracking import store_uri

pytestmark = pytest.mark.slow  # pages of whole sweeps, from MLflow stores
STUDY = Path(__file__).parents[3] / "search_spaces" / "digits.yaml"
NUM_TRIALS, EPOCHS = 12, 9
QUIET = Display(quiet=True)
Made = Callable[..., Study]


class Page(HTMLParser):
    """The headings, images and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.images: list[str] = []
        self.loaded: list[str] = []
        self.num_figures = text.count("plotly-graph-div")
        self._in_heading = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self._in_heading = tag == "h2"
        if tag == "img":
            self.images.append(named["src"] or "")
        elif tag in ("script", "link", "iframe"):
            self.loaded += [address for key in ("src", "href") if (address := named.get(key))]

    def handle_data(self, data: str) -> None:
        if self._in_heading and data.strip():
            self.headings.append(data)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study with labels, twelve trials of it in its store."""
    made = load_study(STUDY, [f"storage={tmp_path_factory.mktemp('store') / 'runs'}"])
    made_store(made, num_trials=NUM_TRIALS, epochs=EPOCHS)
    return made


@pytest.fixture(scope="module")
def launch(study: Study) -> Launch:
    return read_launch(study, None, QUIET)[1]


@pytest.fixture(scope="module")
def criteria(study: Study, launch: Launch) -> list[CriterionRank]:
    return read_criteria(MlflowClient(store_uri(study)), launch, QUIET)


@pytest.fixture(scope="module")
def written(study: Study, launch: Launch, criteria: list[CriterionRank], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the report."""
    folder = tmp_path_factory.mktemp("report")
    assert write_report(study, launch, criteria, MlflowClient(store_uri(study)), folder, QUIET).refusal == ""
    return folder


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page((written / "report.html").read_text())


def test_the_page_shows_everything_that_a_sweep_leaves(page: Page) -> None:
    assert page.headings == [
        "What it found",
        "Leaderboard",
        "The blind choice",
        "Criteria",
        "Curves: exam score",
        "Curves: test accuracy",
        "Importances",
        "Slices",
        "Parallel coordinates",
        "Generated images",
        "Robustness",
        "Timeline",
        "Cost",
        "Troubles",
    ]
    assert page.num_figures == 7


def test_the_page_opens_offline_and_holds_its_pictures(page: Page, written: Path) -> None:
    assert page.loaded == []
    assert [image[:22] for image in page.images] == ["data:image/png;base64,"] * 2
    assert "columns of noise" in (written / "report.html").read_text()
    assert (written / "report.html").stat().st_size < 10e6


def test_the_report_is_in_the_launchs_run(written: Path, launch: Launch, study: Study) -> None:
    client = MlflowClient(store_uri(study))
    files = {file.path for file in client.list_artifacts(launch.run_id, "report")}
    assert files == {f"report/{path.name}" for path in written.iterdir()}


def test_three_libraries_read_the_same_tables(written: Path, launch: Launch) -> None:
    path = str(written / "trials.parquet")
    best = duckdb.sql(f"select trial, test_accuracy from '{path}' order by rank limit 1").fetchall()
    assert launch.chosen is not None
    assert best == [(launch.chosen.number, launch.chosen.at_best("test_accuracy", launch.objective))]
    by_pandas = pandas.read_parquet(path)
    by_polars = polars.read_parquet(path)
    assert by_pandas["trial"].tolist() == by_polars["trial"].to_list() == [trial.number for trial in launch.trials]
    assert by_polars["ended"].dtype == polars.Datetime("ms", "UTC")


def test_every_column_is_described_in_its_file(written: Path) -> None:
    for name in ("trials", "epochs", "parameters"):
        schema = parquet.read_schema(written / f"{name}.parquet")
        assert all(field.metadata[b"description"] for field in schema)


def test_a_trials_row_tells_its_course(written: Path) -> None:
    rows = {row["trial"]: row for row in parquet.read_table(written / "trials.parquet").to_pylist()}
    assert set(rows[0]) == set(TRIALS.names)
    assert rows[7] | {"outcome": "failed", "reason": "the worker died", "retries": 1, "node": "node-1"} == rows[7]
    assert rows[0]["epochs"] == EPOCHS
    assert rows[0]["seconds"] == EPOCHS * EPOCH_S
    assert (rows[0]["ended"] - rows[0]["started"]).total_seconds() == EPOCHS * EPOCH_S + 1
    assert rows[4]["rank"] is None  # it diverged


def test_epochs_and_parameters_are_long_tables(written: Path, launch: Launch) -> None:
    epochs, parameters = str(written / "epochs.parquet"), str(written / "parameters.parquet")
    found = duckdb.sql(f"select max(value) from '{epochs}' where trial = 0 and metric = 'probe_agreement'").fetchall()
    assert found == [(max(launch.trials[0].curves["probe_agreement"].values()),)]
    searched = duckdb.sql(f"select parameter, number from '{parameters}' where trial = 1 and searched").fetchall()
    assert dict(searched) == next(trial for trial in launch.trials if trial.number == 1).point


def test_json_holds_the_figures_of_the_text(launch: Launch, criteria: list[CriterionRank]) -> None:
    found = json.loads(to_json(launch_figures(launch) | criteria_figures(criteria)))
    assert [rank["criterion"] for rank in found["criteria"]] == [rank.criterion for rank in criteria]
    assert (found["chosen"], found["epochs_run"]) == (0, launch.epochs_run)
    assert [trial["trial"] for trial in found["trials"]] == [trial.number for trial in launch.trials]
    assert found["trials"][0]["point"].keys() == {path.strip() for path in found["trials"][0]["point"]}


def test_a_store_that_has_moved_is_enough(study: Study, tmp_path: Path) -> None:
    """Another machine has the store and no launch's folder."""
    (tmp_path / "runs").mkdir()
    shutil.copy(study.local / "mlflow.db", tmp_path / "runs")
    moved = load_study(STUDY, [f"storage={tmp_path / 'runs'}"])
    client, found = read_launch(moved, None, QUIET)
    page = write_report(moved, found, [], client, tmp_path / "page", QUIET).page
    assert len(Page(page.read_text()).headings) == 13


def test_a_sweep_under_way_without_labels_has_a_page_too(tmp_path: Path) -> None:
    study = load_study(STUDY, [f"storage={tmp_path / 'runs'}", "name=blind"])
    made_store(study, num_trials=2, epochs=EPOCHS, labels=False, is_over=False)
    client, found = read_launch(study, None, QUIET)
    text = write_report(study, found, [], client, tmp_path / "page", QUIET).page.read_text()
    page = Page(text)
    assert "still under way" in text
    assert "The blind choice" not in page.headings
    assert "Importances" not in page.headings  # they compare trials
    row = parquet.read_table(tmp_path / "page" / "trials.parquet").to_pylist()[1]
    assert (row["outcome"], row["ended"], row["test_accuracy"], row["accuracy_metric"]) == (None, None, None, "exam_score")


def test_what_a_trial_says_cannot_become_code_in_the_page(study: Study, launch: Launch, tmp_path: Path) -> None:
    hostile = replace(launch.trials[0], reason="<script>alert(1)</script>")
    changed = replace(launch, trials=[hostile, *launch.trials[1:]])
    page = write_report(study, changed, [], MlflowClient(store_uri(study)), tmp_path, QUIET).page.read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page


def test_trials_within_the_noise_of_the_best_stand_with_a_sign(study: Study, launch: Launch, tmp_path: Path) -> None:
    same = Marks.of([True] * 9, [9])
    tied = [replace(trial, marks=same) if index in (0, 2) else trial for index, trial in enumerate(launch.trials)]
    changed = replace(launch, trials=tied)
    page = write_report(study, changed, [], MlflowClient(store_uri(study)), tmp_path, QUIET).page.read_text()
    number = launch.trials[2].number
    assert f">{number} =<" in page
    assert f"= within the noise of its score (McNemar, 5 %): trial {number}" in page
    assert page.count(" =<") == 1


def test_launches_are_compared_in_one_table_and_on_one_page(study: Study, launch: Launch, tmp_path: Path) -> None:
    file = str(study.local / study.name / "study.yaml")
    launches = read_named([file, f"{file}@{study.name}"], [], QUIET)
    assert [found.name for found in launches] == ["digits-cpsc", "digits-cpsc #2"]
    first, second = comparison_rows(launches)
    assert first | {"launch": ""} == second | {"launch": ""}
    assert (first["trials"], first["chosen"], first["epochs"]) == (NUM_TRIALS, 0, launch.epochs_run)
    page = Page(write_comparison_files(launches, tmp_path).read_text())
    assert page.num_figures == 4
    assert parquet.read_table(tmp_path / "trials.parquet").num_rows == 2 * NUM_TRIALS


def test_the_best_so_far_never_falls_and_counts_every_epoch(launch: Launch) -> None:
    points = best_so_far(launch)
    assert [spent for spent, _ in points] == list(range(1, launch.epochs_run + 1))
    assert points == sorted(points, key=lambda point: point[1])


@pytest.mark.parametrize(
    ("names", "rule"),
    [(["one.yaml"], "takes two launches or more"), ([str(STUDY), f"{STUDY}@nothing"], "holds no MLflow store yet")],
)
def test_what_cannot_be_compared_is_said(names: list[str], rule: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(rule)):
        read_named(names, [f"storage={tmp_path}"], QUIET)
