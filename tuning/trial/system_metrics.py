"""System metrics of a trial's machine, under the names that MLflow's tab *System metrics* expects."""

import contextlib

import psutil
import torch

SYSTEM = "system/"
MEGABYTE = 1e6
PERCENT = 100.0


def machine_load(device: torch.device) -> dict[str, float]:
    """The load of this machine, and of `device` if it is a GPU. CPU utilisation is the mean since the last call.

    MLflow's own monitor would contact the tracking server from every worker, all the time.
    """
    memory = psutil.virtual_memory()
    load = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system_memory_usage_percentage": memory.percent,
    }
    if device.type == "cuda":
        load |= _gpu_load(device)
    return {f"{SYSTEM}{name}": float(value) for name, value in load.items()}


def _gpu_load(device: torch.device) -> dict[str, float]:
    free, total = torch.cuda.mem_get_info(device)
    index = device.index or 0
    load = {
        f"gpu_{index}_memory_usage_megabytes": (total - free) / MEGABYTE,
        f"gpu_{index}_memory_usage_percentage": PERCENT * (total - free) / total,
    }
    with contextlib.suppress(ModuleNotFoundError, RuntimeError):  # NVML's bindings are optional, and may not answer
        load[f"gpu_{index}_utilization_percentage"] = torch.cuda.utilization(device)
    return load
