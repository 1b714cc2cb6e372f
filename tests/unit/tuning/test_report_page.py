"""The report of a sweep that was never run, made from its store: page, pictures, tables; on another machine, and while it runs."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pandas
import polars
import pytest
from mlflow import MlflowClient
from pyarrow import parquet

from cpsc.errors import ConfigError
from cpsc.marks import Marks
from tests.support.made_sweep import CLASSES, EPOCH_S, made_store
from tests.support.page import ParsedPage
from tests.support.ruined import SOUND
from tuning.display import Display, to_json
from tuning.outcome import Outcome
from tuning.report import read_criteria, read_launch, read_named, write_report
from tuning.report.as_json import criteria_figures, launch_figures
from tuning.report.comparison import best_so_far, comparison_rows, differences
from tuning.report.criteria import CriterionRank
from tuning.report.files import write_comparison_files
from tuning.report.launch_page import write_study_page
from tuning.report.parquet import TRIALS
from tuning.results import Launch
from tuning.study import Study, load_study
from tuning.tracking import store_uri

pytestmark = pytest.mark.slow  # pages of whole sweeps, from MLflow stores
STUDY = Path(__file__).parents[3] / "search_spaces" / "digits.yaml"
NUM_TRIALS, EPOCHS = 12, 9
QUIET = Display(quiet=True)
Made = Callable[..., Study]


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
def page(written: Path) -> ParsedPage:
    return ParsedPage((written / "report.html").read_text())


def test_the_page_shows_everything_that_a_sweep_leaves(page: ParsedPage) -> None:
    assert page.headings == [
        "What it found",
        "Leaderboard",
        "Best so far",
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
    assert len(page.charts("Slices")) == 9


def test_the_page_opens_offline_and_holds_its_pictures(page: ParsedPage, written: Path) -> None:
    images = [image["src"] for image in page.root.all("img")]
    assert [image[:22] for image in images] == ["data:image/png;base64,"] * 2
    assert "columns of noise" in page.section("Generated images").text
    assert (written / "report.html").stat().st_size < 10e6


def test_it_goes_nowhere_but_to_its_own_sections_and_mlflows_runs(page: ParsedPage, launch: Launch) -> None:
    links = [address for address in page.addresses if not address.startswith(("#", "data:image/png;base64,"))]
    assert set(links) == {f"http://127.0.0.1:5000/#/experiments/1/runs/{trial.run_id}" for trial in launch.trials}
    assert not re.search(r"url\(|@import", page.root.all("style")[0].text)
    anchors = {address[1:] for address in page.addresses if address.startswith("#")}
    assert anchors <= set(page.ids)


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
    assert len(ParsedPage(page.read_text()).headings) == 14


def test_a_sweep_under_way_without_labels_has_a_page_too(tmp_path: Path) -> None:
    study = load_study(STUDY, [f"storage={tmp_path / 'runs'}", "name=blind"])
    made_store(study, num_trials=2, epochs=EPOCHS, labels=False, is_over=False)
    client, found = read_launch(study, None, QUIET)
    page = ParsedPage(write_report(study, found, [], client, tmp_path / "page", QUIET).page.read_text())
    assert "still under way, latest result 2026-" in page.root.all("p", class_="subtitle")[0].text
    (lead,) = page.root.all("p", class_="lead")
    assert "2 trials so far: 1 completed, 1 running of 16 planned" in lead.text
    assert "Chosen so far:" in lead.text
    assert "wait for 1 running trial" in lead.text
    assert "The blind choice" not in page.headings
    assert [row["outcome"] for row in page.table("Leaderboard")] == ["completed", "running"]
    row = parquet.read_table(tmp_path / "page" / "trials.parquet").to_pylist()[1]
    assert (row["outcome"], row["ended"], row["test_accuracy"], row["accuracy_metric"]) == (None, None, None, "exam_score")


def test_what_puts_a_launch_in_doubt_stands_first_on_its_page(tmp_path: Path) -> None:
    study = load_study(STUDY, [f"storage={tmp_path / 'runs'}"])
    told = {"label_rate": 0.2, "confidence": 0.5, "margin": 1.0, "largest_class": 0.2, "at_bounds": 0.1}
    thin = replace(SOUND, **told, num_test=0, teacher_accuracy=None)
    made_store(study, num_trials=2, epochs=EPOCHS, labels=False, ground=thin)
    client, launch = read_launch(study, None, QUIET)
    assert launch.ground == thin, "from MLflow's records alone"
    write_report(study, launch, [], client, tmp_path / "report", QUIET)
    text = (tmp_path / "report" / "report.html").read_text()
    assert ParsedPage(text).headings[:2] == ["In doubt", "What it found"]
    assert "the teacher gives 20.0 % of 500 probe images the class they were made for" in text


Written = Callable[[Launch], ParsedPage]


@pytest.fixture
def write(study: Study, tmp_path: Path) -> Written:
    """Writes the page of a launch that is not in the store."""

    def written(launch: Launch) -> ParsedPage:
        write_study_page(tmp_path / "page.html", study, launch, [], MlflowClient(store_uri(study)), QUIET)
        return ParsedPage((tmp_path / "page.html").read_text())

    return written


def test_what_a_trial_says_cannot_become_code_in_the_page(write: Written, launch: Launch) -> None:
    evil = "</script><script>alert(1)</script>"
    first = launch.trials[0]
    hostile = replace(first, reason=evil, params=first.params | {"student.lr": evil}, course=replace(first.course, node=evil))
    page = write(replace(launch, trials=[hostile, *launch.trials[1:]]))
    assert not [script for script in page.root.all("script") if script.text.startswith("alert")]
    assert evil in page.section("Troubles").text
    assert page.table("Leaderboard")[0]["student.lr"] == evil
    assert "&lt;/script&gt;&lt;script&gt;" in page.embedded("tooltips")["0"]  # Plotly's texts take some HTML


def test_trials_within_the_noise_of_the_best_stand_with_a_sign(write: Written, launch: Launch) -> None:
    same = Marks.of([True] * 9, [9])
    tied = [replace(trial, marks=same) if index in (0, 2) else trial for index, trial in enumerate(launch.trials)]
    page = write(replace(launch, trials=tied))
    number = launch.trials[2].number
    assert [row["trial"] for row in page.table("Leaderboard") if "=" in row["trial"]] == [f"{number} ="]
    assert f"= within the noise of its score (McNemar, 5 %): trial {number}" in page.section("What it found").text
    assert "1 other trial cannot be told from it" in page.root.all("p", class_="lead")[0].text


@pytest.mark.parametrize(
    ("num_trials", "missing", "present"),
    [
        (0, ["Leaderboard", "Best so far", "Slices", "Importances", "Timeline"], ["What it found", "Cost"]),
        (1, ["Criteria"], ["Leaderboard", "Best so far", "Slices", "Parallel coordinates"]),
        (60, [], ["Leaderboard", "Importances", "Parallel coordinates", "Timeline"]),
    ],
)
def test_a_launch_of_any_size_has_a_page(
    num_trials: int, missing: list[str], present: list[str], write: Written, launch: Launch
) -> None:
    several = [replace(trial, number=trial.number + 12 * times) for times in range(5) for trial in launch.trials]
    page = write(replace(launch, trials=several[:num_trials]))
    assert set(present) <= set(page.headings)
    assert not set(missing) & set(page.headings)
    trials = f"{num_trials} trial{'' if num_trials == 1 else 's'}"
    assert trials in page.root.all("p", class_="subtitle")[0].text
    if num_trials:
        assert len(page.table("Leaderboard")) == num_trials


def test_importances_say_how_many_trials_they_lack(page: ParsedPage, write: Written, launch: Launch) -> None:
    assert (
        "Importances of 9 parameters need 18 completed trials; there are 6, so 12 are missing." in page.section("Importances").text
    )
    assert page.charts("Importances") == []
    whole = [trial for trial in launch.trials if trial.outcome is Outcome.COMPLETED]
    more = [replace(trial, number=100 + times * 10 + place) for times in range(4) for place, trial in enumerate(whole)]
    enough = write(replace(launch, trials=more))
    (chart,) = enough.charts("Importances")
    assert sum(chart["data"][0]["x"]) == pytest.approx(1)


@pytest.mark.parametrize("title", ["Best so far", "Curves: exam score", "Slices", "Parallel coordinates", "The blind choice"])
def test_pruned_trials_are_in_every_chart(title: str, page: ParsedPage, launch: Launch) -> None:
    pruned = {trial.number for trial in launch.trials if trial.outcome is Outcome.PRUNED}
    for chart in page.charts(title):
        drawn = [trace for trace in chart["data"] if trace.get("name") == "pruned"]
        assert {number for trace in drawn for number in trace["customdata"]} == pruned
        assert all(trace.get("opacity", 1) >= 0.5 for trace in drawn)


def test_the_best_so_far_is_a_step(page: ParsedPage) -> None:
    (chart,) = page.charts("Best so far")
    step, *others = chart["data"]
    assert step["line"]["shape"] == "hv"
    assert step["y"] == sorted(step["y"])
    assert step["y"][-1] == max(value for trace in others for value in trace["y"])


def test_tables_can_be_sorted_and_filtered(page: ParsedPage, launch: Launch) -> None:
    for table in page.root.all("table"):
        headings = table.all("th", scope="col")
        assert all(heading.all("button", type="button") and heading["aria-sort"] == "none" for heading in headings)
        assert len(table.all("th", scope="row")) == len(table.all("tr")) - 1
    leaderboard = page.section("Leaderboard")
    assert [option.text for option in leaderboard.all("option")][1:] == list(dict.fromkeys(t.state for t in launch.trials))
    assert leaderboard.all("input", type="search")
    score = next(cell for cell in leaderboard.all("td") if "%" in cell.text)
    assert float(score["data-value"]) == pytest.approx(float(score.text.split()[0]) / 100, abs=1e-4)


def test_rows_of_pictures_have_their_classes_names(page: ParsedPage) -> None:
    for rows in page.section("Generated images").all("ol", class_="rows"):
        assert [row.text for row in rows.all("li")] == list(CLASSES)


def test_every_chart_is_told_in_words(page: ParsedPage) -> None:
    plots = page.root.all("div", class_="plot")
    assert len(plots) == 15
    captions = {caption["id"]: caption.text for caption in page.root.all("figcaption") if caption["id"]}
    for plot in plots:
        assert plot["role"] == "img"
        assert re.search(r"\d", captions[plot["aria-labelledby"]])
    assert "best" in captions["best-so-far-1"]
    assert "median" in captions["best-so-far-1"]
    assert "12 trials" in captions["the-blind-choice-1"] or "11 trials" in captions["the-blind-choice-1"]


def test_points_tell_their_trials_parameters(page: ParsedPage, launch: Launch) -> None:
    told = page.embedded("tooltips")
    for trial in launch.trials:
        assert f"student.lr {float(trial.params['student.lr']):.3g}" in told[str(trial.number)]
        assert trial.state in told[str(trial.number)]
    for title in ("Best so far", "Curves: test accuracy", "Slices", "Parallel coordinates", "Timeline", "The blind choice"):
        for chart in page.charts(title):
            named = [trace for trace in chart["data"] if "customdata" in trace]
            assert named
            assert all("%{hovertext}" in trace["hovertemplate"] for trace in named)


def test_every_colour_is_the_palettes_and_has_a_dark_one(page: ParsedPage) -> None:
    dark = page.embedded("palette")
    drawn = {
        script.text for script in page.root.all("script", type="application/json") if script["id"] not in ("palette", "tooltips")
    }
    colours = set(re.findall(r"#[0-9a-f]{6}", " ".join(drawn)))
    assert len(colours) > 5
    assert colours <= set(dark)
    light, rest = page.root.all("style")[0].text.split("@media (prefers-color-scheme: dark)", 1)
    assert set(re.findall(r"#[0-9a-f]{6}", light)) == set(dark)
    assert set(re.findall(r"#[0-9a-f]{3,6}\b", rest)) == set(dark.values())


def test_a_running_trial_is_called_so_wherever_it_stands(write: Written, launch: Launch) -> None:
    going = [replace(trial, outcome=None, course=replace(trial.course, ended=None)) for trial in launch.trials[5:7]]
    page = write(replace(launch, trials=[*launch.trials[:5], *going, *launch.trials[7:]], is_open=True))
    rows = {row["trial"]: row for row in page.table("Leaderboard")}
    assert {rows[str(trial.number)]["outcome"] for trial in going} == {"running"}
    assert not [row for row in rows.values() if row["outcome"] == "-"]
    assert "2 running" in page.section("What it found").text
    assert f"epochs: {launch.epochs_run} run so far" in page.section("What it found").text
    assert [trace["name"] for trace in page.charts("Timeline")[0]["data"] if trace["type"] == "bar"].count("running") == 1


def test_launches_are_compared_in_one_table_and_on_one_page(study: Study, launch: Launch, tmp_path: Path) -> None:
    file = str(study.local / study.name / "study.yaml")
    launches = read_named([file, f"{file}@{study.name}"], [], QUIET)
    assert [found.name for found in launches] == ["digits-cpsc", "digits-cpsc #2"]
    first, second = comparison_rows(launches)
    assert first | {"launch": ""} == second | {"launch": ""}
    assert (first["trials"], first["chosen"], first["epochs"]) == (NUM_TRIALS, 0, launch.epochs_run)
    page = ParsedPage(write_comparison_files(launches, tmp_path).read_text())
    assert len(page.root.all("div", class_="plot")) == 4
    assert "the same settings" in page.section("What differs").text
    assert parquet.read_table(tmp_path / "trials.parquet").num_rows == 2 * NUM_TRIALS


def test_a_comparison_names_what_differs(launch: Launch, tmp_path: Path) -> None:
    chosen = launch.trials[0]
    changed = replace(chosen, params=chosen.params | {"student.lr": "0.3", "weights.new": "<b>"})
    other = replace(launch, name="other", trials=[changed, *launch.trials[1:]], settings=launch.settings | {"sampler": "random"})
    assert differences([launch, other]) == {
        "launch: sampler": ["tpe", "random"],
        "student.lr": ["0.1", "0.3"],
        "weights.new": ["-", "<b>"],
    }
    page = ParsedPage(write_comparison_files([launch, other], tmp_path).read_text())
    rows = page.table("What differs")
    assert [row["parameter"] for row in rows] == ["launch: sampler", "student.lr", "weights.new"]
    assert rows[2]["other"] == "<b>"
    assert page.charts("Best so far")[0]["data"][0]["line"]["shape"] == "hv"
    assert "student.lr 0.3" in page.embedded("tooltips")["1:0"]


def test_the_best_so_far_never_falls_and_counts_every_epoch(launch: Launch) -> None:
    points = best_so_far(launch)
    assert [spent for spent, _ in points] == list(range(1, launch.epochs_run + 1))
    assert points == sorted(points, key=lambda point: point[1])


@pytest.mark.parametrize(
    ("names", "rule"),
    [(["one.yaml"], "takes at least two launches"), ([str(STUDY), f"{STUDY}@nothing"], "holds no MLflow store yet")],
)
def test_what_cannot_be_compared_is_said(names: list[str], rule: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(rule)):
        read_named(names, [f"storage={tmp_path}"], QUIET)
