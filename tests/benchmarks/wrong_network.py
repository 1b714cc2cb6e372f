"""The margin of the check that weights fit their network's batch norms: ``python -m tests.benchmarks.wrong_network --help``.

Every named network is trained briefly, and its weights are then examined in the network itself and in all others with the same
keys and shapes. The right network must be accepted and wrong ones refused; the last lines show how far apart the two are. Accepted
means what a sweep accepts when that network is named: it fits, and no other fits far better.
"""

import argparse
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cpsc.data import DatasetConfig, load_dataset
from cpsc.data.dataset import Dataset, Split
from cpsc.misfit import Verdict, examine_variants, fitting
from cpsc.teacher import Teacher
from cpsc.teacher_training import TeacherRecipe, train_teacher

CPU = torch.device("cpu")
SMALL = (
    "wrn_10_1",
    "wrn_10_1-stem_stride_2",
    "wrn_16_2",
    "wrn_16_2-stem_stride_2",
    "resnet18-max_pool",
    "mobilenet_v2",
    "mobilenet_v2-stage_2_stride_1",
    "vgg11",
)


@dataclass(frozen=True)
class Examined:
    """One set of weights in one network."""

    trained: str
    loaded: str
    accuracy: float
    verdict: Verdict
    is_accepted: bool
    is_rivalled: bool
    """Whether other networks fit as well."""

    @property
    def is_right(self) -> bool:
        return self.trained == self.loaded

    @property
    def is_judged_right(self) -> bool:
        return self.is_accepted == self.is_right

    @property
    def is_undecided(self) -> bool:
        """Whether the network is neither clearly right nor wrong: that is reported, or asked if several share the keys."""
        return self.is_accepted and (self.verdict.obstacle is not None or self.is_rivalled)

    def __str__(self) -> str:
        factor, distance = (
            "      " if value is None else f"{value:6.3f}" for value in (self.verdict.border_factor, self.verdict.distance)
        )
        judged = "?  " if self.is_undecided else "ok " if self.is_judged_right else "BAD"
        into = "itself" if self.is_right else self.loaded
        fits = "fits, as another does" if self.is_undecided else "fits" if self.is_accepted else "fits, but another fits far better"
        why = (self.verdict.fault or self.verdict.obstacle or fits).partition(" gives it away")[0]
        return f"{judged} {self.trained:32s} {self.accuracy:6.1%}  in {into:46s} factor {factor} distance {distance} {why}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10's Parquet files; default: digits")
    parser.add_argument("--images", type=int, default=10_000, help="number of CIFAR-10 images that teachers are trained on")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="type of the stored weights")
    parser.add_argument("archs", nargs="*", default=SMALL)
    arguments = parser.parse_args()
    dataset = _dataset(arguments.data, arguments.images)
    examined: list[Examined] = []
    for arch in arguments.archs:
        teacher = _trained(arch, dataset, arguments.epochs, getattr(torch, arguments.dtype))
        started = time.perf_counter()
        found = _examined(teacher)
        print(*found, f"    {time.perf_counter() - started:.1f} s", sep="\n", flush=True)
        examined += found
    _print_margin(examined)


def _dataset(folder: Path | None, num_images: int) -> Dataset:
    if folder is None:
        return load_dataset(DatasetConfig(name="digits"))
    whole = load_dataset(DatasetConfig(name="cifar10", path=str(folder)))
    train, test = (Split(part.images[:size], part.labels[:size]) for part, size in ((whole.train, num_images), (whole.test, 1000)))
    return replace(whole, train=train, test=test)


def _trained(arch: str, dataset: Dataset, epochs: int, dtype: torch.dtype) -> Teacher:
    recipe = TeacherRecipe(arch=arch, epochs=epochs, batch_size=64, warmup_epochs=1, precision="auto", lr=0.05)
    teacher = train_teacher(recipe, dataset, CPU)
    state = {name: value.to(dtype).float() if value.is_floating_point() else value for name, value in teacher.state.items()}
    return replace(teacher, state=state)


def _examined(teacher: Teacher) -> list[Examined]:
    examined = examine_variants(teacher, CPU)
    fits, accuracy = fitting(examined), teacher.test_accuracy or 0.0
    return [
        Examined(teacher.arch, arch, accuracy, verdict, arch in fits or (verdict.obstacle is not None and not fits), len(fits) > 1)
        for arch, verdict in examined.items()
    ]


def _print_margin(examined: list[Examined]) -> None:
    decided = [one for one in examined if not one.is_undecided]
    right = [one for one in decided if one.is_right]
    wrong = [one for one in decided if not one.is_right]
    refused, accepted = sum(not one.is_judged_right for one in right), sum(not one.is_judged_right for one in wrong)
    print(
        f"{refused} of {len(right)} right ones refused, {accepted} of {len(wrong)} wrong ones accepted, "
        f"{len(examined) - len(decided)} left undecided and asked about"
    )
    factors = [abs(math.log(one.verdict.border_factor)) for one in right if one.verdict.border_factor is not None]
    distances = [one.verdict.distance for one in right if one.verdict.distance is not None]
    print(f"right ones: border factor within {math.exp(max(factors, default=0.0)):.2f} of 1, distance up to {max(distances):.3f}")
    left = [one.verdict for one in wrong if one.verdict.distance is not None]
    told = [one.verdict for one in wrong if one.verdict.distance is None and one.verdict.border_factor is not None]
    by_border = [abs(math.log(verdict.border_factor)) for verdict in told if verdict.border_factor]
    by_distance = [verdict.distance for verdict in left if verdict.distance is not None]
    if by_border:
        print(f"wrong ones told by the border ({len(by_border)}): factor beyond {math.exp(min(by_border)):.2f}")
    if by_distance:
        print(f"wrong ones left to the distance ({len(by_distance)}): from {min(by_distance):.3f}")


if __name__ == "__main__":
    main()
