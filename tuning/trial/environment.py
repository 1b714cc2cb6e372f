"""What a trial's numbers depend on besides its config, seed and teacher: code, torch, processor, threads."""

import functools
import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path

import torch

import cpsc
from cpsc.device import resolve_precision

ENVIRONMENT_TAG = "environment"
CPU_INFO = Path("/proc/cpuinfo")
SPOKEN = {"threads": "thread count", "auto": "precision for auto", "code": "code of cpsc/"}
"""Readable names of facts whose key alone would not be understood."""

Environment = Mapping[str, str]


def environment(device: torch.device) -> dict[str, str]:
    """The facts of this process that affect a trial's last bits, as short texts by name; to be called once its threads are set."""
    facts = {
        "torch": torch.__version__,
        "processor": processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "auto": resolve_precision("auto", device),
        "device": "cpu",
        "code": code_digest(),
    }
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
        facts["cuda"] = f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return facts


@functools.cache
def processor_name() -> str:
    """The processor's model name, or its architecture if the system does not tell."""
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines() if CPU_INFO.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


@functools.cache
def code_digest() -> str:
    """Digest of the training core's sources: a release number would not tell two checkouts apart."""
    root = Path(str(cpsc.__file__)).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def to_tag(facts: Environment) -> str:
    """Encode the facts for a run's tag `ENVIRONMENT_TAG`."""
    return json.dumps(facts)


def from_tag(text: str | None) -> dict[str, str] | None:
    """Decode what `to_tag` wrote; None if the run has no such tag, or one that this version cannot read."""
    try:
        facts = json.loads(text or "")
    except ValueError:
        return None
    return {str(name): str(value) for name, value in facts.items()} if isinstance(facts, dict) else None


def differences(recorded: Environment, here: Environment) -> list[str]:
    """In words, what differs here from where the record was made."""
    names = [*recorded, *(name for name in here if name not in recorded)]
    return [
        f"{SPOKEN.get(name, name)} {here.get(name, 'none')}, recorded {recorded.get(name, 'none')}"
        for name in names
        if recorded.get(name) != here.get(name)
    ]
