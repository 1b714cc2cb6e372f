"""Names that libraries keep to themselves: each is used in one file, and a release that renames it is named here first."""

import ast
import importlib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RAY, MLFLOW = "tuning/cluster/ray_compat.py", "tuning/tracking/answers.py"
USED = [
    ("ray", "ray._private.ray_constants", "ENABLE_RAY_CLUSTER", RAY),
    ("ray", "ray._private.utils", "set_sigterm_handler", RAY),
    ("ray", "ray._private.services", "canonicalize_bootstrap_address", RAY),
    ("ray", "ray._private.authentication.authentication_token_setup", "ensure_token_if_auth_enabled", RAY),
    ("ray", "ray._raylet", "Config", RAY),
    ("ray", "ray._raylet", "GcsClient", RAY),
    ("ray", "ray.autoscaler._private.util", "prepare_config", RAY),
    ("ray", "ray.autoscaler._private.util", "validate_config", RAY),
    ("ray", "ray.tune.schedulers.async_hyperband", "_Bracket", RAY),
    ("ray", "ray.tune.execution.tune_controller", "TuneController", RAY),
    ("ray", "ray.air._internal.usage", "tag_callbacks", RAY),
    ("mlflow", "mlflow.utils.rest_utils", "_get_http_response_with_retries", MLFLOW),
]
LIBRARIES = ("ray", "optuna", "mlflow", "typer", "click")


@pytest.mark.parametrize(("library", "module", "name", "file"), USED)
def test_a_private_name_is_there(library: str, module: str, name: str, file: str) -> None:
    release = f"{library} {version(library)}"
    try:
        found = importlib.import_module(module)
    except ImportError:
        pytest.fail(f"{release} has no {module} any more: {file} must find another way")
    assert hasattr(found, name), f"{release} has no {module}.{name} any more: {file} must find another way"


def private_names(path: Path) -> set[str]:
    """Imports from private modules of the libraries, and private attributes of what was imported from them."""
    tree, found, imported = ast.parse(path.read_text(encoding="utf-8")), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in LIBRARIES:
            imported |= {alias.asname or alias.name for alias in node.names}
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name for name in whole if any(part.startswith("_") for part in name.split("."))}
        elif isinstance(node, ast.Import):
            imported |= {alias.asname or alias.name.partition(".")[0] for alias in node.names if alias.name.startswith(LIBRARIES)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in imported:
                found.add(f"{root.id}.{node.attr}")
    return found


def test_private_names_are_used_in_one_file_a_library() -> None:
    users = {path.relative_to(ROOT).as_posix(): private_names(path) for path in (ROOT / "tuning").rglob("*.py")}
    assert {file for file, names in users.items() if names} == {RAY, MLFLOW}, {
        file: names for file, names in users.items() if names
    }
