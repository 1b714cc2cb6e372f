"""Finds the state dicts in a file and chooses one: that of the only network in it, or the one that the user names."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cpsc.errors import CheckpointError, MissingSettingError
from cpsc.foreign.reading import Unread, describe

State = dict[str, Any]
"""Weights by name. A value is a tensor, or an `Unread` stand-in for an object that could not be read."""
KNOWN = ("state_dict", "model", "net", "module", "teacher", "student", "model_state_dict", "student_state_dict")
"""Keys under which training scripts save the weights, next to optimizers, epochs and scores."""
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module", "_dp_module"})
"""Parts of names that wrappers for data parallelism, compilation, sharding and recomputation add to a network's own."""
MAX_NESTING = 3
MOST_SHOWN = 3
TOP = "."
"""The name of weights at the top of a file that also holds averages."""
SAME_SHAPES = 0.8
_AVERAGED = frozenset({"avg", "average", "averaged", "shadow", "polyak"})
_OPTIMIZER = {"state", "param_groups"}


@dataclass(frozen=True, eq=False)
class Weights:
    """A state dict in a file and its place there: keys joined by dots, or "" for a file that is a state dict itself."""

    name: str
    state: State

    @property
    def is_known(self) -> bool:
        return self.name == "" or all(part in KNOWN for part in self.name.split("."))

    @property
    def is_averaged(self) -> bool:
        return any(map(_is_averaged, self.name.split(".")))


def own_name(name: str) -> str:
    """A weight's name without the parts that wrappers add."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def words(name: str) -> list[str]:
    """The words in a key, in lower case: ``train_acc`` and ``trainAcc`` give the same."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+[0-9]*", name)]


def choose(content: Mapping[Any, Any], chosen: str | None) -> Weights:
    """Choose the weights from the content of a file. CheckpointError if there are none; MissingSettingError if it is ambiguous."""
    found = list(_all_in(content, ""))
    if chosen is not None:
        return _named(content, found, chosen)
    if not found:
        raise CheckpointError(_no_weights(content))
    known = [weights for weights in found if weights.is_known and not weights.is_averaged]
    meant = known[0] if len(known) == 1 else found[0] if len(found) == 1 else None
    rivals = [weights for weights in found if meant is None or (weights is not meant and _is_like(weights.state, meant.state))]
    nameless = [key for key in _averages(content) if not any(_lies_in(weights.name, key) for weights in found)]
    if meant is None or rivals or (nameless and not meant.is_averaged):
        names = [weights.name or TOP for weights in found if weights is meant or weights in rivals]
        names += [f"{name} (averages without names)" for name in nameless]
        told = f"holds several networks ({', '.join(names)}): select one with weights, e.g. weights: {names[0]}"
        raise MissingSettingError(told, "weights", options=[name for name in names if " (" not in name])
    return meant


def some(names: Mapping[Any, Any]) -> str:
    """The first few keys, for an error message."""
    shown = ", ".join(repr(name)[:60] for name in list(names)[:MOST_SHOWN])
    return f"{shown or 'nothing'}{', ...' if len(names) > MOST_SHOWN else ''}"


def _named(content: Mapping[Any, Any], found: list[Weights], chosen: str) -> Weights:
    """The weights at `chosen`: the only state dict there, or the part of a state dict whose names begin with it."""
    within = [weights for weights in found if weights.name == chosen] or [
        weights for weights in found if weights.name.startswith(f"{chosen}.")
    ]
    if len(within) == 1:
        return within[0]
    if not within:
        whole = [Weights("", _values(content))] if _is_state(content) else []
        for weights in [*found, *whole]:
            start = f"{weights.name}." if weights.name else ""
            inside = f"{own_name(chosen.removeprefix(start))}."
            part = {own_name(name): value for name, value in weights.state.items() if own_name(name).startswith(inside)}
            if part and chosen.startswith(start) and inside != ".":
                return Weights(chosen, {name.removeprefix(inside): value for name, value in part.items()})
    names = ", ".join(weights.name or "weights at its top" for weights in (within or found)[: 2 * MOST_SHOWN])
    raise CheckpointError(f"weights: {chosen[:80]!r} is not a network in the file, which holds {names or some(content)}")


def _all_in(content: Any, name: str, depth: int = 0) -> Iterator[Weights]:
    """All state dicts in the content of a file, except those of optimizers."""
    if isinstance(content, Mapping) and content.keys() >= _OPTIMIZER:
        return
    if isinstance(content, Mapping) and _is_state(content):
        yield from _without_averages(_values(content), name)
    elif depth < MAX_NESTING:
        inner = content.items() if isinstance(content, Mapping) else enumerate(content) if isinstance(content, list | tuple) else ()
        for key, value in inner:
            if isinstance(value, Mapping | list | tuple) and str(key).isprintable():
                yield from _all_in(value, f"{name}.{key}" if name else str(key), depth + 1)


def _is_state(content: Mapping[Any, Any]) -> bool:
    """Whether it is a network's state dict: it holds a matrix or filters, and is flat or has names with dots."""
    if not content or not all(isinstance(name, str) for name in content):
        return False
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor | Unread)}
    is_flat = len(tensors) == len(content)
    return any(isinstance(value, Tensor) and value.ndim > 1 and (is_flat or "." in name) for name, value in tensors.items())


def _values(content: Mapping[str, Any]) -> State:
    """The tensors of a state dict; modules may also save arbitrary objects (``_extra_state``)."""
    if odd := [name for name in content if not name.isprintable()]:
        raise CheckpointError(f"the name of a weight must be printable, got {odd[0][:80]!r}")
    state = {name: value for name, value in content.items() if isinstance(value, Tensor | Unread)}
    return {name: value for name, value in state.items() if not name.endswith("_extra_state")}


def _without_averages(state: State, name: str) -> Iterator[Weights]:
    """`state`; or, if it holds a network and its average, each of them separately."""
    parts: dict[str, State] = {}
    for key, value in state.items():
        part, _, inside = own_name(key).partition(".")
        parts.setdefault(part if inside else "", {})[inside or part] = value
    averages = {part: inner for part, inner in parts.items() if _is_averaged(part) and _holds_matrix(inner)}
    others = {part: inner for part, inner in parts.items() if part not in averages}
    rest = {own_name(key): value for key, value in state.items() if own_name(key).partition(".")[0] not in averages}
    if not any(_is_like(average, other) for average in averages.values() for other in [rest, *others.values()]):
        yield Weights(name, state)
        return
    networks = {part: inner for part, inner in others.items() if part and _holds_matrix(inner)}
    for part, inner in (averages | (networks if len(networks) == 1 else {})).items():
        yield Weights(f"{name}.{part}" if name else part, inner)
    if len(networks) > 1:
        yield Weights(name or TOP, rest)


def _averages(content: Mapping[Any, Any]) -> list[str]:
    """The keys under which the file keeps averages of weights, with or without names."""
    inner = {key: value for key, value in content.items() if isinstance(key, str) and not isinstance(value, Tensor)}
    return [key for key, value in inner.items() if _is_averaged(key) and _holds_matrix(value)]


def _holds_matrix(value: Any, depth: int = 0) -> bool:
    """Whether it is or holds a tensor with at least two dimensions, as only networks, their gradients or averages have."""
    if isinstance(value, Tensor):
        return value.ndim > 1
    if isinstance(value, Unread):
        value = value.state
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return depth <= 2 * MAX_NESTING and any(_holds_matrix(part, depth + 1) for part in inner)


def _is_averaged(name: str) -> bool:
    """Whether a key says that its value is an average over steps: state_dict_ema, ModelEMA, swa_model, shadow."""
    return any(word in _AVERAGED or word.startswith(("ema", "swa")) or word.endswith(("ema", "swa")) for word in words(name))


def _is_like(state: State, other: State) -> bool:
    """Whether two states share half of their names or most shapes: two states of one network, or of two networks of a kind.

    Names are compared without dots, because averages are kept as buffers, whose names cannot have dots.
    """
    ours, theirs = ({own_name(name).replace(".", "") for name in names} for names in (state, other))
    shapes, others = (
        Counter(value.shape for value in values.values() if isinstance(value, Tensor) and value.ndim > 1)
        for values in (state, other)
    )
    most = max(shapes.total(), others.total())
    return 2 * len(ours & theirs) >= min(len(ours), len(theirs)) > 0 or (shapes & others).total() > SAME_SHAPES * most


def _lies_in(name: str, outer: str) -> bool:
    return name == outer or name.startswith(f"{outer}.")


def _no_weights(content: Mapping[Any, Any]) -> str:
    """Why `content`, which holds no state dict, is refused."""
    optimizers = [key for key, value in content.items() if isinstance(value, Mapping) and value.keys() >= _OPTIMIZER]
    if optimizers or content.keys() >= _OPTIMIZER:
        where = f" ({str(optimizers[0])[:60]})" if optimizers else ""
        return f"holds the state of an optimizer{where} but no weights: save the state_dict() of the network"
    for key, value in content.items():
        if isinstance(value, Unread) and (key in KNOWN or _is_averaged(str(key)) or value.is_network):
            return f"holds no weights: {str(key)[:60]!r} is {describe(value)}"
    found = _innermost(content)
    if unread := next((value for value in found.values() if isinstance(value, Unread)), None):
        name = next(name for name, value in found.items() if value is unread)
        return f"holds no tensors: {str(name)[:60]!r} is a {unread.origin[:80]}, torch.save tensors instead"
    return f"holds no weights, neither at the top nor under {', '.join(KNOWN)}: found {some(found)}"


def _innermost(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """What is nested under the known keys."""
    for _ in range(MAX_NESTING):
        inner = [content[name] for name in KNOWN if isinstance(content.get(name), Mapping)]
        if len(inner) != 1:
            break
        content = inner[0]
    return content
