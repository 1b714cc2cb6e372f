"""What a prior in the wrong place costs: simulated sweeps of the digits study, whose priors have their centres at bad trials.

``python -m tests.benchmarks.wrong_prior`` gives the study the values of a bad trial as its own, which sampler ``prior`` then starts
from, and prints how many epochs it takes to become as good as TPE, relative to TPE. Nothing is trained; it takes four minutes.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from tests.support.studies import ROOT
from tuning.simulation.arms import Arm
from tuning.simulation.comparison import ArmRun, Comparison
from tuning.simulation.lookup import CurveLookup
from tuning.simulation.record import Record, RecordedCurves
from tuning.study import load_study
from tuning.study.nested_keys import Point, set_path
from tuning.study.yaml_loader import dump_yaml, load_yaml

STUDY = ROOT / "search_spaces" / "digits.yaml"
RECORD = ROOT / "tests" / "recorded" / "digits.parquet"
PAIRS = (("tpe", "prior"), ("tpe+asha", "prior+asha"))
EPOCHS, WORKERS = 144, 2


def with_own_values(point: Point, folder: Path) -> Path:
    """A copy of the digits study in `folder` whose own values, where its prior has its centre, are those of `point`."""
    study = load_yaml(STUDY.read_text())
    for path, value in point.items():
        set_path(study["config"], path, value)
    study["start"] = []
    file = folder / STUDY.name
    file.write_text(dump_yaml(study))
    return file


def ratio(record: Record, study: Path, pair: tuple[str, str], *, neighbours: int, seeds: int) -> float:
    """Median number of epochs that the pair's second arm takes to be as good as the first at its end, relative to the first's."""
    studies = {arm: arm.load(study, []) for arm in map(Arm.parse, pair)}
    lookup = CurveLookup(record, load_study(study).space, neighbours=neighbours)
    comparison = Comparison(record, lookup, epochs=EPOCHS, workers=WORKERS, objective=record.objective)
    target, wrong = comparison.run(studies, range(1, seeds + 1)).values()
    return median_epochs(wrong) / median_epochs(target)


def median_epochs(runs: list[ArmRun]) -> float:
    return statistics.median(run.epochs for run in runs)


def from_worst(record: Record) -> list[RecordedCurves]:
    """The trials in ascending order of the objective at their chosen epoch; diverged ones, which have none, are left out."""
    scores = [(score, trial) for trial in record.trials if (score := trial.at_best(record.objective, record.objective)) is not None]
    return [trial for _, trial in sorted(scores, key=lambda pair: (pair[0], pair[1].number))]


def ratios(
    record: Record, centres: Sequence[RecordedCurves], pair: tuple[str, str], *, neighbours: int, seeds: int
) -> Iterator[float]:
    """The ratio for a prior centred on each of these trials."""
    for trial in centres:
        with tempfile.TemporaryDirectory(prefix="cpsc-bench-") as folder:
            study = with_own_values(trial.point, Path(folder))
            yield ratio(record, study, pair, neighbours=neighbours, seeds=seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--centres", type=int, default=10, help="number of priors, one centred on each of the worst trials")
    parser.add_argument("--neighbours", type=int, nargs="+", default=[5, 1])
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    record = Record.load(options.record)
    worst = from_worst(record)[: options.centres]
    accuracies = (trial.at_best("test_accuracy", record.objective) or 0.0 for trial in worst)
    print("ratios by the test accuracy of the trial that the prior is centred on\n")
    print(f"| arms | neighbours | median | {' | '.join(f'{accuracy:.1%}' for accuracy in accuracies)} |")
    print("|---" * (len(worst) + 3) + "|")
    for pair, count in product(PAIRS, options.neighbours):
        found = list(ratios(record, worst, pair, neighbours=count, seeds=options.seeds))
        cells = " | ".join(f"{value:.2f}" for value in (statistics.median(found), *found))
        print(f"| {pair[1]} against {pair[0]} | {count} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
