"""Is a population worth it? Population based training against TPE with ASHA on digits, blind, with the same number of epochs.

``python -m tests.benchmarks.population`` runs both with several seeds, starting from the published values. The population of
`search_spaces/ablations/population.yaml` runs all its epochs; TPE with ASHA proposes trials until it has run as many.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.command_line import run_cli
from tuning.launch import Journal
from tuning.results import launch_from_journal
from tuning.study import load_study

STUDY = Path(__file__).parents[2] / "search_spaces" / "ablations" / "population.yaml"


class Found(NamedTuple):
    """What a sweep chose without labels, and what it cost."""

    test_accuracy: float
    regret: float
    epochs: int
    seconds: float


def sweep(folder: Path, name: str, settings: list[str]) -> Found:
    """Run the study under another name."""
    words: list[Any] = [word for assignment in (f"name={name}", *settings) for word in ("--set", assignment)]
    done = run_cli("sweep", STUDY, "--quiet", *words, cwd=folder, timeout=3600)
    assert done.returncode == 0, done.stderr
    events = list(Journal(folder / "runs" / name).events())
    launch = launch_from_journal(events, name)
    assert launch.chosen is not None
    accuracy = launch.chosen.at_best("test_accuracy", launch.objective)
    return Found(accuracy or 0.0, launch.regret() or 0.0, launch.epochs_run, events[-1].time - events[0].time)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="settings", help="as in cpsc-tune sweep")
    options = parser.parse_args()
    study = load_study(STUDY, options.settings)
    budget = study.search.num_trials * study.config.epochs
    as_asha = ["prune={scheduler: asha}", "search.sampler=tpe", f"search.num_trials={budget}", f"search.epoch_budget={budget}"]
    print("| seed | population: test accuracy, regret, epochs, time | TPE + ASHA: the same |")
    print("|---|---|---|")
    better = []
    with tempfile.TemporaryDirectory() as path:
        for seed in options.seeds:
            settings = [*options.settings, f"search.seed={seed}"]
            both = [sweep(Path(path), f"{name}-{seed}", settings + own) for name, own in (("pbt", []), ("asha", as_asha))]
            cells = [f"{one.test_accuracy:.2%}, {one.regret:.2%}, {one.epochs}, {one.seconds:.0f} s" for one in both]
            print(f"| {seed} | {' | '.join(cells)} |", flush=True)
            better.append(both[0].test_accuracy - both[1].test_accuracy)
    print(f"test accuracy of the population's choice above ASHA's, mean over seeds: {100 * statistics.fmean(better):.2f} points")


if __name__ == "__main__":
    main()
