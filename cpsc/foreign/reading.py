"""Reads files that other programs saved, in torch's formats or safetensors, without executing anything in them."""

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from cpsc import checkpoint
from cpsc.errors import CheckpointError
from cpsc.foreign.file_kinds import ZIP, is_safetensors, pickle_protocol, told_kind

MAX_UNREAD = 200
"""Largest number of kinds of objects that a file may hold besides its weights."""
TORCH_PROTOCOL = 2
_WHOLE = "a whole network, pickled with its class"
_MADE_BY = {"_reconstruct": "numpy.ndarray", "scalar": "NumPy scalar"}
"""What NumPy's functions in a pickle produce; the names of their modules change between versions."""
_SAVE = "load it with the program that made it and save its state_dict()"
_UNKNOWN = re.compile(r"Unsupported global: GLOBAL (\S+) was not")
_BLOCKED = re.compile(r"unsupported GLOBAL (\S+) whose module")
_NO_MAPPING = re.compile(r"Can only SETITEMS? for .*but got <class '([^']+)'>")
_NO_LIST = re.compile(r"Can only (?:append to|extend) lists, but got <class '([^']+)'>")


class Unread:
    """Stand-in for an object of a class that torch does not read by itself: it has a name and does nothing.

    A pickle creates objects by calling what it names. Unknown classes are neither imported nor called: a subclass of this one
    takes their place, which accepts any arguments and state.
    """

    origin: ClassVar[str]
    """``module.name`` in the file."""
    state: Any = None
    """The state that its own program would restore it from."""

    def __new__(cls, *args: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    @property
    def is_network(self) -> bool:
        """Whether its state is that of an nn.Module."""
        return isinstance(self.state, Mapping) and "_modules" in self.state


class _UnreadMapping(Unread):
    """The same for subclasses of dict, whose items are read."""

    def __new__(cls, *args: Any) -> Any:
        return OrderedDict()


class _UnreadList(Unread):
    """The same for subclasses of list."""

    def __new__(cls, *args: Any) -> Any:
        return []


def read(path: Path) -> tuple[dict[Any, Any], list[str]]:
    """The content of the file, and the names of the classes of objects that were not restored.

    CheckpointError, which says what the file is, if no weights can be read from it.
    """
    try:
        if told := told_kind(path):
            raise CheckpointError(f"{path}: {told}")
        if is_safetensors(path):
            return _read_safetensors(path), []
        content, unread = _read_torch(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such teacher file") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    if isinstance(content, list | tuple) and any(isinstance(part, Mapping) for part in content):
        content = {str(index): part for index, part in enumerate(content)}
    if isinstance(content, Unread):
        raise CheckpointError(f"{path}: not a readable teacher file, but {describe(content)}")
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a teacher file, it holds a {type(content).__name__}")
    return content, unread


def describe(found: Unread) -> str:
    """What the object in the file is, and what to do."""
    what = _WHOLE if found.is_network else "a Python object"
    return f"{what} ({found.origin[:80]!r}), which only the code of that program can restore: {_SAVE}"


def _read_safetensors(path: Path) -> dict[Any, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        reason = str(error).splitlines()[0][:100]
        raise CheckpointError(f"{path}: not a readable safetensors file (truncated or corrupt: {reason})") from error


def _read_torch(path: Path) -> tuple[Any, list[str]]:
    """Read the output of any version of torch.save. Versions before 1.6 wrote neither archives nor checksums."""
    with path.open("rb") as handle:
        is_archive = handle.read(len(ZIP)) == ZIP
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the age and the pickle protocol of a file
            if is_archive:
                checkpoint.check_archive(path)
            return _load(path)
    except OSError:
        raise
    except Exception as error:  # files of other kinds fail in many ways
        raise CheckpointError(f"{path}: not a readable teacher file{_reason(path, str(error))}") from error


def _load(path: Path) -> tuple[Any, list[str]]:
    """Torch reports one unknown class at a time; each gets a stand-in, and reading starts again."""
    kinds: dict[str, type[Unread]] = {}
    while True:
        try:
            with torch.serialization.safe_globals([(kind, name) for name, kind in kinds.items()]):
                return torch.load(path, map_location="cpu", weights_only=True), sorted(kinds)
        except pickle.UnpicklingError as error:
            needed = _needed(str(error))
            if needed is None or len(kinds) >= MAX_UNREAD:
                raise
            name, base = needed
            before = kinds.get(name)
            if (before is None) != (base is Unread) or (before is not None and before.__base__ is base):
                raise  # it already has the stand-in that it asks for
            kinds[name] = _stand_in(name, base)


def _needed(message: str) -> tuple[str, type[Unread]] | None:
    """The name of the class that torch lacks, and the base class of its stand-in."""
    for pattern, base in ((_UNKNOWN, Unread), (_NO_MAPPING, _UnreadMapping), (_NO_LIST, _UnreadList)):
        if found := pattern.search(message):
            return (found[1] if "." in found[1] else f"builtins.{found[1]}"), base
    return None


def _stand_in(name: str, base: type[Unread]) -> type[Unread]:
    module, _, own = name.rpartition(".")
    origin = _MADE_BY.get(own, name) if module.startswith("numpy.") else name
    return type(own, (base,), {"__module__": module, "origin": origin})


def _reason(path: Path, message: str) -> str:
    """The reason that follows "not a readable teacher file"."""
    if found := _BLOCKED.search(message):
        return f", it names {found[1][:80]!r}, which runs programs: nothing was run; weights never need it, use another file"
    if "Tensor subclass" in message:
        return ", it holds tensors of a custom class: save plain tensors"
    if "DTensors" in message:
        return ", it holds shards of tensors (DTensor): gather the whole state_dict before you save it"
    if "Only persistent_load of storage" in message:
        return f", it holds {_WHOLE}: {_SAVE}"
    if "Unsupported operand" in message and (protocol := pickle_protocol(path)) > TORCH_PROTOCOL:
        return f", it was saved with pickle protocol {protocol}: save it again without pickle_protocol, or as safetensors"
    if "Trying to call" in message:
        return ", it holds an object created by a function call, and nothing is called: save tensors only"
    if "Can only" in message:
        return ", it holds an object in a form that cannot be skipped: save the state_dict() only"
    return " (truncated, corrupt or of another kind)"
