"""What nodes install: every package of the project, in its range, with its extras, on its Python, and all nodes the same."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cpsc.errors import ConfigError
from tests.unit.tuning.cluster_edits import (
    RAY,
    ROOT,
    SPOT,
    Cluster,
    Edit,
    both,
    check_cluster_file,
    docker,
    google,
    original,
    own_machines,
    put,
    refusal,
    rewrite,
    write,
)
from tuning.cluster import project
from tuning.cluster.launcher_config import installation
from tuning.cluster.launcher_config.sections import check_as_ray_does

pytestmark = pytest.mark.slow  # a hundred cluster files, each through Ray's validator
SETUP = "setup_commands"
NAMES = [Requirement(text).name for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]]
WHOLE = f'~/venv/bin/pip install "ray[default,tune]=={RAY}"'


def pin(name: str, cluster: Cluster) -> str:
    """As the repository's file installs it."""
    return next(word for word in cluster[SETUP][2].split('"') if word.split("=")[0].split("[")[0] == name)


def without(name: str) -> Edit:
    def edit(cluster: Cluster) -> None:
        cluster[SETUP] = [command.replace(f'"{pin(name, cluster)}"', "") for command in cluster[SETUP]]

    return edit


def instead(name: str, text: str) -> Edit:
    def edit(cluster: Cluster) -> None:
        cluster[SETUP] = [command.replace(f'"{pin(name, cluster)}"', f'"{text}"') for command in cluster[SETUP]]

    return edit


def more(key: str, *commands: str) -> Edit:
    def edit(cluster: Cluster) -> None:
        cluster[key] = [*cluster[key], *commands]

    return edit


@pytest.fixture
def cluster() -> Cluster:
    return original()


def passed(cluster: Cluster, tmp_path: Path) -> list[str]:
    path = write(tmp_path, cluster)
    return [line.removeprefix(f"{path}: ") for line in check_cluster_file(path)]


@pytest.mark.parametrize(
    "edit",
    [
        rewrite(SETUP, "~/venv/bin/pip install", "~/venv/bin/python -m pip install"),
        rewrite(SETUP, "~/venv/bin/pip install --quiet", "uv pip install --index-url https://pypi.example.org/simple"),
        rewrite(SETUP, "~/venv/bin/pip install", "~/venv/bin/pip3.12 install"),
        instead("torch", "torch==2.13.0+cu128"),
        instead("torch", "https://example.org/torch-2.13.0-cp312-cp312-manylinux_2_28_x86_64.whl"),
        instead("scikit-learn", "scikit_learn==1.9.1"),
        rewrite(SETUP, "3.12", "3.11"),
        more(SETUP, "~/venv/bin/pip install nvidia-ml-py", "pip install -U pip", "echo done > /dev/null"),
        both(put(SETUP, ["python3.12 -m venv ~/venv", f"{WHOLE} -r requirements.txt"])),
        put(SETUP, ["python3.12 -m venv ~/venv", f"{WHOLE} cpsc-tune[aws]==0.1.0"]),
        put(SETUP, ["python3.12 -m venv ~/venv", f"{WHOLE} git+https://example.org/cpsc-tune"]),
        docker(image=f"rayproject/ray:{RAY}-py312-gpu"),
        own_machines,
        google,
    ],
)
def test_other_ways_to_install_it_all_pass_in_silence(cluster: Cluster, tmp_path: Path, edit: Edit) -> None:
    edit(cluster)
    assert passed(cluster, tmp_path) == []


def said_of_packages(edit: Edit) -> str:
    cluster = original()
    edit(cluster)
    with pytest.raises(ConfigError) as caught:
        installation.check_packages(cluster)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_package_that_is_left_out_beyond_its_range_or_without_a_version_is_named(name: str) -> None:
    message = said_of_packages(without(name))
    assert message.startswith(f"{SETUP}: must install {name}")
    assert message.endswith("as in pyproject.toml, no command does for the head")
    for text in (f"{name}==99.0", f"{name}==0.0.1", name, f"{name}>=0", f"{name}==1.*"):
        message = said_of_packages(instead(name, text))
        assert message.startswith(f"{SETUP}: must install {name}")
        assert message.endswith(f"got {text}")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            without("torch"),
            f"{SETUP}: must install torch>=2.11,<2.14, as in pyproject.toml, no command does for the head",
        ),
        (
            instead("torch", "torch==2.9.0"),
            f"{SETUP}: must install torch>=2.11,<2.14, as in pyproject.toml, got torch==2.9.0",
        ),
        (
            instead("ray", f"ray[tune]=={RAY}"),
            f"{SETUP}: must install ray[default,tune]>=2.60,<2.61, as in pyproject.toml, with [default], got",
        ),
        (instead("ray", f"./ray-{RAY}-cp312-cp312-linux_x86_64.whl"), "with [default,tune], got ./ray-"),
        (
            put("head_setup_commands", []),
            f"{SETUP}: must install boto3>=1.40,<2, as in pyproject.toml, no command does for the head",
        ),
        (
            put("head_setup_commands", ["pip install boto3==1.9"]),
            "must install boto3>=1.40,<2, as in pyproject.toml, got boto3==1.9",
        ),
        (
            put("worker_setup_commands", ["~/venv/bin/pip install torch==2.12.0"]),
            f"{SETUP}: must install torch==2.13.0 like {SETUP}, since all nodes need the same, got torch==2.12.0",
        ),
        (
            put("available_node_types/gpu_spot/worker_setup_commands", [WHOLE]),
            f"{SPOT}.worker_setup_commands: must install torch>=2.11,<2.14, as in pyproject.toml, no command does for workers",
        ),
        (
            instead("torch", "torch==$TORCH"),
            f"{SETUP}: 'torch==$TORCH' cannot be parsed as a requirement, write its version out",
        ),
        (
            instead("torch", "torch==2.13.0+cpu"),
            "must install a torch build for GPUs, since workers have GPUs, got torch==2.13.0+cpu",
        ),
        (rewrite(SETUP, "3.12", "3.10"), f"{SETUP}: must use Python <3.13,>=3.11, as in pyproject.toml, got 3.10"),
        (rewrite(SETUP, "3.12", "3.13"), f"{SETUP}: must use Python <3.13,>=3.11, as in pyproject.toml, got 3.13"),
        (rewrite(SETUP, "python3.12 -m venv", "uv venv --python 3.10"), "as in pyproject.toml, got 3.10"),
        (rewrite(SETUP, "python3.12 -m venv ~/venv", "conda create -y -p ~/venv python=3.9"), "as in pyproject.toml, got 3.9"),
        (
            rewrite(SETUP, "python3.12 -m venv", "python3.11 -m venv"),
            "must use the same Python on all nodes, as Ray requires, got 3.12 and 3.11",
        ),
        (docker(image=f"rayproject/ray:{RAY}-py310-gpu"), "as in pyproject.toml, got 3.10"),
        (
            docker(head_image=f"rayproject/ray:{RAY}-py312", worker_image=f"rayproject/ray:{RAY}-py311-gpu"),
            "must use the same Python on all nodes, as Ray requires, got 3.12 and 3.11",
        ),
        (instead("ray", f"./ray-{RAY}-cp310-cp310-linux_x86_64.whl[default,tune]"), "as in pyproject.toml, got 3.10"),
    ],
)
def test_what_ray_lets_through_is_refused(cluster: Cluster, tmp_path: Path, edit: Edit, message: str) -> None:
    edit(cluster)
    check_as_ray_does(cluster)
    assert message in refusal(write(tmp_path, cluster))


def test_a_python_that_no_command_names_is_told(cluster: Cluster, tmp_path: Path) -> None:
    cluster[SETUP] = [command.replace("python3.12", "python3") for command in cluster[SETUP]]
    assert passed(cluster, tmp_path) == [f"{SETUP}: does not name a Python for the head, so that of the image must be <3.13,>=3.11"]


def test_an_installed_distribution_says_the_same_as_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    from_checkout = {str(each) for each in project.requirements()}
    monkeypatch.setattr(project, "PYPROJECT", Path("/nowhere/pyproject.toml"))
    assert version("cpsc-tune")
    assert {Requirement(each).name for each in from_checkout} >= {each.name for each in project.requirements()}
    assert project.python_range() == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]


def test_a_checkout_is_asked_itself_for_what_is_installed_may_be_older() -> None:
    assert project.PYPROJECT == ROOT / "pyproject.toml"
