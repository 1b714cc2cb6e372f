"""Resources of each trial for Ray. Not beside the sweep's setup: workers unpickle it, and would import MLflow and Optuna, too."""

from collections.abc import Mapping
from typing import Any

from ray import tune
from ray.tune.execution.placement_groups import resource_dict_to_pg_factory

from tuning.study import Study


def resources_of(study: Study, config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """The resources of a trial with that Tune config."""
    cpus = study.resources.cpus if config.get("finalist_of") is None else study.finalist_cpus
    return resource_dict_to_pg_factory({"cpu": cpus, "gpu": study.resources.gpus})
