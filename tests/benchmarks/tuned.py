"""Is the search worth it? Its choice against the published weights, with the same budget, under seeds that the search has not seen.

``python -m tests.benchmarks.tuned`` runs the study of each method, blind, then runs the chosen point and the published one with
three other seeds. It prints one table per method, as in docs/results.md.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.support.command_line import run_cli
from tuning.launch import Journal, replay_events
from tuning.results import launch_from_journal
from tuning.study import load_study

ROOT = Path(__file__).parents[2]
SEEDS = [1, 2, 3]
PUBLISHED, TUNED = "published", "tuned"


def chosen_point(method: str, folder: Path, overrides: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Search blind -> the published point and the chosen one."""
    file = ROOT / "search_spaces" / f"{method}.yaml"
    _run("sweep", file, *overrides, folder=folder)
    study = load_study(file, [word for word in overrides if word != "--set"])
    journal = Journal(folder / "runs" / study.name)
    chosen = launch_from_journal(journal.events(), study.name).chosen
    assert chosen is not None, "no trial has a result"
    trials = replay_events(journal.events(), metric=study.metric).trials
    return study.first_point, trials[chosen.number].point


def compare(method: str, points: dict[str, dict[str, Any]], folder: Path, overrides: list[str]) -> str:
    """Run both points with each seed, to the end -> the table that compares them."""
    paths = list(points[PUBLISHED])
    study = {
        "name": f"{method}-tuned",
        "scale": "digits",
        "config": {"method": method},
        "space": {path: {"choice": [points[PUBLISHED][path], points[TUNED][path]]} for path in paths} | {"seed": {"choice": SEEDS}},
        "start": list(points.values()),
        "search": {"sampler": "grid"},
        "prune": {"scheduler": "none"},
    }
    file = folder / f"{method}.yaml"
    file.write_text(yaml.safe_dump(study))
    scales = folder / "scales"
    if not scales.exists():
        scales.symlink_to(ROOT / "search_spaces" / "scales")
    _run("sweep", file, *overrides, folder=folder)
    return _run("report", file, "--by", paths[0], folder=folder)


def _run(*arguments: str | Path, folder: Path) -> str:
    done = run_cli(*arguments, cwd=folder, timeout=3600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", default=["cpsc", "pre_dfkd"])
    parser.add_argument("--set", action="append", default=[], help="settings of all studies, as in cpsc-tune")
    options = parser.parse_args()
    overrides = [word for assignment in options.set for word in ("--set", assignment)]
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        for method in options.methods:
            published, tuned = chosen_point(method, folder, overrides)
            print(f"{method}: chosen {', '.join(f'{name} {value:.4g}' for name, value in tuned.items())}", flush=True)
            if tuned == published:
                print(f"{method}: the search chose the published point", flush=True)
                continue
            print(compare(method, {PUBLISHED: published, TUNED: tuned}, folder, overrides), flush=True)


if __name__ == "__main__":
    main()
