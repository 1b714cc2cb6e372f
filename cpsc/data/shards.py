"""Checks by file names whether a part is complete: ``train-00001-of-00003.parquet``, ``train_1_of_3``, ``0001.parquet``."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cpsc.errors import DataError

OF = re.compile(r"(?<![0-9])(?P<index>[0-9]+)(?P<between>[-_. ]?of[-_. ]?)(?P<total>[0-9]+)(?![0-9])", re.IGNORECASE)
NUMBERED = re.compile(r"(?P<stem>.*?)(?P<index>[0-9]+)\.parquet", re.IGNORECASE)
PADDED = 4
"""Number of digits in names numbered by tools, which start from 0; people, who start from 1, use fewer digits."""


@dataclass(frozen=True)
class _Shard:
    name: str
    index: int
    total: int


def check_shards(names: Sequence[str], where: str, say: Callable[[str], None]) -> None:
    """Raise DataError unless `names`, at least one, in one folder, are all the files of one set, each once.

    If that is doubtful but cannot be decided by the names, `say` is told.
    """
    found = [(name, OF.search(name)) for name in names]
    shards = [_Shard(name, int(match["index"]), int(match["total"])) for name, match in found if match]
    others = [name for name, match in found if not match]
    if shards and others:
        raise DataError(f"{where}: {others[0]} and {shards[0].name} belong to two sets, keep one set")
    if shards:
        _check_set(shards, where)
    else:
        _check_numbers(others, where, say)


def _check_set(shards: Sequence[_Shard], where: str) -> None:
    first = shards[0]
    seen: dict[int, _Shard] = {}
    for shard in shards:
        if shard.total != first.total:
            raise DataError(f"{where}: {first.name} and {shard.name} belong to two sets, keep one set")
        if shard.index in seen:
            raise DataError(f"{where}: {seen[shard.index].name} and {shard.name} are the same shard, keep one")
        seen[shard.index] = shard
    from_one = 0 not in seen and first.total in seen
    wanted = range(from_one, first.total + from_one)
    if beyond := [shard for shard in shards if shard.index not in wanted]:
        raise DataError(f"{where}: {beyond[0].name} has a number beyond its set, which has {first.total} files")
    if missing := [index for index in wanted if index not in seen]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{where}: lacks {_name_of(missing[0], first)}{more}, the set has {first.total} files: download it")


def _name_of(index: int, like: _Shard) -> str:
    """The name of another shard of the set; some names end with a digest of the file."""
    match = OF.search(like.name)
    assert match is not None
    rest = ".parquet" if like.name[match.end() :].lower() == ".parquet" else "*.parquet"
    return f"{like.name[: match.start()]}{index:0{len(match['index'])}d}{match['between']}{match['total']}{rest}"


def _check_numbers(names: Sequence[str], where: str, say: Callable[[str], None]) -> None:
    """Check files without a total: a file without a number is the whole part; numbers from 0 or 1 must have no gaps."""
    matches = [NUMBERED.fullmatch(name) for name in names]
    if len(names) > 1 and (whole := [name for name in names if re.fullmatch(r"[a-z]+\.parquet", name, re.IGNORECASE)]):
        other = next(name for name in names if name != whole[0])
        raise DataError(f"{where}: {whole[0]} and {other} belong to two sets, keep one set")
    numbered = [match for match in matches if match]
    if len(numbered) < len(names) or len({match["stem"] for match in numbered}) > 1:
        return
    indices = sorted(int(match["index"]) for match in numbered)
    if len(set(indices)) < len(indices):
        return  # 1 and 01 are two naming schemes; the rows tell whether they are the same file
    like = numbered[0]
    counts = indices[0] <= 1 or like["index"].startswith("0")  # unlike a year
    if counts and (missing := [index for index in range(indices[0], indices[-1]) if index not in indices]):
        raise DataError(
            f"{where}: {like['stem']}{missing[0]:0{len(like['index'])}d}.parquet is missing between the others: download it"
        )
    if indices[0] > 0 and len(like["index"]) >= PADDED and counts:
        say(f"{where}: its files are numbered from {like['index']}; check that no file with a lower number is missing")
