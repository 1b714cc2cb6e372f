"""How fast a training iteration is, compared with a plain implementation of Algorithm 1 and with the processor's peak.

``python -m tests.benchmarks.step`` runs all variants in turn, round after round in one process, so that other load on the machine
affects them alike, and prints a table as in docs/speed.md: medians over rounds, with quartiles. With ``--profile`` it shows
instead where an iteration in bf16 spends its time, and how close its convolutions come to the processor's peak.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from cpsc.config import DistillConfig, ScheduleConfig, StudentConfig
from cpsc.cost import count_macs
from cpsc.data.dataset import Normalisation
from cpsc.distiller import Distiller
from cpsc.generator import build_generator
from cpsc.models import build_model
from cpsc.rng import seeded_init
from cpsc.teacher import Teacher
from tests.benchmarks.algorithm1 import PlainLoop
from tuning.trial.environment import processor_name

NORMALISATION = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CLASSES, CHANNELS, SIZE = 10, 3, 32
PEAK_SIZE, PEAK_REPEATS = 2048, 20
BASELINE = "plain loop, fp32"


@dataclass(frozen=True)
class Pair:
    """A pair of teacher and student from the papers' tables."""

    teacher: str
    student: str
    batch_size: int


PAIRS = {"wrn": Pair("wrn_40_2", "wrn_16_2", 64), "resnet": Pair("resnet34", "resnet18", 32)}


def sound_teacher(arch: str) -> Teacher:
    """An untrained network whose batch norms have statistics of their inputs, so that no term explodes."""
    with seeded_init(0, "benchmark"):
        network = build_model(arch, num_classes=CLASSES, channels=CHANNELS).train()
        with torch.no_grad():
            for _ in range(20):
                network(torch.randn(16, CHANNELS, SIZE, SIZE))
    return Teacher(
        arch=arch,
        class_names=tuple(map(str, range(CLASSES))),
        channels=CHANNELS,
        image_size=SIZE,
        normalisation=NORMALISATION,
        dataset="noise",
        test_accuracy=None,
        state=network.state_dict(),
    )


def config_of(pair: Pair, batch_size: int) -> DistillConfig:
    """The paper's schedule, with one iteration per epoch."""
    schedule = ScheduleConfig(iterations=1, batch_size=batch_size)
    return DistillConfig(epochs=100_000, student=StudentConfig(arch=pair.student), schedule=schedule)


def variants_of(pair: Pair, batch_size: int, device: torch.device, names: list[str]) -> dict[str, Callable[[], object]]:
    """Functions that run one iteration, by name of the variant."""
    teacher, config = sound_teacher(pair.teacher), config_of(pair, batch_size)

    def ours(**changes: object) -> Callable[[], object]:
        return Distiller(replace(config, **changes), teacher, device=device).run_epoch  # type: ignore[arg-type]

    plain = PlainLoop(config, teacher, device)
    known: dict[str, Callable[[], Callable[[], object]]] = {
        BASELINE: lambda: lambda: plain.run(1),
        "fp32": lambda: ours(precision="fp32"),
        "bf16": lambda: ours(precision="bf16"),
        "bf16, compiled": lambda: ours(precision="bf16", compile=True),
    }
    return {name: make() for name, make in known.items() if not names or name in names or name == BASELINE}


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def needed_macs(pair: Pair, config: DistillConfig) -> int:
    """Multiply-adds of convolutions and linear layers that the losses of one iteration need, per image of a batch.

    Generator step: forward and gradients to the images through both networks, all of the generator's. Student step: images
    and teacher forward, all of the student's.
    """
    with torch.device("meta"):
        teacher, student = (
            count_macs(build_model(arch, num_classes=CLASSES, channels=CHANNELS), CHANNELS, SIZE)
            for arch in (pair.teacher, pair.student)
        )
    generator = generator_macs(config)
    schedule = config.schedule
    in_generator_step = 2 * teacher + 2 * student + 3 * generator
    in_student_step = generator + teacher + 3 * student
    return schedule.generator_steps * in_generator_step + schedule.student_steps * in_student_step


def generator_macs(config: DistillConfig) -> int:
    """Multiply-adds of one image."""
    generator = build_generator(
        config.generator, num_classes=CLASSES, channels=CHANNELS, image_size=SIZE, normalisation=NORMALISATION
    )
    total = generator.project.weight.numel()
    for layer, side in ((generator.conv1, SIZE // 2), (generator.conv2, SIZE), (generator.to_image, SIZE)):
        total += layer.weight.numel() * side * side
    return total


def matmul_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Multiply-adds per second of a large square matrix product, the best of several."""
    a, b = (torch.randn(PEAK_SIZE, PEAK_SIZE, device=device).to(dtype) for _ in range(2))
    best = min(seconds(lambda: a @ b, device) for _ in range(PEAK_REPEATS))
    return PEAK_SIZE**3 / best


def measure(pair: Pair, *, rounds: int, batch_size: int, device: torch.device, names: list[str]) -> str:
    """Rows of the table, one per variant."""
    config = config_of(pair, batch_size)
    variants = variants_of(pair, batch_size, device, names)
    for run in variants.values():
        seconds(run, device)  # the first round chooses algorithms, and compiles
    times: dict[str, list[float]] = {name: [] for name in variants}
    peaks: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(rounds):
        for name, run in variants.items():
            times[name].append(seconds(run, device))
        for dtype, found in peaks.items():
            found.append(matmul_peak(dtype, device))
    images = batch_size * (config.schedule.generator_steps + config.schedule.student_steps)
    macs = batch_size * needed_macs(pair, config)
    rows = []
    for name, taken in times.items():
        ratios = [plain / one for plain, one in zip(times[BASELINE], taken, strict=True)]
        peak = statistics.median(peaks[torch.float32 if "fp32" in name else torch.bfloat16])
        median = statistics.median(taken)
        low, _, high = statistics.quantiles(ratios, n=4) if rounds > 1 else (ratios[0],) * 3
        rows.append(
            f"| {pair.teacher} → {pair.student}, batch {batch_size} | {name} | {images / median:.0f} "
            f"| {statistics.median(ratios):.2f} ({low:.2f}-{high:.2f}) | {macs / median / peak:.0%} |"
        )
    return "\n".join(rows)


KINDS = {
    "convolutions": ("mkldnn_convolution", "convolution"),
    "batch norms": ("batch_norm", "var_mean"),
    "activations": ("leaky_relu", "relu", "threshold", "tanh", "sigmoid"),
    "sums": ("aten::add", "aten::add_"),
    "resizing": ("upsample",),
    "copies": ("copy_", "aten::cat", "aten::fill_", "aten::zero_"),
    "matrix products": ("mm", "linear"),
    "optimizers": ("_foreach", "_fused"),
}
"""Kinds of operators, by parts of their names; the first match counts."""


def profiled(pair: Pair, *, rounds: int, batch_size: int, device: torch.device) -> str:
    """A table of the time of an iteration in bf16 by kind of operator, and the share of the peak that its convolutions reach."""
    config = config_of(pair, batch_size)
    run = variants_of(pair, batch_size, device, ["bf16"])["bf16"]
    seconds(run, device)
    with torch.profiler.profile() as profile:
        for _ in range(rounds):
            run()
    spent: dict[str, float] = {}
    for event in profile.key_averages():
        if event.key.startswith(("aten::", "mkldnn::", "torch_")):
            kind = next((kind for kind, parts in KINDS.items() if any(part in event.key for part in parts)), "all else")
            spent[kind] = spent.get(kind, 0.0) + event.self_cpu_time_total / 1e6 / rounds
    total = sum(spent.values())
    reached = batch_size * needed_macs(pair, config) / spent["convolutions"] / matmul_peak(torch.bfloat16, device)
    rows = [f"| {kind} | {taken / total:.1%} |" for kind, taken in sorted(spent.items(), key=lambda item: -item[1])]
    head = f"| {pair.teacher} → {pair.student}, batch {batch_size} | share of an iteration |\n|---|---|"
    return "\n".join([head, *rows, f"\nIts convolutions reach {reached:.0%} of the matmul peak.\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, help="batch size, instead of each pair's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--variants", nargs="*", default=[], help="run only these variants, besides the plain loop")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{processor(device)}, {args.threads} threads, {versions}, n = {args.rounds}")
    if args.profile:
        for pair in map(PAIRS.__getitem__, args.pairs):
            print(profiled(pair, rounds=args.rounds, batch_size=args.batch_size or pair.batch_size, device=device), flush=True)
        return
    print("| pair | loop | images/s | times the plain loop (quartiles) | of the matmul peak |")
    print("|---|---|---|---|---|")
    for pair in map(PAIRS.__getitem__, args.pairs):
        print(
            measure(pair, rounds=args.rounds, batch_size=args.batch_size or pair.batch_size, device=device, names=args.variants),
            flush=True,
        )


def processor(device: torch.device) -> str:
    """The hardware's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()


if __name__ == "__main__":
    main()
