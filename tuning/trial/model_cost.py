"""Cost of teacher and student, as parameters of a run: trainable values, and multiply-adds an image."""

import functools

from torch import nn

from cpsc.cost import count_macs, count_parameters
from cpsc.models import build_model, shapes_alone
from cpsc.teacher import Teacher

Cost = dict[str, int]


def teacher_cost(teacher: Teacher) -> Cost:
    """Of the teacher, by ``teacher.*``."""
    return _cost("teacher", teacher.build_untrained(), teacher.channels, teacher.image_size)


def student_cost(teacher: Teacher, arch: str) -> Cost:
    """Of a student called `arch` for the teacher's images and classes, by ``student.*``."""
    return dict(_cached_student_cost(arch, teacher.num_classes, teacher.channels, teacher.image_size))


@functools.cache
def _cached_student_cost(arch: str, num_classes: int, channels: int, image_size: int) -> Cost:
    with shapes_alone():
        network = build_model(arch, num_classes=num_classes, channels=channels)
    return _cost("student", network, channels, image_size)


def _cost(role: str, network: nn.Module, channels: int, image_size: int) -> Cost:
    return {f"{role}.parameters": count_parameters(network), f"{role}.macs": count_macs(network, channels, image_size)}
