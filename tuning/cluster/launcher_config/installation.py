"""Setup commands of each kind of node: Ray, what the project needs, and on which Python."""

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
"""Flags of `pip install` and `uv pip install` that the next word belongs to."""
OPENS = frozenset({"-r", "--requirement", "-e", "--editable"})
OTHER_INSTALLERS = frozenset({"conda", "mamba", "micromamba", "poetry", "pdm", "pixi", "uv"})
PYTHONS = (
    re.compile(r"(?<![\w.])(?:python|pip)[=@]{0,2}(\d)\.(\d+)"),  # python3.12-venv, pip3.12, python=3.12
    re.compile(r"--python[ =](?:python)?(\d)\.(\d+)"),
    re.compile(r"-cp(\d)(\d+)-cp"),  # of a wheel
)


@dataclass(frozen=True)
class _Pin:
    """A package that a command installs, and the version if it is one."""

    text: str
    name: str
    version: str | None
    extras: frozenset[str]


@dataclass(frozen=True)
class Installation:
    """What one kind of node gets: where that is written, its setup commands, and docker's image."""

    where: str
    commands: Sequence[str]
    image: str | None
    is_head: bool = False

    @cached_property
    def pins(self) -> list[_Pin]:
        """Of all `pip install`, in order."""
        return [pin for words in self._pip_words for pin in _pins(words, self.where)]

    @cached_property
    def may_bring_more(self) -> bool:
        """Whether packages come from elsewhere too: an image, the project itself, a requirements file, another installer."""
        words = [word for command in self.commands for words in simple_commands(command, self.where) for word in words]
        names = {PurePosixPath(word).name for word in words}
        by_file = any(word in OPENS or _is_source(word) for words in self._pip_words for word in words)
        without_pip = bool(names & OTHER_INSTALLERS) and not self._pip_words
        itself = any(pin.name == project.NAME for pin in self.pins)
        return self.image is not None or by_file or without_pip or itself

    @cached_property
    def pythons(self) -> list[str]:
        """Versions that commands or the image's tag name, each once."""
        found = [match for command in self.commands for pattern in PYTHONS for match in pattern.finditer(command)]
        named = [f"{match[1]}.{match[2]}" for match in found]
        return list(dict.fromkeys([*named, *image_tag.pythons(self.image or "")]))

    @cached_property
    def _pip_words(self) -> list[list[str]]:
        """What stands after ``pip install``."""
        found = []
        for command in self.commands:
            if re.search(r"\bpip", command):
                for words in simple_commands(command, self.where):
                    if "install" in words and any(PIP.fullmatch(PurePosixPath(word).name) for word in words):
                        found.append(words[words.index("install") + 1 :])
        return found


def installations(cluster: Cluster) -> Iterator[Installation]:
    """Of the head and of every type of worker."""
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
    """A client and nodes of different versions do not talk to each other."""
    rule = f"must install ray=={version('ray')}, the version here"
    for each in installations(cluster):
        pins = [pin for pin in each.pins if pin.name == "ray"]
        for pin in pins:
            if pin.version != version("ray"):
                raise ConfigError(f"{each.where}: {rule}, got {pin.text}")
        if not pins and each.image is None:
            raise ConfigError(f"{each.where}: {rule}, no command does")
        if not pins and each.image is not None and image_tag.ray_version(each.image) != version("ray"):
            raise ConfigError(f"{each.where}: {rule}, or docker's image must carry it in its tag, got {each.image}")


def check_packages(cluster: Cluster) -> None:
    """Every node has what the project needs, within its ranges, and all have the same."""
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
                raise ConfigError(f"{each.where}: must install {other.text} as {where} does, all nodes the same, got {pin.text}")


def _check_package(installation: Installation, wanted: Requirement) -> None:
    pins = [pin for pin in installation.pins if pin.name == canonicalize_name(wanted.name)]
    rule = f"{installation.where}: must install {_spoken(wanted)}, as pyproject.toml has it"
    if not pins and not installation.may_bring_more:
        raise ConfigError(f"{rule}, no command does" + (" for the head" if installation.is_head else " for workers"))
    for pin in pins:
        if pin.version is None:
            raise ConfigError(f"{rule}, pinned by == so that all nodes have the same however late they start, got {pin.text}")
        if not wanted.specifier.contains(pin.version, prereleases=True):
            raise ConfigError(f"{rule}, got {pin.text}")
    if pins and (missing := wanted.extras - frozenset().union(*(pin.extras for pin in pins))):
        raise ConfigError(f"{rule}, with {' and '.join(sorted(missing))} in its brackets, got {pins[0].text}")


def check_torch_has_cuda(cluster: Cluster) -> None:
    """A build for CPUs installs anywhere and leaves a GPU idle."""
    if not any(node_type.get("resources", {}).get("GPU") for node_type in worker_types(cluster).values()):
        return
    for each in installations(cluster):
        for pin in each.pins if not each.is_head else ():
            if pin.name == "torch" and pin.version is not None and pin.version.endswith("+cpu"):
                raise ConfigError(f"{each.where}: must install a build of torch for GPUs, which workers have, got {pin.text}")


def check_python(cluster: Cluster) -> None:
    """The project's, and one on all nodes: Ray takes no node of another."""
    wanted = project.python_range()
    first: str | None = None
    for each in installations(cluster):
        for python in each.pythons:
            if not wanted.contains(python):
                raise ConfigError(f"{each.where}: must use Python {wanted}, as pyproject.toml has it, got {python}")
            first = first or python
            if python != first:
                raise ConfigError(f"{each.where}: must use one Python on all nodes, which Ray demands, got {first} and {python}")


def doubt_python(cluster: Cluster) -> Iterator[str]:
    """What could not be checked."""
    for each in installations(cluster):
        if not each.pythons:
            kind = "the head" if each.is_head else "workers"
            yield f"{each.where}: names no Python for {kind}, that of its image must be {project.python_range()}"
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
    """Whether it is a folder, an archive or a repository, whose packages the command does not name."""
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
        raise ConfigError(f"{where}: {word!r} is no requirement that can be read here, write its version out") from error
    exact = EXACT.fullmatch(str(requirement.specifier))
    return _Pin(word, canonicalize_name(requirement.name), exact["version"] if exact else None, frozenset(requirement.extras))


def _spoken(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    rules = sorted(map(str, requirement.specifier), reverse=True)  # >= before <
    return f"{requirement.name}{extras}{','.join(rules)}"
