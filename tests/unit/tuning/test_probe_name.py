"""The probe set's place in the storage: a launch that an earlier version began goes on with the set that it had."""

from pathlib import Path

from cpsc.probe import ProbeConfig
from tuning.storage import Storage
from tuning.trial import Assets
from tuning.trial.assets import probe_name


def test_a_set_that_an_earlier_version_made_is_taken_unless_there_is_one_of_this(assets: Assets, tmp_path: Path) -> None:
    storage, config = Storage(str(tmp_path)), ProbeConfig()
    new = probe_name(assets.teacher, config, storage)
    assert config.digest in new
    earlier = tmp_path / new.replace(config.digest, config.earlier_digest)
    earlier.parent.mkdir()
    earlier.touch()
    assert tmp_path / probe_name(assets.teacher, config, storage) == earlier
    (tmp_path / new).touch()
    assert probe_name(assets.teacher, config, storage) == new
