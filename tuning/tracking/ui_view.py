"""Saved view of a study in MLflow's UI: the most useful columns and charts.

The UI keeps saved views as tags of the experiment: JSON around a deflated JSON state. A version that does not know them
shows its own defaults.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient

from tuning.shown_figures import EPOCHS_TAG, shown_names
from tuning.study import Study
from tuning.tracking.client import reading_store, using_mlflow
from tuning.tracking.tags import LAUNCH_TAG, OUTCOME_TAG

LOCAL_UI = "http://127.0.0.1:5000"
"""Where `cpsc-tune ui` shows a store on this machine by default."""
VIEW_KEY = "cpsc-trials"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
WORKFLOW = "machine_learning"
"""One of the two ways in which MLflow's UI shows an experiment; the default is the other, for chats with language models."""
NAME_COLUMN, CREATED_COLUMN, DURATION_COLUMN = "attributes.`Run Name`", "runDateAndNestInfo", "duration"
"""The UI's names of columns that are always shown."""
PIXELS_A_LETTER, PADDING, MIN_WIDTH, MAX_WIDTH = 7, 26, 84, 150
WIDTHS = {NAME_COLUMN: 170, CREATED_COLUMN: 130, DURATION_COLUMN: 84}
MAX_PARAMETERS = 8
"""Most columns of searched parameters; the first ones are shown."""
RUNS_SHOWN = 20
QUALITY, LOSSES, COST = "quality", "losses", "cost"
SECTIONS = {QUALITY: "How good the students are", LOSSES: "What they were taught with", COST: "What it took"}
LINES = {
    QUALITY: ("exam_score", "probe_agreement", "probe_kl", "test_accuracy", "generator_label_agreement"),
    LOSSES: ("student/kl", "student/l2", "student/label", "generator/batch_statistics", "generator/contrast", "generator/label"),
    COST: ("epoch_s", "images_per_s", "peak_memory_bytes"),
}


def view_tag(study: Study) -> str:
    """The value of the experiment's tag `VIEW_TAG`: the trials, best first."""
    state = base64.b64encode(zlib.compress(json.dumps(_state(study)).encode())).decode()
    moment = 0  # the same study gives the same view
    return json.dumps({"name": "Trials", "createdAt": moment, "updatedAt": moment, "state": f"deflate;{state}"})


@using_mlflow()
def first_page(uri: str, study: str) -> str:
    """Path of the view in the UI of the store at `uri`, to be appended to the server's address.

    If the store has no such study, it is the path of the list of experiments.
    """
    with reading_store(uri):
        experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name(study)
    place = f"/{experiment.experiment_id}/runs?viewStateShareKey={VIEW_KEY}&" if experiment else "?"
    return f"#/experiments{place}workflowType={WORKFLOW}"


def _columns(study: Study, parameters: Sequence[str]) -> list[str]:
    """Outcome and result as formatted texts, the searched values, the launch, and the metric that orders the rows."""
    figures = [OUTCOME_TAG, EPOCHS_TAG, *shown_names(study.objective).values()]
    shown = [*(f"tags.`{name}`" for name in figures), *(f"params.`{path}`" for path in parameters)]
    return [*shown, f"tags.`{LAUNCH_TAG}`", f"metrics.`{study.metric}`"]


def _width(column: str) -> int:
    """Width of a column in pixels: its whole heading, if that is not too long."""
    heading = column.partition("`")[2].rstrip("`")
    return min(max(MIN_WIDTH, PIXELS_A_LETTER * len(heading) + PADDING), MAX_WIDTH)


def _state(study: Study) -> dict[str, Any]:
    parameters = list(study.space)[:MAX_PARAMETERS]
    columns = _columns(study, parameters)
    return {
        "searchFilter": "tags.kind = 'trial'",
        "orderByKey": f"metrics.`{study.metric}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [NAME_COLUMN, CREATED_COLUMN, *columns, DURATION_COLUMN],
        "columnWidths": {column: _width(column) for column in columns} | WIDTHS,
        "runsHiddenMode": "FIRST_20_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "compareRunSections": [{"uuid": key, "name": name, "display": True, "isReordered": True} for key, name in SECTIONS.items()],
        "compareRunCharts": _charts(study, parameters),
    }


def _charts(study: Study, parameters: Sequence[str]) -> list[Mapping[str, Any]]:
    lines = [_line(metric, section) for section, metrics in LINES.items() for metric in metrics]
    parallel = _chart("PARALLEL", QUALITY, "parallel") | {
        "selectedParams": list(parameters),
        "selectedMetrics": [study.metric],
        "showAllRuns": True,
    }
    return [parallel, *lines]


def _line(metric: str, section: str) -> dict[str, Any]:
    return _chart("LINE", section, metric) | {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "lineSmoothness": 0,
        "selectedXAxisMetricKey": "",
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "range": {},
        "ignoreOutliers": False,
    }


def _chart(kind: str, section: str, name: str) -> dict[str, Any]:
    common = {"deleted": False, "isGenerated": False, "runsCountToCompare": RUNS_SHOWN}
    return {"type": kind, "uuid": f"{section}-{name.replace('/', '-')}", "metricSectionId": section} | common
