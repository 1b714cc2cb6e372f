"""A sweep that was never run: a journal as a sweep writes it, delivered to a store by the real writer."""

import math
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from cpsc.answers import AnswerLog
from cpsc.ground import Ground
from cpsc.pictures import save_grid
from tests.support.events import made
from tuning.launch import Journal
from tuning.launch.events import AttemptStart, Epoch, Event, LaunchEnd, LaunchStart, Proposed, Retry, TrialEnd, TrialStart
from tuning.launch.folder import STUDY_FILE
from tuning.outcome import Outcome
from tuning.study import Study, build_config
from tuning.study.nested_keys import flatten
from tuning.study.yaml_loader import to_plain
from tuning.sweep.launch_record import open_writer
from tuning.tracking import delivering
from tuning.trial.files import ANSWERS_FILE, GALLERY_FILE, SAMPLES_FILE

BEGUN = 1_790_000_000.0
LAUNCH_ID = "made"
EPOCH_S = 10.0
CLASSES = ("zero", "<script>alert(1)</script>", *map(str, range(2, 10)))
"""Of the rows of the trials' pictures."""
OUTCOMES = ("completed", "pruned", "completed", "pruned", "diverged", "completed", "pruned", "failed", "completed", "pruned")


def made_store(
    study: Study, *, num_trials: int, epochs: int, labels: bool = True, is_over: bool = True, ground: Ground | None = None
) -> None:
    """Fill the study's store with a launch of its own name, two trials at a time.

    Of ten trials four run to their end, one diverges, one fails after a retry and the others are pruned. Trial 0 is the
    best; of a sweep that is not over the last one is still under way.
    """
    folder = study.local / study.name
    folder.mkdir(parents=True)
    text = yaml.safe_dump(to_plain(study.source), sort_keys=False)
    (folder / STUDY_FILE).write_text(text)
    journal = Journal(folder)
    settings = {"objective": study.objective, "epochs": str(epochs), "sampler": study.search.sampler}
    settings |= ground.to_params() if ground else {}
    journal.append(made(LaunchStart, time=BEGUN + 0.0, launch_id=LAUNCH_ID, params=settings, study=text))
    journal.append(made(AttemptStart, time=BEGUN + 0.0, attempt=0))
    checkpoint = _checkpoint(folder / "checkpoint", epochs)
    for number in range(num_trials):
        running = not is_over and number == num_trials - 1
        for event in _trial(study, number, epochs, labels=labels, running=running, checkpoint=checkpoint):
            journal.append(event)
    if is_over:
        journal.append(made(LaunchEnd, time=BEGUN + num_trials * epochs * EPOCH_S, status="FINISHED", metrics={"elapsed_s": 100.0}))
    with delivering(open_writer(study, study.name, LAUNCH_ID)):
        pass


def _trial(study: Study, number: int, epochs: int, *, labels: bool, running: bool, checkpoint: str) -> Iterator[Event]:
    draws = random.Random(number)
    point = study.first_point
    if number:
        point = {path: _drawn(draws, domain.sampler, domain.arguments) for path, domain in study.space.items()}
    params = {key: str(value) for key, value in flatten(to_plain(asdict(build_config(study.base, point))))}
    outcome = OUTCOMES[number % len(OUTCOMES)]
    last = epochs if outcome == "completed" else max(1, epochs // 3)
    now, best, best_epoch = (number // 2) * epochs * EPOCH_S, 0.0, 0
    yield made(Proposed, time=BEGUN + now, number=number, point=point)
    yield made(TrialStart, time=BEGUN + now, number=number, point=point, params=params, ray_trial_id=f"r{number}")
    for epoch in range(1, last + 1):
        now += EPOCH_S
        agreement = (0.95 - 0.3 * (number > 0) * draws.random()) * (1 - math.exp(-3 * epoch / epochs))
        best, best_epoch = max((best, best_epoch), (agreement, epoch))
        metrics = dict.fromkeys((study.objective, "held_out_agreement", "probe_agreement", "probe_overlap"), agreement)
        metrics |= {study.metric: best, "best_epoch": best_epoch, "probe_kl": 1 - agreement, "epoch_s": EPOCH_S}
        metrics |= {"replay_bytes": 0.0, "epoch": float(epoch)} | {
            f"student/{name}": draws.random() for name in ("kl", "l2", "label")
        }
        metrics |= {"test_accuracy": 0.9 * agreement + 0.05 * draws.random()} if labels else {}
        yield made(Epoch, time=BEGUN + now, number=number, epoch=epoch, metrics=metrics, note="", node=f"node-{number % 2}")
    if outcome == "failed":
        yield made(Retry, time=BEGUN + now, number=number, epoch=last, count=1)
    if not running:
        reason = {"failed": "the worker died", "diverged": "student/kl is not finite"}.get(outcome, "")
        yield made(
            TrialEnd,
            time=BEGUN + now + 1,
            number=number,
            outcome=Outcome(outcome),
            reason=reason,
            epoch=last,
            checkpoint=checkpoint,
        )


def _drawn(draws: random.Random, sampler: str, arguments: tuple[Any, ...]) -> Any:
    if sampler == "choice":
        return draws.choice(arguments)
    if sampler in ("randint", "lograndint"):
        return draws.randrange(*arguments[:2])
    if sampler.startswith("log"):
        return math.exp(draws.uniform(*map(math.log, arguments[:2])))
    return draws.uniform(*arguments[:2])


def _checkpoint(folder: Path, epochs: int) -> str:
    """Of all trials alike; each epoch's student answers as the teacher does on one image more."""
    folder.mkdir()
    teacher = 4.0 * torch.eye(10).repeat(3, 1)
    answers = AnswerLog(teacher)
    for epoch in range(1, epochs + 1):
        answers.add(epoch, torch.cat([teacher[:epoch], -teacher[epoch:]]))
    answers.save(folder / ANSWERS_FILE)
    for name, columns in ((SAMPLES_FILE, 8), (GALLERY_FILE, 3)):
        images = torch.randint(256, (10, columns, 3, 32, 32), dtype=torch.uint8)
        save_grid(images, folder / name, caption=f"{columns} columns of noise", rows=CLASSES)
    return str(folder)
