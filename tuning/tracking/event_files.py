"""TensorBoard event files of a launch: one folder per trial with its curves, and the data of the HPARAMS tab's table.

They are written by tensorboardX, which writes TensorBoard's format without TensorFlow or TensorBoard.
"""

import contextlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuning.launch.events import Epoch, Event, LaunchStart, TrialEnd, TrialStart
from tuning.launch.follower import JournalFollower, following
from tuning.launch.journal import Journal
from tuning.outcome import Outcome
from tuning.study import Study
from tuning.study.distributions import Distribution

FOLDER = "tensorboard"
LENGTH, CHECKSUM_BYTES = struct.Struct("<Q"), 4
"""A record consists of its length, the length's checksum, the content, and the content's checksum."""
PLUGIN, PLUGIN_VERSION = "hparams", 0
EXPERIMENT_TAG, START_TAG, END_TAG = (f"_hparams_/{name}" for name in ("experiment", "session_start_info", "session_end_info"))
"""Tags under which TensorBoard's HPARAMS tab finds the study, a trial's values, and how the trial ended."""
STATUS = {
    Outcome.COMPLETED: "STATUS_SUCCESS",
    Outcome.PRUNED: "STATUS_SUCCESS",
    Outcome.DIVERGED: "STATUS_FAILURE",
    Outcome.FAILED: "STATUS_FAILURE",
}
"""Status of trials that have finally ended; an interrupted one may continue."""


class EventFiles:
    """The event files of a launch in `folder`.

    It must be told all events of a launch from the start, and may be told them again: what complete records of existing files
    say is not written twice, and the rest goes into new files beside them, as a TensorBoard that is reading them expects.
    """

    def __init__(self, folder: Path, study: Study) -> None:
        self._folder = folder
        self._study = study
        self._told: dict[str, _Told] = {}
        self._writers: dict[str, Any] = {}

    def tell(self, event: Event) -> None:
        """Write what `event` has to show. OSError if that fails."""
        match event:
            case LaunchStart(time=time):
                self._once("", EXPERIMENT_TAG, time, experiment=_experiment(self._study, time))
                self._close("")
            case TrialStart(number=number, time=time):
                self._once(_run(number), START_TAG, time, session_start_info=_session(event, self._study.space))
            case Epoch(number=number, epoch=epoch, metrics=metrics) if epoch > self._known(_run(number)).epoch:
                self._write(_run(number), event.time, *_scalars(metrics), step=epoch)
            case TrialEnd(number=number, time=time, outcome=outcome) if outcome in STATUS:
                self._once(_run(number), END_TAG, time, session_end_info=_session_end(event))
                self._close(_run(number))

    def flush(self) -> None:
        """Make what has been written visible to readers."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Flush and close the files."""
        for run in list(self._writers):
            self._close(run)

    def _known(self, run: str) -> "_Told":
        if run not in self._told:
            self._told[run] = _read_told(self._folder / run)
        return self._told[run]

    def _once(self, run: str, tag: str, time: float, **content: Any) -> None:
        """Write what the HPARAMS tab reads under `tag`, unless it is already there."""
        if tag not in self._known(run).tags:
            self._known(run).tags.add(tag)
            self._write(run, time, _hparams_value(tag, **content))

    def _write(self, run: str, time: float, *values: Any, step: int = 0) -> None:
        """Write one record of `run`; its file is created with the first."""
        from tensorboardX.proto.event_pb2 import Event as Record
        from tensorboardX.proto.summary_pb2 import Summary

        if run not in self._writers:
            self._writers[run] = _new_file(self._folder / run)
        self._writers[run].write_event(Record(wall_time=time, step=step, summary=Summary(value=values)))

    def _close(self, run: str) -> None:
        if run in self._writers:
            self._writers.pop(run).close()


@dataclass
class _Told:
    """What the files of a run already contain: its last epoch, and the tags of its hyperparameters."""

    epoch: int = 0
    tags: set[str] = field(default_factory=set)


class EventFileWriter(JournalFollower[EventFiles]):
    """Writes a launch's event files while it runs."""

    def __init__(self, journal: Journal, study: Study) -> None:
        super().__init__(journal, journal.path.with_name(FOLDER), name="event-files")
        self._study = study
        self._events: list[Event] = []

    def _apply(self, event: Event) -> None:
        self._events.append(event)

    def _open(self) -> EventFiles:
        return EventFiles(self.path, self._study)

    def _write(self, target: EventFiles) -> None:
        for event in self._events:
            target.tell(event)
        if self._events:
            target.flush()
        self._events.clear()


@contextlib.contextmanager
def writing_event_files(journal: Journal, study: Study) -> Iterator[Sequence[EventFileWriter]]:
    """Write event files during the block, if the study asks for them. Yields the writers: one or none."""
    if not study.tracking.tensorboard:
        yield []
        return
    with following(EventFileWriter(journal, study)) as writer:
        yield [writer]


def _run(number: int) -> str:
    """A trial's name in TensorBoard: that of its folder."""
    return f"trial-{number:03d}"


def _new_file(folder: Path) -> Any:
    """A file that sorts after those in `folder`, even if they were made within the same second."""
    from tensorboardX.event_file_writer import EventsWriter

    folder.mkdir(parents=True, exist_ok=True)
    return EventsWriter(str(folder / "events"), filename_suffix=f".{len(_files(folder))}")


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*"))


def _read_told(folder: Path) -> _Told:
    told = _Told()
    for file in _files(folder):
        for record in _records(file.read_bytes()):
            told.epoch = max(told.epoch, record.step)
            told.tags |= {value.tag for value in record.summary.value if value.HasField("metadata")}
    return told


def _records(content: bytes) -> Iterator[Any]:
    """The complete records of an event file; the partial last record of a killed writer is skipped."""
    from tensorboardX.proto.event_pb2 import Event as Record

    position = 0
    while position + LENGTH.size <= len(content):
        (length,) = LENGTH.unpack_from(content, position)
        start = position + LENGTH.size + CHECKSUM_BYTES
        position = start + length + CHECKSUM_BYTES
        if position <= len(content):
            yield Record.FromString(content[start : start + length])


def _scalars(metrics: Mapping[str, float]) -> list[Any]:
    from tensorboardX.proto.summary_pb2 import Summary

    return [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]


def _hparams_value(tag: str, **content: Any) -> Any:
    """A summary value for the HPARAMS tab, with all its content in the metadata."""
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
    from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata

    data = HParamsPluginData(version=PLUGIN_VERSION, **content).SerializeToString()
    return Summary.Value(
        tag=tag, metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=PLUGIN, content=data))
    )


def _experiment(study: Study, time: float) -> Any:
    """The searched parameters with their domains, and the metrics that trials are compared by."""
    from tensorboardX.proto import api_pb2 as api

    metrics = [study.metric, "probe_kl", *(["test_accuracy"] if study.dataset is not None else [])]
    return api.Experiment(
        name=study.name,
        time_created_secs=time,
        hparam_infos=[_hparam_info(path, domain) for path, domain in study.space.items()],
        metric_infos=[api.MetricInfo(name=api.MetricName(tag=name)) for name in metrics],
    )


def _hparam_info(path: str, domain: Distribution) -> Any:
    from tensorboardX.proto import api_pb2 as api

    kind = _kind(domain)
    info = api.HParamInfo(name=path, type=f"DATA_TYPE_{kind}")
    if domain.sampler == "choice":
        for option in domain.arguments:
            info.domain_discrete.values.add(**_value(option, kind))
    else:
        info.domain_interval.min_value, info.domain_interval.max_value = map(float, domain.edges)
    return info


def _session(event: TrialStart, space: Mapping[str, Distribution]) -> Any:
    """A trial's values. The runs of a finalist form one group of sessions, whose mean the tab shows."""
    from tensorboardX.proto.plugin_hparams_pb2 import SessionStartInfo

    group = _run(event.number) if event.finalist_of is None else f"finalist-of-{_run(event.finalist_of)}"
    info = SessionStartInfo(group_name=group, start_time_secs=event.time)
    for path, value in event.point.items():
        if path in space:  # a finalist's seed is not in it
            for field, plain in _value(value, _kind(space[path])).items():
                setattr(info.hparams[path], field, plain)
    return info


def _session_end(event: TrialEnd) -> Any:
    from tensorboardX.proto.plugin_hparams_pb2 import SessionEndInfo

    return SessionEndInfo(status=STATUS[event.outcome], end_time_secs=event.time)


def _kind(domain: Distribution) -> str:
    """TensorBoard's data type for a parameter's values."""
    kinds = {type(option) for option in domain.arguments}
    return "BOOL" if kinds == {bool} else "FLOAT64" if kinds <= {int, float} else "STRING"


def _value(value: Any, kind: str) -> dict[str, Any]:
    """The field of protobuf's value to set."""
    if kind == "STRING":
        return {"string_value": str(value)}
    return {"bool_value" if kind == "BOOL" else "number_value": value}
