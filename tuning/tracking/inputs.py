"""Inputs of a study's trials, which MLflow lists as datasets: probe set, examiners' images, and labelled images if any."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag

from tuning.redaction import redact
from tuning.storage import Storage
from tuning.study import Study
from tuning.trial import Assets
from tuning.trial.assets import probe_name
from tuning.trial.examiners import images_name

CONTEXT = "mlflow.data.context"
"""The tag that says in MLflow's UI what an input is for."""


def inputs_of(study: Study, assets: Assets) -> list[dict[str, str]]:
    """The fields of each input, as the journal stores them."""
    file = probe_name(assets.teacher, study.probe, Storage(study.storage))
    images = {"num_images": len(assets.probe.labels), "num_classes": assets.teacher.num_classes}
    inputs = [_input("probe-set", file.rpartition("/")[2].removesuffix(".pt"), f"{redact(study.storage)}/{file}", images, "probe")]
    if assets.examiners is not None:
        file, exam = images_name(assets.examiners.folder), assets.examiners.images
        sizes = {"num_images": len(exam.images), "num_examiners": len(exam.runs)}
        digest = assets.examiners.folder.rpartition("/")[2]
        inputs.append(_input("examiners", digest, f"{redact(study.storage)}/{file}", sizes, "objective"))
    if assets.dataset is not None and study.dataset is not None:
        dataset = assets.dataset
        sizes = {"num_train_images": len(dataset.train.labels), "num_test_images": len(dataset.test.labels)}
        steers = study.objective == "test_accuracy"
        place = redact(study.dataset.path or f"{dataset.name} of scikit-learn")
        inputs.append(
            _input(dataset.name, dataset.digest[:36], place, sizes, "objective" if steers else "measured, steers nothing")
        )
    return inputs


def _input(name: str, digest: str, uri: str, profile: dict[str, Any], context: str) -> dict[str, str]:
    return {"name": name, "digest": digest, "source": json.dumps({"uri": uri}), "profile": json.dumps(profile), "context": context}


def dataset_inputs(fields: Sequence[Mapping[str, str]]) -> list[DatasetInput]:
    """Convert the inputs to MLflow entities."""
    return [
        DatasetInput(
            Dataset(
                name=entry["name"], digest=entry["digest"], source_type="local", source=entry["source"], profile=entry["profile"]
            ),
            tags=[InputTag(CONTEXT, entry["context"])],
        )
        for entry in fields
    ]
