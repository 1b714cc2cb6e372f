import importlib
import sys
from types import ModuleType

import pytest
import torch

from cpsc import torchvision_cure
from cpsc.torchvision_cure import SYMPTOM, import_beside_torchvision, import_torchvision


class Importer:
    """Stands in for importlib.import_module; fails with `errors`, one an attempt, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.attempts: list[str] = []

    def __call__(self, name: str) -> ModuleType:
        self.attempts.append(name)
        if self.errors:
            sys.modules["torchvision.half_imported"] = ModuleType("torchvision.half_imported")
            raise self.errors.pop(0)
        return ModuleType(name)


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Schemas that are declared, in place of torch's registry, which keeps them for the whole process."""
    schemas: list[str] = []

    class Library:
        def __init__(self, namespace: str, kind: str) -> None:
            assert (namespace, kind) == ("torchvision", "FRAGMENT")

        def define(self, schema: str) -> None:
            schemas.append(schema)

    monkeypatch.setattr(torch.library, "Library", Library)
    monkeypatch.setattr(torchvision_cure, "_library", None)
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchvision"}
    yield schemas
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    sys.modules.update(kept)


def test_nothing_is_declared_where_torchvision_imports(declared: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", importer := Importer())
    import_torchvision()
    assert importer.attempts == ["torchvision"]
    assert declared == []


def test_the_known_failure_is_cured_by_declaring_both_schemas_and_importing_again(
    declared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib, "import_module", importer := Importer(RuntimeError(SYMPTOM)))
    import_torchvision()
    assert importer.attempts == ["torchvision", "torchvision"]
    assert [schema.partition("(")[0] for schema in declared] == ["nms", "qnms"]
    assert "torchvision.half_imported" not in sys.modules
    assert torchvision_cure._library is not None


@pytest.mark.parametrize(
    "error",
    [RuntimeError("operator torchvision::roi_align does not exist"), ModuleNotFoundError("No module named 'torchvision'")],
    ids=["another operator", "not installed"],
)
def test_any_other_failure_is_passed_on_untouched(error: Exception, declared: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", importer := Importer(error))
    with pytest.raises(type(error)) as caught:
        import_torchvision()
    assert caught.value is error
    assert importer.attempts == ["torchvision"]
    assert declared == []


def test_a_cure_that_does_not_help_is_tried_once(declared: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", importer := Importer(RuntimeError(SYMPTOM), RuntimeError("still broken")))
    with pytest.raises(RuntimeError, match="still broken"):
        import_torchvision()
    assert len(importer.attempts) == 2


def test_a_module_that_imports_torchvision_is_imported_again_once_that_is_cured(
    declared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib, "import_module", importer := Importer(RuntimeError(SYMPTOM), RuntimeError(SYMPTOM)))
    assert import_beside_torchvision("networks").__name__ == "networks"
    assert importer.attempts == ["networks", "torchvision", "torchvision", "networks"]
    assert [schema.partition("(")[0] for schema in declared] == ["nms", "qnms"]


def test_a_module_that_fails_otherwise_is_imported_once(declared: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", importer := Importer(RuntimeError("no such device")))
    with pytest.raises(RuntimeError, match="no such device"):
        import_beside_torchvision("networks")
    assert importer.attempts == ["networks"]
