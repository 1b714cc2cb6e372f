"""Training on a busy machine: how PyTorch's threads should wait for each other.

``python -m tests.benchmarks.busy_machine`` trains the digits study's teacher network for some seconds, each time in its own
process, with several settings of OpenMP in turn, alone and beside processes that occupy the cores. It prints medians over rounds
with quartiles: steps per second relative to OpenMP's default on the same number of threads, processor time per step, and whether
the weights are the same.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cpsc.processors import num_processors
from tests.benchmarks.own_process import in_a_process
from tuning.process_settings import variables

DEFAULT = "as OpenMP does"
COMPARED_AFTER = 3
"""Steps after which the weights are compared."""
MIN_STEPS = 5


def ways(threads: int) -> dict[str, dict[str, str]]:
    """The settings to compare, by name, as environment variables."""
    return {
        DEFAULT: {"OMP_NUM_THREADS": str(threads)},
        "passive": {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"},
        "little spinning": {"OMP_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": "1000"},
        "one thread": {"OMP_NUM_THREADS": "1"},
    }


def train(seconds: float) -> dict[str, Any]:
    """Train the network for `seconds` -> steps per second, processor time per step, and a digest of the weights."""
    import torch
    from torch.nn import functional as F

    from cpsc.device import autocast, resolve_precision
    from cpsc.models import build_model

    torch.manual_seed(0)
    device = torch.device("cpu")
    computing = autocast(resolve_precision("auto", device), device)
    network = build_model("wrn_16_1", num_classes=10, channels=1).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    images, labels = torch.rand(64, 1, 16, 16), torch.randint(10, (64,))

    def step() -> None:
        optimizer.zero_grad()
        with computing():
            logits = network(images).logits
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    for _ in range(COMPARED_AFTER):
        step()
    weights = b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())
    started, used, steps = time.perf_counter(), time.process_time(), 0
    while steps < MIN_STEPS or time.perf_counter() - started < seconds:
        step()
        steps += 1
    elapsed, used = time.perf_counter() - started, time.process_time() - used
    return {"steps_per_s": steps / elapsed, "cpu_ms": 1000 * used / steps, "weights": hashlib.sha256(weights).hexdigest()}


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Run `count` processes that only keep a core busy, until the block ends."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure(rounds: int, seconds: float, threads: int, beside: int) -> dict[str, list[dict[str, Any]]]:
    """The runs of each setting; every round runs each setting once, one after another."""
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _ in range(rounds):
        for name, environment in ways(threads).items():
            with busy_loops(beside), variables(environment):
                runs[name].append(in_a_process(__name__ if __name__ != "__main__" else __spec__.name, "--train", seconds))
    return runs


def table(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """One line per setting."""
    lines = []
    for name, found in runs.items():
        ratios = [run["steps_per_s"] / own["steps_per_s"] for run, own in zip(found, runs[DEFAULT], strict=True)]
        same = {run["weights"] for run in found} == {run["weights"] for run in runs[DEFAULT]}
        low, middle, high = quartiles(ratios)
        steps, cpu = (statistics.median(run[key] for run in found) for key in ("steps_per_s", "cpu_ms"))
        lines.append(
            f"| {name} | {steps:.1f} | {middle:.2f} ({low:.2f} to {high:.2f}) | {cpu:.1f} | {'the same' if same else 'others'} |"
        )
    return lines


def quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=num_processors())
    parser.add_argument("--beside", type=int, default=num_processors(), help="number of processes that occupy the cores")
    parser.add_argument("--train", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train is not None:
        print(json.dumps(train(args.train)))
        return
    for beside in (0, args.beside):
        print(f"\n{args.threads} threads beside {beside} busy processes; load {os.getloadavg()[0]:.1f} before\n", flush=True)
        print("| waiting | steps/s | against OpenMP's own way | processor ms a step | weights |\n|---|---|---|---|---|")
        print("\n".join(table(measure(args.rounds, args.seconds, args.threads, beside))), flush=True)


if __name__ == "__main__":
    main()
