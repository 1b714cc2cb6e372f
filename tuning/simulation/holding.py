"""The student that a sweep holds at each moment, chosen blind: a search is as good as the time when it first held a good one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tuning.launch.events import Epoch, Event, TrialEnd
from tuning.outcome import Outcome


@dataclass(frozen=True)
class Held:
    """A student that the sweep holds from a moment on: after `epochs` over all trials, and `seconds`."""

    epochs: int
    seconds: float
    test_accuracy: float


@dataclass(frozen=True)
class _Student:
    """The best student of a trial so far, judged without labels."""

    score: tuple[float, float]
    """The objective, then the negative probe KL to break ties."""
    test_accuracy: float


def held_students(events: Iterable[Event], objective: str) -> list[Held]:
    """Each change of the held student, oldest first.

    The sweep holds the student with the highest `objective` so far; a trial that diverges has none, as in a launch's choice.
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
    """The student of an epoch; None if nothing was measured, as when it diverged."""
    if objective not in metrics or "test_accuracy" not in metrics:
        return None
    return _Student((metrics[objective], -metrics.get("probe_kl", 0.0)), metrics["test_accuracy"])


def first_as_good(held: Iterable[Held], test_accuracy: float) -> Held | None:
    """The first moment at which a student of at least that accuracy was held; None if never."""
    return next((moment for moment in held if moment.test_accuracy >= test_accuracy), None)
