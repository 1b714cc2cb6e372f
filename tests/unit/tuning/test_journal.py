"""Events on disk: in order, delivered at least once, never lost to a restart; and one driver at a time."""

import json
import os
import pickle
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cpsc.errors import ConfigError
from tests.support.events import made
from tuning.launch import DriverLock, Journal
from tuning.launch.events import Event, Proposed, to_record
from tuning.launch.journal import MAX_PAUSE_S, MIN_PAUSE_S, pause_after


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def trial(number: int) -> Event:
    return made(Proposed, number=number)


LINE = json.dumps(to_record(trial(1))) + "\n"


def events(journal: Journal) -> list[Event]:
    return [event for event, _ in journal.pending()]


def test_nothing_is_pending_before_the_first_event(journal: Journal) -> None:
    assert events(journal) == []


def test_events_come_back_in_the_order_they_were_added(journal: Journal) -> None:
    added = [made(Proposed, number=number, point={"text": "Zürich\nzwei"}) for number in range(5)]
    for event in added:
        journal.append(event)
    assert events(journal) == added


def test_positions_rise_to_the_end_of_the_file(journal: Journal) -> None:
    for number in range(3):
        journal.append(trial(number))
    positions = [position for _, position in journal.pending()]
    assert positions == sorted(set(positions))
    assert positions[-1] == journal.path.stat().st_size


def test_what_is_not_acknowledged_is_delivered_again(journal: Journal) -> None:
    journal.append(trial(0))
    assert events(journal) == events(journal) == [trial(0)]


def test_what_is_acknowledged_is_not_delivered_again_even_after_a_restart(journal: Journal) -> None:
    for number in range(3):
        journal.append(trial(number))
    (_, first), *_ = journal.pending()
    journal.acknowledge(first)
    assert events(journal) == [trial(1), trial(2)]
    assert events(Journal(journal.path.parent)) == [trial(1), trial(2)]


def test_events_added_after_the_last_acknowledgement_are_pending(journal: Journal) -> None:
    journal.append(trial(0))
    for _, position in journal.pending():
        journal.acknowledge(position)
    assert events(journal) == []
    journal.append(trial(1))
    assert events(journal) == [trial(1)]


def test_events_can_be_added_and_acknowledged_while_they_are_delivered(journal: Journal) -> None:
    journal.append(trial(0))
    seen = []
    for event, position in journal.pending():
        assert isinstance(event, Proposed)
        seen.append(event.number)
        journal.acknowledge(position)
        if event.number < 3:
            journal.append(trial(event.number + 1))
    assert seen == [0, 1, 2, 3]
    assert events(journal) == []


def test_a_line_that_is_still_being_written_waits(journal: Journal) -> None:
    journal.append(trial(0))
    with journal.path.open("a") as handle:
        handle.write(LINE[:30])
    assert events(journal) == [trial(0)]
    with journal.path.open("a") as handle:
        handle.write(LINE[30:])
    assert events(journal) == [trial(0), trial(1)]


def test_a_journal_travels_by_pickle_and_still_works(journal: Journal) -> None:
    journal.append(trial(0))
    copy: Journal = pickle.loads(pickle.dumps(journal))
    copy.append(trial(1))
    assert events(journal) == events(copy) == [trial(0), trial(1)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_know_is_refused_and_leaves_no_trace(journal: Journal, value: float) -> None:
    journal.append(trial(0))
    with pytest.raises(ValueError, match="JSON compliant"):
        journal.append(made(Proposed, point={"value": value}))
    assert events(journal) == [trial(0)]


def test_two_threads_never_mix_their_lines(journal: Journal) -> None:
    def add(thread: int) -> None:
        for number in range(200):
            journal.append(made(Proposed, number=number, point={"thread": thread, "padding": "x" * 200}))

    threads = [threading.Thread(target=add, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = events(journal)
    assert len(found) == 400
    for index in range(2):
        assert [event.number for event in found if isinstance(event, Proposed) and event.point["thread"] == index] == list(
            range(200)
        )


def test_all_events_stay_readable_after_they_are_acknowledged(journal: Journal) -> None:
    added = [trial(number) for number in range(3)]
    for event in added:
        journal.append(event)
    for _, position in journal.pending():
        journal.acknowledge(position)
    assert events(journal) == []
    assert list(journal.events()) == added


def test_a_line_that_a_dying_process_left_half_written_is_cut_off(journal: Journal) -> None:
    journal.append(trial(0))
    with journal.path.open("a") as handle:
        handle.write(LINE[:30])
    journal.drop_torn_line()
    journal.append(trial(2))
    assert list(journal.events()) == [trial(0), trial(2)]


def test_cutting_off_a_torn_line_leaves_whole_lines_and_missing_files_alone(journal: Journal) -> None:
    journal.drop_torn_line()
    assert not journal.path.exists()
    journal.append(trial(0))
    journal.drop_torn_line()
    assert list(journal.events()) == [trial(0)]


def test_a_journal_of_a_torn_line_alone_is_empty_after_the_cut(journal: Journal) -> None:
    journal.path.write_text('{"number"')
    journal.drop_torn_line()
    assert journal.path.read_bytes() == b""


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    first, second = DriverLock(tmp_path), DriverLock(tmp_path)
    assert first.try_acquire()
    assert not second.try_acquire()
    with pytest.raises(ConfigError, match="another process is running this launch"), second:
        pass
    first.release()
    with second:
        assert not first.try_acquire()
    assert first.try_acquire()
    first.release()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "not a record (Expecting value"),
        (b'{"kind": "epo', "not a record ("),
        (b"", "not a record ("),
        (b"\x00\xff\x80", "not a record ("),
        (b"[1]", "not a record but a list"),
        (b'"text"', "not a record but a str"),
        (b'{"value": NaN}', "not a record (NaN is not a number)"),
        (b'{"value": -Infinity}', "not a record (-Infinity is not a number)"),
        (b'{"value": ' + b"9" * 5000 + b"}", "not a record (Exceeds the limit"),
        (b"[" * 100_000, "not a record ("),
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize("acknowledged", [False, True])
def test_a_line_that_is_no_record_is_refused_by_file_and_number(
    journal: Journal, line: bytes, reason: str, acknowledged: bool
) -> None:
    journal.append(trial(0))
    for _, position in journal.pending():
        if acknowledged:
            journal.acknowledge(position)
    with journal.path.open("ab") as handle:
        handle.write(line + b"\n")
    journal.append(trial(2))
    with pytest.raises(ConfigError) as caught:
        list(journal.pending())
    assert str(caught.value).startswith(f"{journal.path} line 2: {reason}")
    assert str(caught.value).endswith("; restore the file from a copy, or start a new launch")


@pytest.mark.parametrize("record", ["", "many", "-5", "3", "999999", "\x00", "9" * 5000])
def test_a_damaged_record_of_what_was_acknowledged_delivers_all_again(journal: Journal, record: str) -> None:
    for number in range(2):
        journal.append(trial(number))
    for _, position in journal.pending():
        journal.acknowledge(position)
    (journal.path.parent / "journal.acknowledged").write_text(record)
    assert events(journal) == [trial(0), trial(1)]


@pytest.mark.parametrize(("work_s", "pause_s"), [(0.0, MIN_PAUSE_S), (0.02, 2.0), (3.0, MAX_PAUSE_S)])
def test_whoever_follows_a_journal_works_one_part_in_a_hundred_of_the_time_but_keeps_nobody_waiting(
    work_s: float, pause_s: float
) -> None:
    assert pause_after(work_s) == pytest.approx(pause_s)


# What is no journal, and what can be repaired


def as_folder(path: Path) -> None:
    path.mkdir()


def as_fifo(path: Path) -> None:
    os.mkfifo(path)


def as_loop(path: Path) -> None:
    path.symlink_to(path.name)


def as_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind(str(path))


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        (as_folder, "is a folder, not a journal"),
        (as_fifo, "is a special file, not a journal"),
        (as_socket, "is a special file, not a journal"),
        (as_loop, "cannot be read (Too many levels of symbolic links)"),
    ],
)
def test_what_is_no_file_is_refused_and_not_waited_for(deed: Callable[[Path], None], reason: str, journal: Journal) -> None:
    deed(journal.path)
    for read in (lambda: list(journal.events()), lambda: list(journal.pending()), journal.repair):
        with pytest.raises(ConfigError) as refused:
            read()
        assert str(refused.value) == f"{journal.path}: {reason}; restore the file from a copy, or start a new launch"


def test_a_journal_that_may_not_be_read_is_refused(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append(trial(0))

    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # whoever runs the tests as root may read anything
    with pytest.raises(ConfigError, match=r"cannot be read \(Permission denied\)"):
        list(journal.events())


def test_a_mark_of_utf8_and_line_ends_of_another_system_change_nothing(journal: Journal) -> None:
    journal.path.write_bytes(b"\xef\xbb\xbf" + LINE.replace("\n", "\r\n").encode())
    assert journal.repair() == []
    journal.append(trial(2))
    assert list(journal.events()) == [trial(1), trial(2)]


def test_a_sound_journal_is_not_touched_by_repairs(journal: Journal) -> None:
    for number in range(3):
        journal.append(trial(number))
    (_, first), *_ = journal.pending()
    journal.acknowledge(first)
    before = journal.path.stat()
    assert journal.repair() == []
    assert journal.path.stat() == before
    assert len(events(journal)) == 2


@pytest.mark.parametrize("tail", [b'{"number": 2', b"\x00" * 4096])
def test_a_torn_tail_is_cut_off_and_said(journal: Journal, tail: bytes) -> None:
    journal.append(trial(0))
    with journal.path.open("ab") as handle:
        handle.write(tail)
    assert journal.repair() == [f"{journal.path}: its last line was incomplete, since its writer died, and was removed"]
    assert list(journal.events()) == [trial(0)]
    assert journal.repair() == []


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([0, 1, 1, 2], "line 3 exactly repeated earlier lines"),
        ([0, 1, 2, 1, 2], "2 lines from 4 to 5 exactly repeated earlier lines"),
        ([0, 1, 2, 0, 1, 2], "3 lines from 4 to 6 exactly repeated earlier lines"),
    ],
)
def test_lines_that_stand_twice_are_left_out_and_said(journal: Journal, numbers: list[int], said: str) -> None:
    for number in numbers:
        journal.append(trial(number))
    for _, position in journal.pending():
        journal.acknowledge(position)
    assert journal.repair() == [f"{journal.path}: {said}, and were removed"]
    assert list(journal.events()) == [trial(0), trial(1), trial(2)]
    assert events(journal) == [trial(0), trial(1), trial(2)], "positions have moved: all is delivered again"
