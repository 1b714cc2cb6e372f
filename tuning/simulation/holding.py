"""The student that a sweep holds, moment by moment, chosen blind: what a search is worth is when it first held a good one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tuning.launch.events import Epoch, Event, TrialEnd
from tuning.outcome import Outcome


@dataclass(frozen=True)
class Held:
    """From here on the sweep holds a student of that test accuracy: after so many `epochs` of all trials, and `seconds`."""

    epochs: int
    seconds: float
    test_accuracy: float


@dataclass(frozen=True)
class _Student:
    """The best of a trial so far, by what is seen without labels."""

    score: tuple[float, float]
    """The objective, and of equal ones the lower probe KL."""
    test_accuracy: float


def held_students(events: Iterable[Event], objective: str) -> list[Held]:
    """Each change of the held student, oldest first.

    Held is the highest `objective` of all trials so far; a trial that diverges has no student, as in a launch's choice.
    """
    best: dict[int, _Student] = {}
    found: list[Held] = []
    epochs = 0
    held: _Student | None = None
    for event in events:
        match event:
            case Epoch(number=number, metrics=metrics):
                epochs += 1
                student = _student(metrics, objective)
                if student and (number not in best or student.score > best[number].score):
                    best[number] = student
            case TrialEnd(number=number, outcome=Outcome.DIVERGED):
                best.pop(number, None)
        now = max(best.values(), key=lambda student: student.score, default=None)
        if now is not None and now is not held:
            held = now
            found.append(Held(epochs, event.time, now.test_accuracy))
    return found


def _student(metrics: Mapping[str, float], objective: str) -> _Student | None:
    """None of an epoch that measured nothing, as where it diverged."""
    if objective not in metrics or "test_accuracy" not in metrics:
        return None
    return _Student((metrics[objective], -metrics.get("probe_kl", 0.0)), metrics["test_accuracy"])


def first_as_good(held: Iterable[Held], test_accuracy: float) -> Held | None:
    """When a student of that accuracy, or a better one, was first held; None where never."""
    return next((moment for moment in held if moment.test_accuracy >= test_accuracy), None)
