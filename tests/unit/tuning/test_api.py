"""The verbs from Python: values where the command line prints text."""

from pathlib import Path

import pytest
import yaml

import tuning
from cpsc.errors import ConfigError
from tests.support.made_sweep import made_store
from tests.support.studies import tiny_study
from tuning import criteria_frame, load_results, load_study, run_trial, trials_frame, write_page


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_study() | {"storage": str(tmp_path / "runs")}))
    return path


@pytest.mark.slow
def test_a_trial_runs_here_and_returns_its_epochs(file: Path) -> None:
    results = run_trial(load_study(file), {"weights.l2": 0.5}, epochs=2, quiet=True)
    assert [result["epoch"] for result in results] == [1, 2]
    assert all(0 <= result["probe_agreement"] <= 1 for result in results)


@pytest.mark.slow
def test_a_trial_says_that_there_are_no_examiners_yet(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_trial(load_study(file, ["objective=exam_score"]), epochs=1)
    assert "no examiners yet (a sweep trains them)" in capsys.readouterr().err
    run_trial(load_study(file, ["objective=probe_agreement"]), epochs=1)
    assert "examiners" not in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_study_has_recorded_is_a_frame_and_a_page(file: Path, tmp_path: Path) -> None:
    study = load_study(str(file), ["search.num_trials=5"])
    made_store(study, num_trials=5, epochs=3)
    launch = load_results(study, quiet=True)
    frame = trials_frame(launch)
    assert frame["trial"].tolist() == [trial.number for trial in launch.trials]
    assert launch.chosen is not None
    assert frame.loc[0, "weights.l2"] == launch.chosen.point["weights.l2"]
    criteria = criteria_frame(study, [None, launch.name], quiet=True)
    assert criteria.groupby("launch").size().to_dict() == {launch.name: 2 * criteria["criterion"].nunique()}
    assert criteria["spearman"].between(-1, 1).all()
    assert write_page(study, tmp_path / "page", quiet=True).stat().st_size > 1_000_000


def test_a_study_that_was_never_run_says_so(file: Path) -> None:
    with pytest.raises(ConfigError, match="run the study's sweep first"):
        load_results(load_study(file))


def test_every_name_of_the_api_can_be_had() -> None:
    assert all(callable(getattr(tuning, name)) for name in tuning.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'run_everything'"):
        _ = tuning.run_everything
