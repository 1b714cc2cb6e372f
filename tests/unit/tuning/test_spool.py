"""Events on disk: in order, delivered at least once, never lost to a restart."""

import pickle
import threading
from pathlib import Path

import pytest

from tuning.spool import Event, Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "events.jsonl")


def events(spool: Spool) -> list[Event]:
    return [event for event, _ in spool.pending()]


def test_nothing_is_pending_before_the_first_event(spool: Spool) -> None:
    assert events(spool) == []


def test_events_come_back_in_the_order_they_were_added(spool: Spool) -> None:
    added = [{"kind": "epoch", "number": number, "text": "Zürich\nzwei"} for number in range(5)]
    for event in added:
        spool.append(event)
    assert events(spool) == added


def test_positions_rise_to_the_end_of_the_file(spool: Spool) -> None:
    for number in range(3):
        spool.append({"number": number})
    positions = [position for _, position in spool.pending()]
    assert positions == sorted(set(positions))
    assert positions[-1] == spool.path.stat().st_size


def test_what_is_not_acknowledged_is_delivered_again(spool: Spool) -> None:
    spool.append({"number": 0})
    assert events(spool) == events(spool) == [{"number": 0}]


def test_what_is_acknowledged_is_not_delivered_again_even_after_a_restart(spool: Spool) -> None:
    for number in range(3):
        spool.append({"number": number})
    (_, first), *_ = spool.pending()
    spool.acknowledge(first)
    assert events(spool) == [{"number": 1}, {"number": 2}]
    assert events(Spool(spool.path)) == [{"number": 1}, {"number": 2}]


def test_events_added_after_the_last_acknowledgement_are_pending(spool: Spool) -> None:
    spool.append({"number": 0})
    for _, position in spool.pending():
        spool.acknowledge(position)
    assert events(spool) == []
    spool.append({"number": 1})
    assert events(spool) == [{"number": 1}]


def test_events_can_be_added_and_acknowledged_while_they_are_delivered(spool: Spool) -> None:
    spool.append({"number": 0})
    seen = []
    for event, position in spool.pending():
        seen.append(event["number"])
        spool.acknowledge(position)
        if event["number"] < 3:
            spool.append({"number": event["number"] + 1})
    assert seen == [0, 1, 2, 3]
    assert events(spool) == []


def test_a_line_that_is_still_being_written_waits(spool: Spool) -> None:
    spool.append({"number": 0})
    with spool.path.open("a") as handle:
        handle.write('{"number": 1')
    assert events(spool) == [{"number": 0}]
    with spool.path.open("a") as handle:
        handle.write("}\n")
    assert events(spool) == [{"number": 0}, {"number": 1}]


def test_a_spool_travels_by_pickle_and_still_works(spool: Spool) -> None:
    spool.append({"number": 0})
    copy: Spool = pickle.loads(pickle.dumps(spool))
    copy.append({"number": 1})
    assert events(spool) == events(copy) == [{"number": 0}, {"number": 1}]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_know_is_refused_and_leaves_no_trace(spool: Spool, value: float) -> None:
    spool.append({"number": 0})
    with pytest.raises(ValueError, match="JSON compliant"):
        spool.append({"value": value})
    assert events(spool) == [{"number": 0}]


def test_two_threads_never_mix_their_lines(spool: Spool) -> None:
    def add(thread: int) -> None:
        for number in range(200):
            spool.append({"thread": thread, "number": number, "padding": "x" * 200})

    threads = [threading.Thread(target=add, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = events(spool)
    assert len(found) == 400
    for index in range(2):
        assert [event["number"] for event in found if event["thread"] == index] == list(range(200))
