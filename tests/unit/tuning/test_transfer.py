"""What a search takes over from earlier launches: which trials fit, how they are scored, what comes first, what is recorded."""

import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest

from cpsc.errors import ConfigError
from tests.support.events import made
from tests.support.records import recorded_trial
from tests.unit.tuning.conftest import Write
from tuning.launch import Journal, LaunchHistory, replay_events
from tuning.launch.events import AttemptStart, Epoch, LaunchStart, Proposed, Transferred, TrialEnd, TrialStart
from tuning.launch.journal_backup import JournalBackup
from tuning.launch.launch import new_launch, records_copy
from tuning.outcome import Outcome
from tuning.results.earlier import beginning_with, transferred
from tuning.results.recorded_trial import taken_over
from tuning.search.optuna_search import build_search
from tuning.search.optuna_space import to_optuna
from tuning.search.transfer import DIVERGED, Advisor, best_points, standardise
from tuning.study import Study, load_study
from tuning.study.config import resolve_study
from tuning.sweep.dry_run import describe
from tuning.sweep.transfer import read_sources

Raw = dict[str, Any]
RATE, L2 = "student.lr", "weights.l2"
SPACE = {RATE: {"uniform": [0.02, 0.3]}, L2: {"loguniform": [1, 20]}}


def trial(number: int, point: Raw, values: list[float], outcome: Outcome = Outcome.COMPLETED, **params: str) -> list[Any]:
    own = {"method": "cpsc", L2: "5.0", RATE: "0.1"} | {path: str(value) for path, value in point.items()} | params
    epochs = [
        made(Epoch, number=number, epoch=epoch, metrics={"probe_agreement": value, "best_probe_agreement": value, "probe_kl": 0.1})
        for epoch, value in enumerate(values, start=1)
    ]
    return [
        made(Proposed, number=number, point=point),
        made(TrialStart, number=number, point=point, params=own),
        *epochs,
        made(TrialEnd, number=number, outcome=outcome, epoch=len(values)),
    ]


def record(folder: Path, *trials: list[Any]) -> Path:
    folder.mkdir(parents=True)
    journal = Journal(folder)
    for event in (made(LaunchStart), made(AttemptStart), *(event for events in trials for event in events)):
        journal.append(event)
    return folder


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A launch of four trials: the last is the best."""
    return record(
        tmp_path / "elsewhere" / "old",
        trial(0, {RATE: 0.05}, [0.3, 0.4]),
        trial(1, {RATE: 0.06}, [0.5], Outcome.PRUNED),
        trial(2, {RATE: 0.07}, [0.2, 0.0], Outcome.DIVERGED),
        trial(3, {RATE: 0.08}, [0.3, 0.8]),
    )


def study_of(raw: Raw, *launches: Any, **more: Any) -> Study:
    return resolve_study(raw | {"space": SPACE, "transfer": [str(launch) for launch in launches]} | more)


def test_scores_are_the_share_of_the_launchs_trials_that_are_no_better() -> None:
    assert standardise([(2, 0.4), (1, 0.9), DIVERGED, (2, 0.8)]) == [0.625, 0.375, 0.125, 0.875]
    assert standardise([(2, 0.4), (2, 0.4)]) == [0.5, 0.5]
    assert standardise([]) == []


def test_trials_come_with_all_that_the_study_searches_whether_they_searched_it_or_not(raw: Raw, earlier: Path) -> None:
    (source,) = read_sources(study_of(raw, earlier))
    assert [point for _, point in source.trials] == [{RATE: rate, L2: 5.0} for rate in (0.05, 0.06, 0.07, 0.08)]
    assert source.scores == [0.625, 0.375, 0.125, 0.875]
    assert str(source) == "transfer from old: 4 trials"


def test_what_the_study_does_not_search_is_dropped(raw: Raw, tmp_path: Path) -> None:
    folder = record(tmp_path / "old", trial(0, {RATE: 0.05, "weights.contrast": 3.0}, [0.3]))
    (source,) = read_sources(study_of(raw, folder))
    assert source.trials[0][1] == {RATE: 0.05, L2: 5.0}


def test_trials_that_do_not_fit_are_left_out_and_counted(raw: Raw, tmp_path: Path) -> None:
    folder = record(
        tmp_path / "old",
        trial(0, {RATE: 0.05}, [0.3]),
        trial(1, {RATE: 0.5}, [0.3]),
        trial(2, {RATE: 0.6}, [0.3]),
        trial(3, {RATE: 0.05}, [0.3], method="dafl"),
        trial(4, {RATE: 0.05}, [0.3], Outcome.INTERRUPTED),
        trial(5, {RATE: 0.05}, [0.3], **{L2: "50.0"}),
    )
    (source,) = read_sources(study_of(raw, folder))
    assert str(source) == (
        "transfer from old: 1 trials; left out: 2 outside the range of student.lr, 1 of another method, 1 not ended, "
        "1 outside the range of weights.l2"
    )


def test_where_methods_are_compared_those_that_the_study_compares_fit(raw: Raw, tmp_path: Path) -> None:
    folder = record(tmp_path / "old", trial(0, {RATE: 0.05}, [0.3], method="dfq"), trial(1, {RATE: 0.05}, [0.3], method="zskt"))
    study = study_of(raw, folder, space={"method": {"choice": ["cpsc", "dfq"]}, RATE: {"uniform": [0.02, 0.3]}})
    (source,) = read_sources(study)
    assert [point for _, point in source.trials] == [{"method": "dfq", RATE: 0.05}]


def test_a_launch_is_found_by_its_name_in_the_storage_by_path_and_by_uri(raw: Raw, earlier: Path) -> None:
    home = study_of(raw, "old", storage=str(earlier.parent))
    for study in (home, study_of(raw, earlier), study_of(raw, f"file://{earlier}")):
        assert len(read_sources(study)[0].trials) == 4


def test_a_launch_that_is_not_there_is_told_with_those_that_are(raw: Raw, earlier: Path) -> None:
    with pytest.raises(ConfigError, match=r"transfer\[0\]: .*/older: is not a launch, .* has old"):
        read_sources(study_of(raw, earlier.parent / "older"))


def test_a_launch_of_which_no_trial_fits_is_refused(raw: Raw, earlier: Path) -> None:
    study = study_of(raw, earlier, space={RATE: {"uniform": [0.2, 0.3]}})
    with pytest.raises(ConfigError, match=r"transfer: no trial fits this study; .* 4 outside the range of student.lr"):
        read_sources(study)


@pytest.mark.parametrize(
    "entry", [5, None, True, {"study": "small"}, {"tracking": "http://a", "study": "small", "launh": "x"}, ["old"]]
)
def test_what_is_no_launch_is_refused(raw: Raw, entry: Any) -> None:
    with pytest.raises(ConfigError, match=r"study.transfer"):
        resolve_study(raw | {"transfer": [entry]})


def test_a_grid_takes_nothing_over(raw: Raw) -> None:
    with pytest.raises(ConfigError, match=r"transfer: must be left out with sampler grid"):
        study_of(raw, "old", space={RATE: {"choice": [0.1, 0.2]}}, search={"sampler": "grid"})


def test_the_best_points_of_each_launch_come_behind_the_studys_own(raw: Raw, earlier: Path, tmp_path: Path) -> None:
    second = record(tmp_path / "second", trial(0, {RATE: 0.21}, [0.3]), trial(1, {RATE: 0.22}, [0.9]))
    study = study_of(raw, earlier, second, start=[{RATE: 0.11, L2: 2.0}])
    begun = beginning_with(study, transferred(read_sources(study)))
    assert [point[RATE] for point in begun.start] == [0.11, 0.08, 0.22, 0.05]
    assert beginning_with(study, None) is study


def test_what_a_recorded_trials_launch_took_over_is_found_in_its_journal(raw: Raw, earlier: Path, tmp_path: Path) -> None:
    """A replay finds the launch's examiners by it."""
    study = study_of(raw, earlier, storage=str(tmp_path / "runs"))
    told, start = transferred(read_sources(study)), made(LaunchStart)
    with new_launch(study, start, told) as name:
        pass
    found = taken_over(recorded_trial(launch=name, launch_id=start.launch_id), study)
    assert beginning_with(study, found).start == beginning_with(study, told).start
    assert found is not None
    assert taken_over(recorded_trial(launch=name, launch_id="another"), study) is None
    assert taken_over(recorded_trial(launch="gone", launch_id=start.launch_id), study) is None


def test_it_is_found_in_the_journals_copy_once_the_drivers_machine_is_gone(raw: Raw, earlier: Path, tmp_path: Path) -> None:
    study = study_of(raw, earlier, storage=str(tmp_path / "shared"), local=str(tmp_path / "runs"))
    told, start = transferred(read_sources(study)), made(LaunchStart)
    with new_launch(study, start, told) as name:
        JournalBackup(Journal(study.local / name), records_copy(study), name).sync(at_once=True)
    shutil.rmtree(study.local / name)
    trial = recorded_trial(launch=name, launch_id=start.launch_id)
    found = taken_over(trial, study)
    assert beginning_with(study, found).start == beginning_with(study, told).start
    assert found is not None
    (tmp_path / "shared" / name / "journal.jsonl").unlink()
    assert taken_over(trial, study) is None


def test_a_point_that_two_launches_or_the_study_itself_have_comes_once() -> None:
    told = made(Transferred, points=[{RATE: 0.1}, {RATE: 0.1}, {RATE: 0.2}], scores=[0.9, 0.8, 0.1], sources=["a", "b", "b"])
    assert best_points(told) == [{RATE: 0.1}, {RATE: 0.2}]


def hill(count: int) -> Transferred:
    """Earlier trials that are the better the nearer their rate comes to 0.25."""
    rates = [0.02 + 0.28 * place / count for place in range(count)]
    scores = standardise([(9, 1 - abs(rate - 0.25)) for rate in rates])
    return made(Transferred, points=[{RATE: rate, L2: 5.0} for rate in rates], scores=scores, sources=["hill"] * count)


def search_with(raw: Raw, told: Transferred | None, folder: Path, **search: Any) -> Any:
    study = study_of(raw, search={"num_trials": 30, **search})
    return build_search(study, LaunchHistory(transferred=told), Journal(folder), [])


def rates_of(search: Any, count: int) -> list[float]:
    rates = []
    for number in range(count):
        config = search.suggest(str(number))
        rates.append(config["point"][RATE])
        search.on_trial_complete(str(number), {search.metric: 0.5, "epoch": 9, "diverged": False})
    return rates


def test_every_other_of_the_first_points_is_where_earlier_trials_were_good(raw: Raw, tmp_path: Path) -> None:
    rates = rates_of(search_with(raw, hill(40), tmp_path), 20)
    advised, drawn = rates[0:10:2], rates[1:10:2]
    assert all(abs(rate - 0.25) < 0.06 for rate in advised)
    assert max(abs(rate - 0.25) for rate in drawn) > 0.1


def test_trials_of_earlier_launches_have_no_number_and_are_not_in_the_searchs_study(raw: Raw, tmp_path: Path) -> None:
    search = search_with(raw, hill(40), tmp_path)
    assert search.suggest("a")["number"] == 0
    assert len(search.study.trials) == 1


def test_advice_depends_on_seed_and_trials_alone(raw: Raw, tmp_path: Path) -> None:
    domains = study_of(raw).space
    space = to_optuna(domains)
    own = optuna.create_study(direction="maximize")
    first, again, other = (Advisor(hill(40), domains, space, 10, seed).point(own, 2) for seed in (0, 0, 1))
    assert first == again != other
    assert Advisor(hill(40), domains, space, 10, 0).point(own, 3) is None
    assert Advisor(hill(40), domains, space, 10, 0).point(own, 10) is None


def test_the_search_learns_from_its_own_trials_beside_the_earlier_ones(raw: Raw) -> None:
    """Its own say that 0.05 is best: with many of them, advice goes there."""
    domains = study_of(raw).space
    own = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(40):
        asked = own.ask()
        rate = asked.suggest_float(RATE, 0.02, 0.3)
        asked.suggest_float(L2, 1, 20, log=True)
        asked.report(1 - abs(rate - 0.05), 9)
        own.tell(asked, 1 - abs(rate - 0.05))
    points = [Advisor(hill(4), domains, to_optuna(domains), 99, seed).point(own, 0) for seed in range(6)]
    assert sum(abs(point[RATE] - 0.05) < 0.06 for point in points if point) >= 4


def test_what_was_taken_over_is_in_the_journal_where_a_resumed_search_finds_it(raw: Raw, earlier: Path, tmp_path: Path) -> None:
    study = study_of(raw, earlier, storage=str(tmp_path / "runs"))
    told = transferred(read_sources(study))
    with new_launch(study, made(LaunchStart), told) as name:
        pass
    history = replay_events(Journal(study.local / name).events(), metric=study.metric)
    assert history.transferred is not None
    assert history.transferred.sources == ("old",) * 4
    assert beginning_with(study, history.transferred).start[0] == {RATE: 0.08, L2: 5.0}


def test_the_dry_run_counts_what_is_taken_over(raw: Raw, earlier: Path, write: Write) -> None:
    study = load_study(write(raw | {"space": SPACE, "transfer": [str(earlier)]}))
    said = describe(study)
    assert "# transfer from old: 4 trials\n" in said
    assert "# the best 3 of these are tried first, after the study's own" in said
