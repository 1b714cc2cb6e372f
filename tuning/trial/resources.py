"""Resources of trials: how many trials fit on this machine at a time, and how a trial is kept to its share of a GPU."""

import torch

from cpsc.device import resolve_device
from cpsc.errors import ConfigError
from cpsc.processors import num_processors
from tuning.study.config import Study


def check_resources(study: Study, address: str | None) -> int | None:
    """Trials at a time; ConfigError if not even one fits on this machine. On a cluster, at `address`, the study's own limit."""
    if address is not None:
        return study.search.max_concurrent
    study_device(study)
    return concurrency(study)


def concurrency(study: Study) -> int:
    """Trials at a time on this machine; ConfigError if not even one fits."""
    resources = study.resources
    cpus = num_processors()
    if resources.cpus > cpus:
        raise ConfigError(f"resources.cpus: asks for {resources.cpus} per trial, but this process has only {cpus}; lower it")
    if study.finalist_cpus > cpus:
        raise ConfigError(
            f"search.finalists.cpus: asks for {study.finalist_cpus} per run, but this process has only {cpus}; lower it"
        )
    fitting = cpus // resources.cpus
    if resources.gpus:
        fitting = min(fitting, int(torch.cuda.device_count() / resources.gpus))
    return min(fitting, study.search.max_concurrent or fitting, study.search.num_trials)


def study_device(study: Study) -> torch.device:
    """CPU, or CUDA if the study asks for a GPU; ConfigError if it asks for more GPUs than there are."""
    gpus = study.resources.gpus
    if gpus == 0:
        return resolve_device("cpu")
    available = torch.cuda.device_count()
    if gpus > available:
        raise ConfigError(f"resources.gpus: asks for {gpus:g}, but this machine has {available}; set it to 0 for the CPU")
    return resolve_device("cuda")


def cap_gpu_memory(gpus: float) -> None:
    """Limit a trial that has a fraction of a GPU to that fraction of its memory, which Ray itself does not enforce.

    A trial that needs more then fails alone, with torch's out-of-memory error, instead of bringing down its neighbours.
    """
    if 0 < gpus < 1:
        torch.cuda.set_per_process_memory_fraction(gpus)
