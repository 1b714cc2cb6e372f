"""What a trial's numbers depend on: told apart, written to a tag and read back."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tuning.trial import environment as module
from tuning.trial.environment import code_digest, differences, environment, from_tag, processor_name, to_tag

FACTS = {"torch": "2.13.0+cpu", "processor": "EPYC", "threads": "1", "device": "cpu"}


def test_equal_environments_have_no_difference() -> None:
    assert differences(FACTS, dict(FACTS)) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("torch", "2.11.0", "torch 2.11.0, recorded 2.13.0+cpu"),
        ("processor", "Xeon", "processor Xeon, recorded EPYC"),
        ("threads", "4", "thread count 4, recorded 1"),
    ],
)
def test_each_difference_is_named_with_both_sides(name: str, value: str, words: str) -> None:
    assert differences(FACTS, FACTS | {name: value}) == [words]


def test_a_fact_that_only_one_side_has_is_a_difference() -> None:
    assert differences(FACTS, FACTS | {"cuda": "13.0"}) == ["cuda 13.0, recorded none"]
    assert differences(FACTS | {"cuda": "13.0"}, FACTS) == ["cuda none, recorded 13.0"]


def test_this_process_tells_its_threads_and_device() -> None:
    facts = environment(torch.device("cpu"))
    assert facts["threads"] == str(torch.get_num_threads())
    assert facts["device"] == "cpu"
    assert facts["torch"] == torch.__version__
    assert len(to_tag(facts)) <= 500, "MLflow's tags are cut there"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_is_told_by_its_name() -> None:
    facts = environment(torch.device("cuda"))
    assert facts["device"] == torch.cuda.get_device_name()
    assert facts["cuda"].startswith(str(torch.version.cuda))


def test_a_tag_is_read_back_as_it_was_written() -> None:
    assert from_tag(to_tag(FACTS)) == FACTS


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "7"])
def test_a_tag_that_says_nothing_is_none(text: str | None) -> None:
    assert from_tag(text) is None


def test_the_processor_is_called_as_its_maker_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("vendor_id\t: A\nmodel name\t: AMD EPYC 9B45\nmodel name\t: AMD EPYC 9B45\n")
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "cpuinfo")
    assert processor_name.__wrapped__() == "AMD EPYC 9B45"
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "absent")
    assert processor_name.__wrapped__() != ""


def test_another_source_text_or_name_is_another_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cpsc", SimpleNamespace(__file__=str(tmp_path / "__init__.py")))
    source = tmp_path / "losses" / "kl.py"
    source.parent.mkdir()
    source.write_text("x = 1\n")
    before = code_digest.__wrapped__()
    assert code_digest.__wrapped__() == before
    source.write_text("x = 2\n")
    changed = code_digest.__wrapped__()
    source.rename(source.with_name("l2.py"))
    assert len({before, changed, code_digest.__wrapped__()}) == 3
