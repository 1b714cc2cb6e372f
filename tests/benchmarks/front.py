"""Pareto fronts of a search over students compared with an exhaustive grid, and a search with a cost limit.

``python -m tests.benchmarks.front`` runs every student of `STUDENTS` on digits, then a search that draws among them, and prints
both fronts; then it repeats the search with a limit on multiply-adds. A trial takes as long as in `make sweep`.
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuning import load_study, run_study
from tuning.results import Launch
from tuning.results.front import COSTS, FrontStudent, front_of

STUDENTS = ["wrn_10_1", "wrn_16_1", "wrn_10_2", "resnet8", "resnet20", "shufflenet_v2_x0_5"]
NAME_OF_A_COST = "macs"
COUNTED = [cost for cost in COSTS if cost != "latency_ms"]
"""Costs to compare; latency is left out because it differs from run to run."""


def searched(folder: Path, name: str, overrides: Mapping[str, Any]) -> Launch:
    """A launch of the digits study over `STUDENTS`, at its published weights."""
    settings = {
        "name": name,
        "storage": str(folder),
        "space": f"{{student.arch: {{choice: [{', '.join(STUDENTS)}]}}}}",
        "start": "[]",
        "prune.scheduler": "none",
    }
    study = load_study("digits", [f"{path}={value}" for path, value in (settings | dict(overrides)).items()])
    return run_study(study, quiet=True).launch


def front(launch: Launch, cost: str) -> list[str]:
    """Names of the students on the Pareto front of `cost`."""
    return [student.arch for student in front_of(launch) if cost in student.on]


def exhaustive_front(students: list[FrontStudent], cost: str) -> list[str]:
    """The front by its definition: from the cheapest on, each student that is better than all before."""
    found: list[str] = []
    best = -1.0
    for student in sorted(students, key=lambda student: (student.costs[cost], -student.score)):
        if student.score > best:
            found.append(student.arch)
            best = student.score
    return found


def main() -> None:
    """Run the three launches and compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-trials", type=int, default=18, help="trials of each search")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    options = parser.parse_args()
    own = dict(setting.split("=", 1) for setting in options.set)
    with tempfile.TemporaryDirectory() as folder:
        grid = searched(Path(folder), "grid", own | {"search": "{sampler: grid, seed: 0}"})
        search = searched(Path(folder), "search", own | {"search.num_trials": options.num_trials})
        students = front_of(grid)
        print("| student | multiply-adds | parameters | bytes | score | test accuracy |\n|---|---|---|---|---|---|")
        for student in students:
            counted = " | ".join(f"{student.costs[cost]:,.0f}" for cost in COUNTED)
            accuracy = student.trial.at_best("test_accuracy", grid.objective) or 0.0
            print(f"| {student.arch} | {counted} | {100 * student.score:.2f} % | {100 * accuracy:.2f} % |")
        for cost in COUNTED:
            whole = exhaustive_front(students, cost)
            print(f"{cost}: grid {front(grid, cost)}, by definition {whole}, search {front(search, cost)}")
        limit = students[len(students) // 2 - 1].costs[NAME_OF_A_COST]
        limits = {"search.limits": f"{{student.{NAME_OF_A_COST}: {limit}}}", "search.num_trials": options.num_trials}
        limited = searched(Path(folder), "limited", own | limits)
        left = {student.arch: student.costs[NAME_OF_A_COST] for student in front_of(limited)}
        beyond = [arch for arch, spent in left.items() if spent > limit]
        print(f"at most {limit:,.0f} multiply-adds: {len(limited.trials)} trials of {list(left)}, beyond: {beyond}")


if __name__ == "__main__":
    main()
