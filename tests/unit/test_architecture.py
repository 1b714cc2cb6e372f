"""The tree is the architecture: which module may import which, read from the source with `ast`."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

import pytest

from cpsc.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cpsc", "tuning")
HEAVY = ("ray", "mlflow", "optuna", "pydantic", "typer", "rich")

CPSC_LAYERS = (
    {"errors", "torchvision_cure", "selection", "marks", "digests", "curves", "ground"},
    {"kinds", "processors", "redaction", "atomic_file", "rules", "import_path", "optimizers"},
    {"config", "rng", "statistics", "checkpoint"},
    {"losses", "device", "stopwatch", "schedule", "gallery", "answers", "pictures", "foreign"},
    {"metrics"},
    {"models", "cost", "data", "memory", "frechet", "norms", "criteria"},
    {"teacher", "generator", "augmentation", "execution", "borders", "recognition", "dead_leaves", "priorities"},
    {"synthesis", "published", "replay", "mixing", "first_weights", "teacher_training"},
    {"methods"},
    {"loop", "deploy", "presets"},
    {"observation", "misfit"},
    {"probe", "examiners"},
    {"measurement", "student_loss", "ground_survey"},
    {"history", "phases"},
    {"distiller"},
)
"""Families of `cpsc`, lowest first: each imports only what lies in lower layers."""

TUNING_LAYERS = (
    {"outcome", "lineage", "redaction", "sqlite", "file_lock", "process_settings", "time_left", "interruption"},
    {"display", "storage"},
    {"study", "shown_figures"},
    {"cluster", "launch", "trial"},
    {"search"},
    {"tracking"},
    {"results"},
    {"sweep", "report", "replay", "export", "simulation"},
    {"api", "init"},
    {"command_line"},
    {"cli", "simulate"},
    {"__main__"},
)
"""Packages of `tuning` and the few modules beside them, lowest first: each imports only what lies in lower layers."""

MAY_UPDATE_WEIGHTS = {"cpsc.loop", "cpsc.teacher_training"}


def module_name(path: Path) -> str:
    """``cpsc/data/__init__.py`` -> ``cpsc.data``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}


def statements(tree: ast.AST, *, top_level: bool) -> Iterator[ast.AST]:
    """Every node, or only those that run when the module is imported."""
    for child in ast.iter_child_nodes(tree):
        if top_level and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from statements(child, top_level=top_level)


def imports(module: str, tree: ast.AST, known: Set[str], *, top_level: bool = False) -> set[str]:
    """Full names of the modules that `tree` imports; ``from package import part`` names the part where it is a module."""
    found = set()
    for node in statements(tree, top_level=top_level):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide where a name comes from"
            assert node.module is not None
            for alias in node.names:
                part = f"{node.module}.{alias.name}"
                found.add(part if part in known else node.module)
    return found - {module}


ALL_IMPORTS = {name: imports(name, tree, SOURCES.keys()) for name, tree in TREES.items()}
TOP_LEVEL_IMPORTS = {name: imports(name, tree, SOURCES.keys(), top_level=True) for name, tree in TREES.items()}


def is_under(module: str, packages: Set[str] | tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def family(module: str) -> str:
    """``cpsc.losses.label`` -> ``losses``."""
    return module.split(".")[1]


def layer(module: str, layers: Sequence[Set[str]]) -> int:
    return next(index for index, families in enumerate(layers) if family(module) in families)


def reachable(start: str, edges: Mapping[str, Set[str]]) -> set[str]:
    """Modules of ours that `start` imports, directly or through others."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for target in edges[waiting.pop()] & edges.keys():
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return seen


def find_cycle(edges: Mapping[str, Set[str]]) -> list[str]:
    """The members of one import cycle, or nothing."""
    return next(([name] for name in edges if name in reachable(name, edges)), [])


def calls(tree: ast.AST) -> set[str]:
    """Names of the methods that `tree` calls."""
    return {node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}


CPSC_MODULES = [name for name in SOURCES if is_under(name, ("cpsc",)) and name != "cpsc"]
TUNING_MODULES = [name for name in SOURCES if is_under(name, ("tuning",)) and name != "tuning"]


def test_the_reader_sees_imports_at_every_depth_and_tells_them_apart() -> None:
    tree = ast.parse("import ray.tune\nfrom cpsc.data import digits, Split\ndef late():\n    from mlflow import MlflowClient\n")
    known = {"cpsc.data", "cpsc.data.digits"}
    assert imports("x", tree, known) == {"ray.tune", "cpsc.data", "cpsc.data.digits", "mlflow"}
    assert imports("x", tree, known, top_level=True) == {"ray.tune", "cpsc.data", "cpsc.data.digits"}


def test_the_cycle_finder_finds_a_cycle() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_the_source_tree_was_found() -> None:
    assert {"cpsc.losses.distillation", "cpsc.distiller", "cpsc.data", "tuning.sweep.driver", "tuning.cli"} <= SOURCES.keys()


@pytest.mark.parametrize("module", [name for name in SOURCES if is_under(name, ("cpsc",))])
def test_the_training_core_imports_no_tuning_tool(module: str) -> None:
    assert not [name for name in ALL_IMPORTS[module] if is_under(name, (*HEAVY, "tuning"))]


@pytest.mark.parametrize(("modules", "layers"), [(CPSC_MODULES, CPSC_LAYERS), (TUNING_MODULES, TUNING_LAYERS)], ids=PACKAGES)
def test_every_module_has_a_layer(modules: list[str], layers: Sequence[Set[str]]) -> None:
    placed = set().union(*layers)
    assert [name for name in modules if family(name) not in placed] == [], "add the new module to the layers"


@pytest.mark.parametrize(("modules", "layers"), [(CPSC_MODULES, CPSC_LAYERS), (TUNING_MODULES, TUNING_LAYERS)], ids=PACKAGES)
def test_packages_import_downwards_only(modules: list[str], layers: Sequence[Set[str]]) -> None:
    wrong = [
        f"{module} -> {target}"
        for module in modules
        for target in ALL_IMPORTS[module] & set(modules)
        if family(module) != family(target) and layer(target, layers) >= layer(module, layers)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("leaf", "allowed"),
    [
        ("errors", set()),
        ("kinds", {"errors"}),
        ("processors", set()),
        ("redaction", set()),
        ("optimizers", set()),
        ("rules", {"errors"}),
        ("import_path", {"errors", "torchvision_cure"}),
        ("config", {"errors", "kinds", "rules"}),
        ("rng", {"errors"}),
        ("statistics", {"errors"}),
        ("losses", {"errors", "statistics"}),
        ("metrics", {"errors", "losses"}),
        ("models", {"errors", "import_path"}),
        (
            "methods",
            {"config", "errors", "import_path", "kinds", "losses", "memory", "models", "rng", "rules", "statistics", "synthesis"},
        ),
        ("loop", {"errors", "methods"}),
    ],
)
def test_the_leaves_and_the_pure_layers_know_little(leaf: str, allowed: set[str]) -> None:
    modules = [name for name in CPSC_MODULES if family(name) == leaf]
    assert modules
    used = {family(target) for name in modules for target in ALL_IMPORTS[name] if is_under(target, ("cpsc",))}
    assert used <= allowed | {leaf}


@pytest.mark.parametrize("module", [name for name in CPSC_MODULES if family(name) == "losses"])
def test_a_loss_imports_only_torch_and_leaves_beyond_the_standard_library(module: str) -> None:
    roots = {name.split(".")[0] for name in ALL_IMPORTS[module]}
    assert {root for root in roots if root not in sys.stdlib_module_names} <= {"torch", "cpsc"}


def test_contributors_are_told_the_same_layers() -> None:
    _, core, _, around, *_ = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")
    for block, layers in ((core, CPSC_LAYERS), (around, TUNING_LAYERS)):
        assert tuple(set(line.split()) for line in block.splitlines()[1:]) == layers, "CONTRIBUTING.md: lists other layers"


def test_nothing_in_the_core_imports_the_distiller() -> None:
    assert [name for name in CPSC_MODULES if "cpsc.distiller" in ALL_IMPORTS[name]] == []


@pytest.mark.parametrize("package", sorted({family(name) for name in TUNING_MODULES if name.count(".") > 1}))
def test_a_package_names_what_others_use_of_it(package: str) -> None:
    tree = TREES[f"tuning.{package}"]
    assert ast.get_docstring(tree), "says what the package is for"
    ours = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and is_under(node.module or "", PACKAGES)]
    names = {alias.name for node in ours for alias in node.names}
    others = [name for name in SOURCES if not is_under(name, (f"tuning.{package}",))]
    used = {
        alias.name
        for name in others
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ImportFrom) and node.module == f"tuning.{package}"
        for alias in node.names
    }
    assert names - used == set(), "exported, and used by nobody"


def test_only_the_entry_point_imports_the_command_line() -> None:
    assert [name for name in SOURCES if "tuning.cli" in ALL_IMPORTS[name]] == ["tuning.__main__"]


def test_weights_are_updated_in_the_loop_the_teacher_and_the_probe_only() -> None:
    updating = {name for name, tree in TREES.items() if calls(tree) & {"backward", "step"}}
    assert updating <= MAY_UPDATE_WEIGHTS
    assert "cpsc.loop" in updating


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert find_cycle(TOP_LEVEL_IMPORTS) == []


MAY_NAME_A_METHOD = {
    "cpsc.config": {"cpsc", "dafl", "zskt", "dfad"},  # the default; generators' families have names of their methods
    "cpsc.generator": {"dafl", "zskt", "dfad"},
    "cpsc.probe": {"adi"},  # the inversion that makes the probe set is that method's
}


@pytest.mark.parametrize("module", [name for name in SOURCES if not is_under(name, ("cpsc.methods",))])
def test_a_methods_name_stands_in_its_file_and_its_row_alone(module: str) -> None:
    texts = {node.value for node in ast.walk(TREES[module]) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert texts & METHODS.keys() <= MAY_NAME_A_METHOD.get(module, set())


def test_no_file_is_called_utils() -> None:
    assert [path.name for path in SOURCES.values() if path.stem in ("utils", "util", "helpers")] == []


def run_without(blocked: tuple[str, ...], modules: list[str]) -> subprocess.CompletedProcess[str]:
    """Import `modules` in a fresh process in which `blocked` are not installed."""
    program = f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n" + "".join(f"import {name}\n" for name in modules)
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_the_core_imports_where_no_tuning_tool_is_installed() -> None:
    finished = run_without((*HEAVY, "tuning"), [name for name in SOURCES if is_under(name, ("cpsc",))])
    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_help_and_the_reading_of_studies_do_not_import_ray() -> None:
    finished = run_without(
        ("ray", "mlflow", "optuna"),
        ["tuning.cli", "tuning.study", "tuning.launch", "tuning.display"],
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_reading_results_does_not_import_ray() -> None:
    finished = run_without(
        ("ray", "optuna"), ["tuning.results.from_mlflow", "tuning.results.recorded_trial", "tuning.results.checkpoints"]
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_a_worker_imports_no_tracking_and_no_search() -> None:
    """Their import would be half of a worker's start."""
    finished = run_without(("mlflow", "optuna", "sqlalchemy"), ["tuning.trial.trainable", "tuning.trial.placement"])
    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_results_themselves_are_light() -> None:
    finished = run_without(("ray", "optuna", "mlflow", "torch", "pandas", "pydantic"), ["tuning.results"])
    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_a_blocked_module_is_really_blocked() -> None:
    assert run_without(("json",), ["json"]).returncode != 0


def test_every_package_is_part_of_the_distribution() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"])
    studies = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "search_spaces").rglob("*.yaml")}
    assert listed == studies | {module_name(path) for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")}


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "unit" / "cpsc").rglob("*.py")), ids=lambda path: path.name)
def test_the_tests_of_the_core_know_nothing_of_the_search(path: Path) -> None:
    found = imports(path.stem, ast.parse(path.read_text(encoding="utf-8")), SOURCES.keys())
    assert [name for name in found if is_under(name, {"tuning"})] == []
