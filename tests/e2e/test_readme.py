"""Every command in the README and in `docs` runs, in its order, as written; only the budgets are made small.

All of them run in one folder, as a reader's would, in which the README's sweep has run before.

Examiners, whose training is most of a sweep as small as these, are left to the commands that name them.
"""

import io
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from contextlib import chdir, redirect_stdout
from pathlib import Path

import pytest
import yaml

from tests.support.command_line import call_cli
from tuning.study import load_study

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").glob("*.md"))
SMALL = {
    "teacher.epochs": 1,
    "teacher.warmup_epochs": 0,
    "teacher.min_accuracy": 0,
    "probe.num_images": 20,
    "probe.batch_size": 20,
    "probe.steps": 2,
    "examiners.num_images": 40,
    "generator.width": 8,
    "schedule.iterations": 1,
    "schedule.generator_steps": 1,
    "schedule.student_steps": 2,
    "schedule.batch_size": 16,
    "epochs": 2,
    "search.num_trials": 2,
}
FEWER_POINTS = {"space.seed": "{choice: [0, 1]}", "space.method": "{choice: [cpsc, adi]}"}
"""Of the grid, which runs all that it has."""
FEWER = {("--num-trials", "20"): "4", ("--from-checkpoint", "8"): "1"}
"""Trials that a resume extends a study to, and the epoch that a replay goes on from, in the README and here."""
OF_OWN_TEACHERS = {f"search_spaces/own_teacher/{name}.yaml" for name in ("study", "teacher", "mine")}
"""Studies of a weights file, which is not trained."""
VERBS_OF_A_STUDY = {"sweep", "teacher", "probe", "trial", "report", "ui", "export", "compare"}
pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def commands_in(text: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip() and not line.startswith("#")]


def run(words: list[str], cwd: Path, *, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=cwd, env=environment, input=stdin, capture_output=True, text=True, timeout=300, check=False)


def made_small(words: list[str]) -> list[str]:
    if "--dry-run" in words:
        return words
    grid = "search_spaces/methods.yaml" in words
    small = {path: value for path, value in SMALL.items() if path != "search.num_trials"} | FEWER_POINTS if grid else SMALL
    if OF_OWN_TEACHERS & set(words):
        small = {path: value for path, value in small.items() if not path.startswith("teacher.")}
    if not any(word.startswith("objective=") for word in words):
        small = small | {"objective": "probe_agreement"}
    return [*words, *(word for path, value in small.items() for word in ("--set", f"{path}={value}"))]


def as_module(words: list[str]) -> list[str]:
    return [sys.executable, "-m", "tuning", *words[1:]]


def served_address(words: list[str], cwd: Path) -> str:
    """Where a server says that it is, once it is there; it is ended again."""
    with (cwd / "server.log").open("wb") as log:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        server = subprocess.Popen(words, cwd=cwd, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while server.poll() is None and time.monotonic() < deadline:
            address = (cwd / "server.log").read_text().splitlines()[-1:]
            if address and address[0].startswith("http://127.0.0.1:5000/#/experiments/"):
                with urllib.request.urlopen("http://127.0.0.1:5000/health") as answer:
                    assert answer.status == 200
                return address[0]
            time.sleep(0.3)
        pytest.fail((cwd / "server.log").read_text())
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def run_command(command: str, cwd: Path) -> str:
    """Run one command of the README with small budgets; its whole output."""
    words = shlex.split(command)
    if words[0] == "make":
        planned = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        if words[1] == "test":
            assert ".venv/bin/python -m pytest" in planned  # which is what runs this
            return planned
        (line,) = [line for line in planned.splitlines() if "cpsc-tune" in line]
        words = shlex.split(line)
    if words[1:4] == ["-m", "pdb", "-m"]:
        source = (ROOT / "cpsc" / "methods" / "cpsc.py").read_text().splitlines()
        line_number = next(number for number, line in enumerate(source, start=1) if "student = view.student" in line)
        stdin = f"b {ROOT / 'cpsc' / 'methods' / 'cpsc.py'}:{line_number}\nc\np view.labels.shape\nq\n"
        done = run(made_small([sys.executable, *words[1:]]), cwd, stdin=stdin)
        assert "torch.Size([16])" in done.stdout, done.stdout + done.stderr
        return done.stdout
    if words[0] == "python" and words[1].endswith(".py"):
        done = run([sys.executable, *words[1:]], cwd)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout or "ran"
    if words[1] == "ui":
        return served_address(as_module(words), cwd)
    words = [words[0], *(FEWER.get(pair, pair[1]) for pair in itertools.pairwise(words))]
    words = made_small(words) if words[1] in VERBS_OF_A_STUDY else words
    # `make sweep`, the first, is a process as a user starts it; for those after it ten seconds of imports each would prove no more.
    done = run(as_module(words), cwd) if command.startswith("make") else call_cli(*words[1:], cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def link_files(folder: Path) -> None:
    """What the commands name, as a checkout has it."""
    for name in ("cluster.yaml", "cluster"):
        (folder / name).symlink_to(ROOT / name)
    studies, own = folder / "search_spaces", "own_teacher"
    studies.mkdir()
    for entry in (ROOT / "search_spaces").iterdir():
        if entry.name != own:
            (studies / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "search_spaces" / own, studies / own, ignore=shutil.ignore_patterns("*.pth", "__pycache__"))


@pytest.fixture(scope="module")
def after_quick_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's first command has run: where most of the docs begin."""
    folder = tmp_path_factory.mktemp("stranger")
    link_files(folder)
    assert "chosen without a real image" in run_command("make sweep", folder)
    return folder


def test_every_command_of_the_readme_runs(after_quick_start: Path) -> None:
    commands = commands_in(README)
    assert commands[:2] == ["make sweep", "make test"]
    outputs = {command: run_command(command, after_quick_start) for command in commands[1:]}
    assert "the best 4 of 4 trials" in outputs["cpsc-tune resume digits-cpsc --num-trials 20"]
    assert (after_quick_start / "report" / "report.html").exists()
    assert len(README.encode()) <= 7_000, "the README is a front door; depth belongs in docs"


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_the_docs_runs(page: Path, after_quick_start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text(encoding="utf-8")
    if "--wandb" in text:
        pytest.importorskip("wandb", reason="wandb is not installed: pip install 'cpsc-tune[dev]'")
        monkeypatch.setenv("WANDB_MODE", "offline")  # nobody is logged in here
    for command in commands_in(text):
        output = run_command(command, after_quick_start)
        assert output, command
        if "search.finalists" in command:
            assert "2 finalists, mean ± deviation over 1 seed" in output
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        assert executed(made_small_in_python(code), after_quick_start)


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_what_is_cited_is_what_is_installed() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])


def made_small_in_python(code: str) -> str:
    shown = '["search.num_trials=4"]'
    return code.replace(shown, repr([f"{path}={value}" for path, value in (SMALL | {"objective": "probe_agreement"}).items()]))


def executed(code: str, cwd: Path) -> str:
    """What a page's Python prints."""
    printed = io.StringIO()
    with chdir(cwd), redirect_stdout(printed):
        exec(compile(code, "page.md", "exec"), {"__name__": "page"})
    return printed.getvalue()


def yaml_blocks(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_studies_shown_are_studies(tmp_path: Path) -> None:
    shown, two_methods = yaml_blocks("study_file.md")
    (for_a_cluster,) = yaml_blocks("storage.md")
    (tmp_path / "scales").symlink_to(ROOT / "search_spaces" / "scales")
    (tmp_path / "methods.yaml").write_text(two_methods)
    assert load_study(tmp_path / "methods.yaml").name == "two-methods-digits"
    (tmp_path / "study.yaml").write_text(shown)
    (tmp_path / "cluster.yaml").write_text(shown + for_a_cluster)
    assert load_study(tmp_path / "cluster.yaml").storage == "s3://bucket/folder"
    study = load_study(tmp_path / "study.yaml")
    assert study.first_point == {"weights.l2": 5, "contrast_temperature": 0.07}


def test_make_has_every_target_that_is_named() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    pages = (README, *(page.read_text(encoding="utf-8") for page in (ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))))
    named = {name for page in pages for name in re.findall(r"`make ([a-z-]+)`", page)}
    assert "install" in named
    assert named <= targets


def test_every_file_of_the_map_exists() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code_map,) = re.findall(r"## Map of the code\n\n```text\n(.*?)```", contributing, flags=re.DOTALL)
    folder = Path()
    for line in code_map.splitlines():
        names = re.match(r"^( *)((?:[\w.]+/? )+)", line + " ")
        assert names, line
        if not names[1]:
            folder = ROOT / names[2].split()[0]
            assert folder.is_dir(), line
            continue
        for name in names[2].split():
            if name.endswith(("/", ".py")):
                assert (folder / name).exists(), f"{line}: {name}"
