"""Settings that a first study starts from: those of the packaged studies, at the scale closest to the teacher's images."""

from collections.abc import Mapping
from typing import Any

from cpsc.errors import ConfigError
from cpsc.methods import METHODS
from cpsc.models import check_arch, check_image_size
from cpsc.norms import NormSurvey
from cpsc.teacher import Teacher
from tuning.study.near_misses import meant
from tuning.study.nested_keys import merge
from tuning.study.packaged_studies import FOLDER, SCALES
from tuning.study.teacher_fit import STATISTICS
from tuning.study.yaml_loader import read_mapping
from tuning.trial.model_cost import student_cost, teacher_cost

SMALL_SIDE, LARGE_SIDE, MANY_CLASSES = 32, 64, 100
TWO_CORES = "cifar10_two_cores"
AT_TWO_CORES = "cifar10.yaml"
"""The study, of one method, with ranges and steps for photographs and short training."""
SMALLER = ("wrn_16_1", "wrn_10_1", "lenet5_half")
"""Students to use instead of the scale's own if the teacher is hardly larger than that one."""
MUCH_SMALLER = 0.5
"""A student's multiply-adds, at most, as a share of the teacher's."""
IMAGES_A_CLASS = 5
"""Minimum number of probe set images per class."""
OF_THE_DATA = ("dataset", "teacher", "by_method")
Content = dict[str, Any]


def check_known_method(method: str) -> None:
    """Raise ConfigError unless `method` is a built-in one, which has a packaged study to start from."""
    if method not in METHODS:
        guess = meant(method[:40], METHODS)
        hint = f"did you mean {guess}?" if guess else f"use one of {', '.join(METHODS)}"
        raise ConfigError(f"--method: {method[:40]!r} is unknown, {hint}")


def scale_for(teacher: Teacher, *, on_gpu: bool) -> str:
    """The scale in search_spaces/ whose images and compute budget are closest."""
    if teacher.channels == 1 and teacher.image_size <= SMALL_SIDE:
        return "digits"
    if not on_gpu:
        return TWO_CORES
    if teacher.image_size >= LARGE_SIDE:
        return "tiny_imagenet"
    return "cifar100" if teacher.num_classes >= MANY_CLASSES else "cifar10"


def beginnings(teacher: Teacher, norms: NormSurvey, *, method: str, student: str | None, scale: str) -> Content:
    """``config`` (without the teacher), ``space``, ``start``, ``search`` and ``prune`` of a study of `method` at `scale`.

    `student`: name of the network; default: the scale's, or a smaller one. ConfigError if it is unknown or refuses such images.
    """
    of_scale = read_mapping(FOLDER / SCALES / f"{scale}.yaml", keys="config")
    of_method = read_mapping(FOLDER / f"{method}.yaml", keys="config and space")
    special = read_mapping(FOLDER / AT_TWO_CORES, keys="config and space")
    if scale == TWO_CORES and special["config"]["method"] == method:
        of_method = special
    config = _of_method(merge(of_scale["config"], of_method["config"]), method)
    config["student"] = {
        **config["student"],
        "arch": _checked_student(teacher, student or _student(teacher, config["student"]["arch"])),
    }
    config["probe"] = _probe(config.get("probe", {}), teacher.num_classes)
    space = {path: domain for path, domain in of_method["space"].items() if norms.compared or path != STATISTICS}
    start = [{path: value for path, value in point.items() if path in space} for point in of_method["start"]]
    return {"config": config, "space": space, "start": start, "search": of_method["search"], "prune": of_scale["prune"]}


def _of_method(config: Content, method: str) -> Content:
    """`config` with its settings for this method merged in, and without those of the scale's dataset."""
    own = {key: value for key, value in config.items() if key not in OF_THE_DATA}
    return merge(own, config.get("by_method", {}).get(method, {}))


def _student(teacher: Teacher, of_scale: str) -> str:
    """The first student that costs at most half as much as the teacher, or the cheapest."""
    names = [name for name in dict.fromkeys((of_scale, *SMALLER)) if _takes(name, teacher.image_size)]
    costs = {name: student_cost(teacher, name)["student.macs"] for name in names}
    most = MUCH_SMALLER * teacher_cost(teacher)["teacher.macs"]
    return next((name for name in names if costs[name] <= most), min(names, key=costs.__getitem__))


def _takes(arch: str, image_size: int) -> bool:
    try:
        check_image_size(arch, image_size)
    except ConfigError:
        return False
    return True


def _checked_student(teacher: Teacher, arch: str) -> str:
    try:
        check_arch(arch)
        check_image_size(arch, teacher.image_size)
    except ConfigError as error:
        raise ConfigError(f"--student: {error}") from error
    return arch


def _probe(of_scale: Mapping[str, Any], num_classes: int) -> Content:
    """The probe set's settings, with enough images of each class, in whole batches."""
    if not of_scale:
        return {}
    batch, wanted = of_scale["batch_size"], IMAGES_A_CLASS * num_classes
    return {**of_scale, "num_images": max(of_scale["num_images"], -(-wanted // batch) * batch)}
