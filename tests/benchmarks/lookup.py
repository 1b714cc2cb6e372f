"""How looking up points in a record affects a comparison: the same arms on curves that are known at every point.

``python -m tests.benchmarks.lookup`` simulates the digits study on artificial curves, once directly and once looked up in records
of random points, with several numbers of neighbours. A lookup is fair if the arms differ as much as on the curves themselves.
"""

import argparse
import functools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.curves import curves_at, drawn_record
from tuning.simulation.arms import Arm
from tuning.simulation.comparison import ArmRun, Comparison
from tuning.simulation.lookup import CurveLookup
from tuning.simulation.loop import Answer
from tuning.simulation.record import Record, RecordedCurves
from tuning.study import Study, load_study
from tuning.study.nested_keys import Point

STUDY = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"
OVERRIDES = ["start=[]"]
ARMS = ("random", "random+asha", "tpe", "tpe+asha")
EPOCHS, WORKERS = 144, 2


class Counted:
    """Wraps an `Answer` and remembers the numbers of the recorded trials that it returned."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.numbers: set[int] = set()

    def __call__(self, point: Point) -> RecordedCurves:
        found = self._answer(point)
        self.numbers.add(found.number)
        return found


def held(answer: Answer, record: Record, studies: Mapping[Arm, Study], seeds: int) -> list[float]:
    """For each arm, the median over seeds of the final test accuracy, in percent."""
    comparison = Comparison(record, answer, epochs=EPOCHS, workers=WORKERS, objective=record.objective)
    found = comparison.run(studies, range(1, seeds + 1))
    return [_median(runs) for runs in found.values()]


def distinct(answer: Answer, record: Record, arm: Arm, study: Study) -> int:
    """Number of recorded trials that one sweep of `arm` sees."""
    counted = Counted(answer)
    Comparison(record, counted, epochs=EPOCHS, workers=WORKERS, objective=record.objective).run({arm: study}, [1])
    return len(counted.numbers)


def row(name: str, by_record: Sequence[Sequence[float]], seen: str) -> str:
    """Means over records, and mean and range of the last arm's gain over the second."""
    means = [f"{statistics.fmean(column):.1f} %" for column in zip(*by_record, strict=True)]
    gains = [values[3] - values[1] for values in by_record]
    return f"| {name} | {' | '.join(means)} | {statistics.fmean(gains):+.1f} ({min(gains):+.1f} to {max(gains):+.1f}) | {seen} |"


def _median(runs: Sequence[ArmRun]) -> float:
    return 100 * statistics.median(run.test_accuracy for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=5)
    parser.add_argument("--trials", type=int, default=200, help="trials per record")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--neighbours", type=int, nargs="+", default=[1, 2, 3, 5, 10])
    args = parser.parse_args()
    study = load_study(STUDY, OVERRIDES)
    studies = {arm: arm.load(STUDY, OVERRIDES) for arm in map(Arm.parse, ARMS)}
    records = [drawn_record(study, args.trials, seed=seed) for seed in range(args.records)]
    print(f"| curves | {' | '.join(ARMS)} | {ARMS[3]} over {ARMS[1]}, points | recorded trials that {ARMS[1]} and {ARMS[3]} see |")
    print("|---" * (len(ARMS) + 3) + "|")
    exact = held(functools.partial(curves_at, study), records[0], studies, args.seeds)
    print(row("known", [exact], "-"), flush=True)
    for count in args.neighbours:
        lookups = [CurveLookup(record, study.space, neighbours=count) for record in records]
        found = [held(lookup, record, studies, args.seeds) for lookup, record in zip(lookups, records, strict=True)]
        arms = [(arm, studies[arm]) for arm in studies if str(arm) in (ARMS[1], ARMS[3])]
        seen = (
            statistics.median(distinct(lookup, record, *arm) for lookup, record in zip(lookups, records, strict=True))
            for arm in arms
        )
        print(row(f"of {count} nearest", found, " and ".join(f"{number:.0f}" for number in seen)), flush=True)


if __name__ == "__main__":
    main()
