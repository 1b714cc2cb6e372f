"""Setup commands of each kind of node: Ray, the project's requirements, and the Python version."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from cpsc.errors import ConfigError
from tuning.cluster import image_tag, project
from tuning.cluster.launcher_config.sections import Cluster, worker_types
from tuning.cluster.shell import simple_commands

PIP = re.compile(r"pip(3(\.\d+)?)?")
WHEEL = re.compile(r"(.*/)?(?P<name>\w[\w.]*)-(?P<version>[^-/]+)-[^/]*\.whl(\[(?P<extras>[^]]*)\])?")
EXACT = re.compile(r"===?\s*(?P<version>[^\s;,*]+)")
_WITH_VALUE = """
    -i --index-url --extra-index-url -f --find-links -c --constraint -r --requirement -e --editable -t --target --prefix --root
    --platform --python-version --implementation --abi --cache-dir --log --proxy --timeout --retries --trusted-host --src
    --no-binary --only-binary --progress-bar --python -p
"""
WITH_VALUE = frozenset(_WITH_VALUE.split())
"""Flags of `pip install` and `uv pip install` that take the next word as their value."""
OPENS = frozenset({"-r", "--requirement", "-e", "--editable"})
OTHER_INSTALLERS = frozenset({"conda", "mamba", "micromamba", "poetry", "pdm", "pixi", "uv"})
PYTHONS = (
    re.compile(r"(?<![\w.])(?:python|pip)[=@]{0,2}(\d)\.(\d+)"),  # python3.12-venv, pip3.12, python=3.12
    re.compile(r"--python[ =](?:python)?(\d)\.(\d+)"),
    re.compile(r"-cp(\d)(\d+)-cp"),  # of a wheel
)


@dataclass(frozen=True)
class _Pin:
    """A package that a command installs, with its version if it is pinned."""

    text: str
    name: str
    version: str | None
    extras: frozenset[str]


@dataclass(frozen=True)
class Installation:
    """What is installed on one kind of node: the key in the file, the setup commands, and the Docker image."""

    where: str
    commands: Sequence[str]
    image: str | None
    is_head: bool = False

    @cached_property
    def pins(self) -> list[_Pin]:
        """The packages of every `pip install`, in order."""
        return [pin for words in self._pip_words for pin in _pins(words, self.where)]

    @cached_property
    def may_bring_more(self) -> bool:
        """Whether packages also come from elsewhere: an image, the project itself, a requirements file, another installer."""
        words = [word for command in self.commands for words in simple_commands(command, self.where) for word in words]
        names = {PurePosixPath(word).name for word in words}
        by_file = any(word in OPENS or _is_source(word) for words in self._pip_words for word in words)
        without_pip = bool(names & OTHER_INSTALLERS) and not self._pip_words
        itself = any(pin.name == project.NAME for pin in self.pins)
        return self.image is not None or by_file or without_pip or itself

    @cached_property
    def pythons(self) -> list[str]:
        """Python versions in the commands or the image's tag, each once."""
        found = [match for command in self.commands for pattern in PYTHONS for match in pattern.finditer(command)]
        named = [f"{match[1]}.{match[2]}" for match in found]
        return list(dict.fromkeys([*named, *image_tag.pythons(self.image or "")]))

    @cached_property
    def _pip_words(self) -> list[list[str]]:
        """The words after each ``pip install``."""
        found = []
        for command in self.commands:
            if re.search(r"\bpip", command):
                for words in simple_commands(command, self.where):
                    if "install" in words and any(PIP.fullmatch(PurePosixPath(word).name) for word in words):
                        found.append(words[words.index("install") + 1 :])
        return found


def installations(cluster: Cluster) -> Iterator[Installation]:
    """The installations of the head and of every worker type."""
    docker = cluster.get("docker", {})
    common = cluster.get("setup_commands", [])
    image = docker.get("head_image", docker.get("image"))
    yield Installation("setup_commands", common + cluster.get("head_setup_commands", []), image, is_head=True)
    image = docker.get("worker_image", docker.get("image"))
    yield Installation("setup_commands", common + cluster.get("worker_setup_commands", []), image)
    for name, node_type in worker_types(cluster).items():
        own = node_type.get("docker", {}).get("worker_image", image)
        if "worker_setup_commands" in node_type:  # they replace the common ones
            yield Installation(f"available_node_types.{name}.worker_setup_commands", node_type["worker_setup_commands"], own)
        elif own != image:
            yield Installation(f"available_node_types.{name}.docker", common + cluster.get("worker_setup_commands", []), own)


def check_ray_version(cluster: Cluster) -> None:
    """A client and nodes with different Ray versions cannot talk to each other."""
    rule = f"must install ray=={version('ray')}, the version on this machine"
    for each in installations(cluster):
        pins = [pin for pin in each.pins if pin.name == "ray"]
        for pin in pins:
            if pin.version != version("ray"):
                raise ConfigError(f"{each.where}: {rule}, got {pin.text}")
        if not pins and each.image is None:
            raise ConfigError(f"{each.where}: {rule}, no command does")
        if not pins and each.image is not None and image_tag.ray_version(each.image) != version("ray"):
            raise ConfigError(f"{each.where}: {rule}, or docker's image must have it in its tag, got {each.image}")


def check_packages(cluster: Cluster) -> None:
    """Every node must install the project's requirements, within their ranges, and all nodes the same versions."""
    for each in installations(cluster):
        wanted = project.requirements()
        if each.is_head and cluster["provider"]["type"] == "aws":  # Ray starts machines with it
            wanted += project.requirements("aws")
        for requirement in wanted:
            _check_package(each, requirement)
    seen: dict[str, tuple[_Pin, str]] = {}
    for each in installations(cluster):
        for pin in each.pins:
            other, where = seen.setdefault(pin.name, (pin, each.where))
            if pin.version and other.version and pin.version != other.version:
                raise ConfigError(
                    f"{each.where}: must install {other.text} like {where}, since all nodes need the same, got {pin.text}"
                )


def _check_package(installation: Installation, wanted: Requirement) -> None:
    pins = [pin for pin in installation.pins if pin.name == canonicalize_name(wanted.name)]
    rule = f"{installation.where}: must install {_spoken(wanted)}, as in pyproject.toml"
    if not pins and not installation.may_bring_more:
        raise ConfigError(f"{rule}, no command does" + (" for the head" if installation.is_head else " for workers"))
    for pin in pins:
        if pin.version is None:
            raise ConfigError(f"{rule}, pinned with == so that nodes that start later get the same, got {pin.text}")
        if not wanted.specifier.contains(pin.version, prereleases=True):
            raise ConfigError(f"{rule}, got {pin.text}")
    if pins and (missing := wanted.extras - frozenset().union(*(pin.extras for pin in pins))):
        raise ConfigError(f"{rule}, with [{','.join(sorted(missing))}], got {pins[0].text}")


def check_torch_has_cuda(cluster: Cluster) -> None:
    """A CPU build of torch installs anywhere, but leaves GPUs idle."""
    if not any(node_type.get("resources", {}).get("GPU") for node_type in worker_types(cluster).values()):
        return
    for each in installations(cluster):
        for pin in each.pins if not each.is_head else ():
            if pin.name == "torch" and pin.version is not None and pin.version.endswith("+cpu"):
                raise ConfigError(f"{each.where}: must install a torch build for GPUs, since workers have GPUs, got {pin.text}")


def check_python(cluster: Cluster) -> None:
    """Python must be in the project's range, and the same on all nodes: Ray refuses nodes with another version."""
    wanted = project.python_range()
    first: str | None = None
    for each in installations(cluster):
        for python in each.pythons:
            if not wanted.contains(python):
                raise ConfigError(f"{each.where}: must use Python {wanted}, as in pyproject.toml, got {python}")
            first = first or python
            if python != first:
                raise ConfigError(f"{each.where}: must use the same Python on all nodes, as Ray requires, got {first} and {python}")


def doubt_python(cluster: Cluster) -> Iterator[str]:
    """Yields what could not be checked."""
    for each in installations(cluster):
        if not each.pythons:
            kind = "the head" if each.is_head else "workers"
            yield f"{each.where}: does not name a Python for {kind}, so that of the image must be {project.python_range()}"
            return


def _pins(words: Sequence[str], where: str) -> Iterator[_Pin]:
    previous = ""
    for word in words:
        if set(word) & set("<>") and not re.search(r"\w", word):  # what the shell redirects
            return
        if not word.startswith("-") and previous not in WITH_VALUE and not _is_source(word):
            yield _pin(word, where)
        previous = word


def _is_source(word: str) -> bool:
    """Whether it is a folder, archive or repository, so that the command does not name the packages."""
    if word.startswith("-") or WHEEL.fullmatch(word) or " @ " in word:
        return False
    return word.startswith((".", "/", "~", "$")) or "://" in word or "/" in word


def _pin(word: str, where: str) -> _Pin:
    if wheel := WHEEL.fullmatch(word):
        extras = frozenset(extra.strip() for extra in (wheel["extras"] or "").split(",") if extra.strip())
        return _Pin(word, canonicalize_name(wheel["name"]), wheel["version"], extras)
    try:
        requirement = Requirement(word)
    except InvalidRequirement as error:
        raise ConfigError(f"{where}: {word!r} cannot be parsed as a requirement, write its version out") from error
    exact = EXACT.fullmatch(str(requirement.specifier))
    return _Pin(word, canonicalize_name(requirement.name), exact["version"] if exact else None, frozenset(requirement.extras))


def _spoken(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    rules = sorted(map(str, requirement.specifier), reverse=True)  # >= before <
    return f"{requirement.name}{extras}{','.join(rules)}"
