"""Saved view of a study in MLflow's UI: the columns and charts that answer a person's questions.

The UI keeps its saved views as tags of the experiment: JSON around a deflated JSON state. A version that does not know them
shows its own defaults.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient

from tuning.study import Study
from tuning.tracking.client import reading_store, using_mlflow

LOCAL_UI = "http://127.0.0.1:5000"
"""Where `cpsc-tune ui` shows a store on this machine, unless it is told another port."""
VIEW_KEY = "cpsc-trials"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
COLUMNS = ("tags.`outcome`", "metrics.`{best}`", "metrics.`probe_kl`", "metrics.`test_accuracy`", "metrics.`best_epoch`")
MAX_PARAMETERS = 8
"""Columns of searched parameters: the first of the study's."""
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
    """Where the UI of the store at `uri` shows the view, after the server's address; empty where it has no such study."""
    with reading_store(uri):
        experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name(study)
    return f"#/experiments/{experiment.experiment_id}/runs?viewStateShareKey={VIEW_KEY}" if experiment else ""


def _state(study: Study) -> dict[str, Any]:
    parameters = list(study.space)[:MAX_PARAMETERS]
    return {
        "searchFilter": "tags.kind = 'trial'",
        "orderByKey": f"metrics.`{study.metric}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [column.format(best=study.metric) for column in COLUMNS] + [f"params.`{path}`" for path in parameters],
        "columnOrder": [],
        "columnWidths": {},
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
