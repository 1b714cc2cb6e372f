"""A sentence on what a resumed launch continues with."""

from tuning.launch import LaunchHistory, TrialHistory
from tuning.search.budget import budget_of
from tuning.search.finalists import runs_to_propose
from tuning.study import Study
from tuning.time_left import in_words

SHOWN_TRIALS = 4


def going_on(study: Study, name: str, history: LaunchHistory) -> str:
    """What the launch `name` has done, which of its trials continue and where, and what is still to come."""
    over = sum(trial.is_over for trial in history.trials.values())
    unfinished = [trial for trial in history.trials.values() if not trial.is_over]
    to_come = max(0, budget_of(study, history).num_trials - len(history.searched))
    parts = [f"{over} trials done in {in_words(history.elapsed_s)}"]
    if unfinished:
        parts.append(f"{len(unfinished)} continue ({_places(unfinished)})")
    if to_come or not unfinished:
        parts.append(f"{to_come or 'none'} to come")
    if runs := runs_to_propose(study, history):
        parts.append(f"then {len(runs)} runs of finalists")
    if history.finished_budget == study.search.num_trials:
        parts.append("since it was asked to finish; pass --num-trials N to continue up to another number")
    return f"{name}: {', '.join(parts)}"


def _places(unfinished: list[TrialHistory]) -> str:
    """``trial 3 after epoch 2`` and so on, for the first few trials."""
    shown = [f"trial {trial.number} after epoch {trial.last_epoch}" for trial in unfinished[:SHOWN_TRIALS]]
    return ", ".join([*shown, *(["..."] if len(unfinished) > SHOWN_TRIALS else [])])
