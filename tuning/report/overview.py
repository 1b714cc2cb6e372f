"""The launch in one paragraph: what was searched, what was chosen, how sure that is, what to do next."""

import math
from collections.abc import Iterator
from typing import Any

from tuning.display import percent
from tuning.launch.launch import resume_command
from tuning.outcome import Outcome
from tuning.results import Launch, TrialRecord
from tuning.study import Study
from tuning.study.distributions import Distribution

EDGE = 0.05
"""Share of a range, on its own scale, within which a chosen value counts as at an end: the best may lie beyond."""
MANY = 0.25
"""Share of diverged or failed trials from which on something is probably wrong with the study."""
MAX_STEPS = 2
"""Number of next steps that are suggested."""
LATE = 0.75
"""Share of the trials after which a best counts as found late: a longer search may find a better one."""


def overview(study: Study, launch: Launch) -> list[tuple[str, str]]:
    """Four parts, each a label and a sentence or two. `study`: as the launch ran it."""
    so_far = "" if launch.is_over else " so far"
    parts = {
        "Searched": _searched(study, launch),
        f"Chosen{so_far}": _chosen(launch),
        "How sure": _sure(launch),
        "What next": _next(study, launch),
    }
    return [(word, text) for word, sentences in parts.items() if (text := " ".join(sentences))]


def _searched(study: Study, launch: Launch) -> Iterator[str]:
    planned = study.search.num_trials
    of_planned = f" of {planned} planned" if not launch.is_over and planned > len(launch.searched) else ""
    pruning = f" with {study.prune.scheduler.upper()}" if study.prune.scheduler != "none" else " without pruning"
    yield f"{_count(len(study.space), 'parameter')} for distilling {_task(study, launch)}, by {_sampler(study)}{pruning}."
    yield f"{launch.counts_in_words()}{of_planned}; {_count(launch.epochs_run, 'epoch')} run."
    if not launch.is_over:
        yield "The search is still under way."


def _task(study: Study, launch: Launch) -> str:
    teacher = launch.settings.get("teacher.arch", "the teacher")
    student = None if "student.arch" in study.space or not launch.trials else launch.trials[0].params.get("student.arch")
    return f"{teacher} into {student or 'a student'}"


def _sampler(study: Study) -> str:
    sampler = study.search.sampler
    return {"tpe": "TPE", "gp": "a Gaussian process", "grid": "a grid", "random": "random draws"}.get(sampler, sampler)


def _chosen(launch: Launch) -> Iterator[str]:
    chosen, objective = launch.chosen, launch.objective
    if chosen is None:
        yield "nothing; no trial has a result." if launch.is_over else "nothing yet; no trial has a result."
        return
    how = "by labelled images" if objective == "test_accuracy" else "without a real image"
    yield (
        f"{how}, trial {chosen.number} at epoch {chosen.best_epoch(objective)}, "
        f"{objective.replace('_', ' ')} {percent(chosen.at_best(objective, objective))}."
    )
    accuracy = chosen.at_best("test_accuracy", objective)
    if accuracy is not None and objective != "test_accuracy":
        yield f"Its test accuracy, which did not influence the search, is {percent(accuracy)}."


def _sure(launch: Launch) -> Iterator[str]:
    if launch.chosen is None:
        return
    yield _ties(launch)
    correlation, regret = launch.rank_correlation(), launch.regret()
    if correlation is not None and regret is not None and launch.objective != "test_accuracy":
        lies = "is the best there" if regret <= 0 else f"lies {100 * regret:.2f} points below the best there"
        yield f"Over all epochs the blind score has a rank correlation of {correlation:.2f} with test accuracy; the choice {lies}."


def _ties(launch: Launch) -> str:
    if len(launch.trials) == 1:
        return "there is no other trial to compare it with."
    if launch.finalists:
        return _among_finalists(launch)
    if launch.ties:
        return (
            f"{_count(len(launch.ties), 'other trial')} cannot be told from it on {_images(launch)}: "
            "another seed might have chosen one of them."
        )
    if launch.chosen is not None and launch.chosen.marks is None:
        return "it is not recorded whether others are as good within the noise."
    return "no other trial comes within the noise of its score; the result of another seed is not known."


def _among_finalists(launch: Launch) -> str:
    tied = {trial.finalist_of for trial in launch.ties}
    told = f"{_count(len(tied), 'other')} cannot be told from it" if tied else "no other comes within the noise"
    seeds = _count(len(launch.finalists[0].runs), "seed")
    return f"the mean over {seeds} decided among {_count(len(launch.finalists), 'finalist')}; {told}."


def _images(launch: Launch) -> str:
    return "the labelled images" if launch.objective == "test_accuracy" else "the images that it was compared on"


def _next(study: Study, launch: Launch) -> Iterator[str]:
    steps = list(_steps(study, launch))[:MAX_STEPS]
    yield f"{'; '.join(steps)}."


def _steps(study: Study, launch: Launch) -> Iterator[str]:
    """What could be done next, most urgent first."""
    if not launch.is_over:
        running = launch.count(None)
        yield f"wait for {_count(running, 'running trial')}, then make this page again" if running else "wait; no trial runs yet"
        return
    bad = launch.count(Outcome.DIVERGED) + launch.count(Outcome.FAILED)
    if launch.trials and bad >= MANY * len(launch.trials):
        yield f"see under Troubles why {bad} of {len(launch.trials)} trials diverged or failed"
    if launch.count(Outcome.INTERRUPTED):
        yield f"continue the interrupted trials: `{resume_command(study, launch.name)}`"
    if launch.chosen is None:
        return
    again = resume_command(study, launch.name)
    if at_edge := values_at_edges(study, launch.chosen):
        yield f"widen the range of {' and '.join(at_edge[:2])}, because the chosen value lies at its edge"
    if not launch.finalists and study.search.sampler != "grid":
        yield f"rule out luck by rerunning the best points under new seeds: `{again} --set 'search.finalists={{top: 3, seeds: 3}}'`"
    if study.search.sampler != "grid" and _came_late(launch):
        yield f"search on, because the best trial came late: `{again} --num-trials {2 * len(launch.searched)}`"
    yield "export the student with `cpsc-tune export`"


def _came_late(launch: Launch) -> bool:
    return launch.trials_since_gain < (1 - LATE) * len(launch.searched)


def values_at_edges(study: Study, trial: TrialRecord) -> list[str]:
    """The searched parameters whose value in `trial` lies at an end of their range, so that a better one may lie beyond."""
    return [path for path, domain in study.space.items() if path in trial.point and _is_at_edge(trial.point[path], domain)]


def _is_at_edge(value: Any, domain: Distribution) -> bool:
    if domain.sampler == "choice" or not domain.contains(value):
        return False
    lower, upper = map(float, domain.edges)
    scale = math.log if domain.sampler.startswith("log") else float
    place = (scale(value) - scale(lower)) / (scale(upper) - scale(lower) or 1.0)
    return not EDGE < place < 1 - EDGE


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
