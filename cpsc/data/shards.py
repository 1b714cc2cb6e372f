"""Are the files of one part a whole set? Names tell: ``train-00001-of-00003.parquet``, ``train_1_of_3``, ``0001.parquet``."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cpsc.errors import DataError

OF = re.compile(r"(?<![0-9])(?P<index>[0-9]+)(?P<between>[-_. ]?of[-_. ]?)(?P<total>[0-9]+)(?![0-9])", re.IGNORECASE)
NUMBERED = re.compile(r"(?P<stem>.*?)(?P<index>[0-9]+)\.parquet", re.IGNORECASE)
PADDED = 4
"""Digits that tools number files with from 0; people who count from 1 use fewer."""


@dataclass(frozen=True)
class _Shard:
    name: str
    index: int
    total: int


def check_shards(names: Sequence[str], where: str, say: Callable[[str], None]) -> None:
    """Raise DataError where `names`, at least one, in one folder, are not all the files of one set, each once.

    Where that cannot be told from them but is doubtful, `say` gets it.
    """
    found = [(name, OF.search(name)) for name in names]
    shards = [_Shard(name, int(match["index"]), int(match["total"])) for name, match in found if match]
    others = [name for name, match in found if not match]
    if shards and others:
        raise DataError(f"{where}: {others[0]} and {shards[0].name} are of two sets, keep one")
    if shards:
        _check_set(shards, where)
    else:
        _check_numbers(others, where, say)


def _check_set(shards: Sequence[_Shard], where: str) -> None:
    first = shards[0]
    seen: dict[int, _Shard] = {}
    for shard in shards:
        if shard.total != first.total:
            raise DataError(f"{where}: {first.name} and {shard.name} are of two sets, keep one")
        if shard.index in seen:
            raise DataError(f"{where}: {seen[shard.index].name} and {shard.name} are the same shard, keep one")
        seen[shard.index] = shard
    from_one = 0 not in seen and first.total in seen
    wanted = range(from_one, first.total + from_one)
    if beyond := [shard for shard in shards if shard.index not in wanted]:
        raise DataError(f"{where}: {beyond[0].name} is numbered beyond its set, which has {first.total}")
    if missing := [index for index in wanted if index not in seen]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{where}: {_name_of(missing[0], first)}{more} is missing, its set has {first.total} files: fetch it")


def _name_of(index: int, like: _Shard) -> str:
    """What another shard of its set is called; some names end in a digest of the file."""
    match = OF.search(like.name)
    assert match is not None
    rest = ".parquet" if like.name[match.end() :].lower() == ".parquet" else "*.parquet"
    return f"{like.name[: match.start()]}{index:0{len(match['index'])}d}{match['between']}{match['total']}{rest}"


def _check_numbers(names: Sequence[str], where: str, say: Callable[[str], None]) -> None:
    """Of files without a total: one without a number is the whole part; numbers from 0 or 1 have no gap."""
    matches = [NUMBERED.fullmatch(name) for name in names]
    if len(names) > 1 and (whole := [name for name in names if re.fullmatch(r"[a-z]+\.parquet", name, re.IGNORECASE)]):
        other = next(name for name in names if name != whole[0])
        raise DataError(f"{where}: {whole[0]} and {other} are of two sets, keep one")
    numbered = [match for match in matches if match]
    if len(numbered) < len(names) or len({match["stem"] for match in numbered}) > 1:
        return
    indices = sorted(int(match["index"]) for match in numbered)
    if len(set(indices)) < len(indices):
        return  # 1 and 01: two namings, whose rows tell whether they are one file
    like = numbered[0]
    counts = indices[0] <= 1 or like["index"].startswith("0")  # a year does not
    if counts and (missing := [index for index in range(indices[0], indices[-1]) if index not in indices]):
        raise DataError(
            f"{where}: {like['stem']}{missing[0]:0{len(like['index'])}d}.parquet is missing between the others: fetch it"
        )
    if indices[0] > 0 and len(like["index"]) >= PADDED and counts:
        say(f"{where}: its files are numbered from {like['index']}; if there is one of a lower number, it is missing here")
