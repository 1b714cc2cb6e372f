"""A wheel works where there is no checkout: its studies are found by name, and all code that runs is the wheel's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "cpsc", "tuning", "search_spaces")
RUN_AND_TELL_WHERE_CODE_LIES = """
import sys
from tuning.cli import main
try:
    main()
finally:
    ours = [module for name, module in sys.modules.items() if name.split(".")[0] in ("cpsc", "tuning")]
    print(*(module.__file__ for module in ours), sep="\\n", file=sys.stderr)
"""


def run(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The interpreter at hand with `words`; `-P`: no folder of its own choice is looked in for modules."""
    command = [sys.executable, "-P", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which nothing but the wheel is installed. It is built of a copy: a build leaves its own files in the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    sources, target = folder / "sources", folder / "target"
    sources.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, sources)
    offline = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run("-m", "pip", "wheel", sources, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, cwd=folder, **offline)
    (wheel,) = folder.glob("*.whl")
    run("-m", "pip", "install", wheel, "--no-deps", "--no-compile", "--target", target, cwd=folder, **offline)
    return target


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A working directory without a file."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_the_command_lists_the_studies_of_the_wheel(installed: Path, empty: Path) -> None:
    listed = run(installed / "bin" / "cpsc-tune", "studies", cwd=empty, PYTHONPATH=str(installed)).stdout
    files = {path.relative_to(ROOT / "search_spaces") for path in (ROOT / "search_spaces").rglob("*.yaml")}
    names = {path.with_suffix("").as_posix() for path in files if path.parts[0] != "scales"}
    assert {line.split()[0] for line in listed.splitlines()} == names


def test_a_study_of_the_wheel_resolves_by_name_with_the_wheels_code(installed: Path, empty: Path) -> None:
    words = ("sweep", "digits", "--dry-run")
    done = run("-c", RUN_AND_TELL_WHERE_CODE_LIES, *words, cwd=empty, PYTHONPATH=str(installed))
    assert "16 trials of up to 9 epochs" in done.stdout
    code = [Path(line) for line in done.stderr.splitlines()]
    assert {path.relative_to(installed).parts[0] for path in code} == {"cpsc", "tuning"}
    assert not any(empty.iterdir())


def test_types_and_licence_travel_with_the_code(installed: Path) -> None:
    assert (installed / "cpsc" / "py.typed").is_file()
    assert (installed / "tuning" / "py.typed").is_file()
    assert list(installed.glob("cpsc_tune-*.dist-info/licenses/LICENSE"))
