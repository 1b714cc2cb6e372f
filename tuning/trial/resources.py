"""Resources of trials: how many this machine holds at a time, whether even one, and how one keeps to its part."""

import torch

from cpsc.device import resolve_device
from cpsc.errors import ConfigError
from cpsc.processors import num_processors
from tuning.study.config import Study


def check_resources(study: Study, address: str | None) -> int | None:
    """Trials at a time; ConfigError where this machine, unless a cluster is named, cannot hold even one."""
    if address is not None:
        return study.search.max_concurrent
    study_device(study)
    return concurrency(study)


def concurrency(study: Study) -> int:
    """Trials at a time on this machine; ConfigError where not even one fits."""
    resources = study.resources
    cpus = num_processors()
    if resources.cpus > cpus:
        raise ConfigError(f"resources.cpus: {resources.cpus} asked for per trial, this process may use {cpus}")
    if study.finalist_cpus > cpus:
        raise ConfigError(f"search.finalists.cpus: {study.finalist_cpus} asked for per run, this process may use {cpus}")
    fitting = cpus // resources.cpus
    if resources.gpus:
        fitting = min(fitting, int(torch.cuda.device_count() / resources.gpus))
    return min(fitting, study.search.max_concurrent or fitting, study.search.num_trials)


def study_device(study: Study) -> torch.device:
    """CPU, or CUDA where the study asks for a GPU; ConfigError where it asks for more than there is."""
    gpus = study.resources.gpus
    if gpus == 0:
        return resolve_device("cpu")
    available = torch.cuda.device_count()
    if gpus > available:
        raise ConfigError(f"resources.gpus: {gpus:g} asked for, this machine has {available}; set it to 0 to use the CPU")
    return resolve_device("cuda")


def cap_gpu_memory(gpus: float) -> None:
    """Hold a trial that has a part of a GPU to that part of its memory: Ray shares GPUs out and guards nothing.

    One that wants more fails alone, with torch's out-of-memory error, instead of taking its neighbours with it.
    """
    if 0 < gpus < 1:
        torch.cuda.set_per_process_memory_fraction(gpus)
