"""Cost of teacher and student, as parameters of a run: trainable values, multiply-adds per image, bytes, milliseconds."""

import functools
import statistics
import time

import torch
from torch import nn

from cpsc.cost import count_macs, count_parameters
from cpsc.metrics import evaluating
from cpsc.models import build_model, shapes_alone
from cpsc.teacher import Teacher

Cost = dict[str, int]
WARM_UP, PASSES = 3, 15


def teacher_cost(teacher: Teacher) -> Cost:
    """The teacher's cost, under ``teacher.*``."""
    return _cost("teacher", teacher.build_untrained(), teacher.channels, teacher.image_size)


def student_cost(teacher: Teacher, arch: str) -> Cost:
    """The cost of a student `arch` for the teacher's images and classes, under ``student.*``; bytes are those of its weights."""
    return dict(_cached_student_cost(arch, teacher.num_classes, teacher.channels, teacher.image_size))


@functools.cache
def _cached_student_cost(arch: str, num_classes: int, channels: int, image_size: int) -> Cost:
    with shapes_alone():
        network = build_model(arch, num_classes=num_classes, channels=channels)
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    return _cost("student", network, channels, image_size) | {"student.bytes": size}


def student_latency_ms(teacher: Teacher, arch: str) -> float:
    """Milliseconds that a student `arch` takes for one image on one thread of this machine's CPU: the median of several passes."""
    network = build_model(arch, num_classes=teacher.num_classes, channels=teacher.channels)
    image = torch.zeros(1, teacher.channels, teacher.image_size, teacher.image_size)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with evaluating(network), torch.no_grad():
            return 1000 * statistics.median([_seconds(network, image) for _ in range(WARM_UP + PASSES)][WARM_UP:])
    finally:
        torch.set_num_threads(threads)


def _seconds(network: nn.Module, image: torch.Tensor) -> float:
    started = time.perf_counter()
    network(image)
    return time.perf_counter() - started


def _cost(role: str, network: nn.Module, channels: int, image_size: int) -> Cost:
    return {f"{role}.parameters": count_parameters(network), f"{role}.macs": count_macs(network, channels, image_size)}
