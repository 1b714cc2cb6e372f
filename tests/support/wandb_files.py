"""What Weights & Biases keeps of a run that is offline: records of protobuf in a log of LevelDB's form."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE_HEADER, RECORD_HEADER = 7, struct.Struct("<IHB")
BLOCK = 32 * 1024
WHOLE, LAST = 1, 4
"""Kinds of pieces that end a record; others are a record's beginning or its middle."""


def offline_runs(folder: Path) -> dict[str, Path]:
    """The files of the runs in `folder`, by the runs' ids."""
    return {path.stem.removeprefix("run-"): path for path in folder.glob("offline-run-*/run-*.wandb")}


def read_run(file: Path) -> dict[str, Any]:
    """A run's `about`, `config`, `history` (a mapping a row), `summary`, `step_metrics` by pattern, and `exit_code`."""
    read: dict[str, Any] = {"config": {}, "history": [], "summary": {}, "step_metrics": {}}
    for record in _records(file.read_bytes()):
        match record.WhichOneof("record_type"):
            case "run":
                read["about"] = record.run
                read["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            case "history":
                read["history"].append(_values(record.history.item))
            case "summary":
                read["summary"] |= _values(record.summary.update)
            case "metric":
                read["step_metrics"][record.metric.glob_name or record.metric.name] = record.metric.step_metric
            case "exit":
                read["exit_code"] = record.exit.exit_code
    return read


def _values(items: Any) -> dict[str, Any]:
    """By key, or by keys of keys with a slash between."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(content: bytes) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    position, pieces = FILE_HEADER, b""
    while position + RECORD_HEADER.size <= len(content):
        left = BLOCK - position % BLOCK
        if left < RECORD_HEADER.size:
            position += left  # the rest of a block is filled up
            continue
        _, length, kind = RECORD_HEADER.unpack_from(content, position)
        position += RECORD_HEADER.size
        pieces += content[position : position + length]
        position += length
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(pieces)
            yield record
            pieces = b""
