"""Makes PyPI's torchvision importable with a CPU-only torch.

That wheel is built for CUDA. With a CPU build of torch its compiled operators do not load, and the import
fails because two of them have no schema (pytorch/vision issue 9085). Declaring the schemas is enough for its
networks and transforms; the operators themselves remain unavailable.
"""

import importlib
import sys
from types import ModuleType

SYMPTOM = "operator torchvision::nms does not exist"
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def import_torchvision() -> None:
    """Import torchvision; if that fails in exactly this way, declare the schemas and import it again."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if SYMPTOM not in str(error):
            raise
        _declare_schemas()
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        importlib.import_module("torchvision")


def import_beside_torchvision(name: str) -> ModuleType:
    """Import the module `name`, which may import torchvision or be a part of it."""
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if SYMPTOM not in str(error):
            raise
        import_torchvision()
        return importlib.import_module(name)


def _declare_schemas() -> None:
    import torch

    global _library  # when a library is garbage-collected, its schemas go with it
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        _library.define(schema)


_library = None
