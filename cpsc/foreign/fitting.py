"""Fits a file's weights to a network: its names, its dtypes, and nothing that does not belong to the network."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cpsc.errors import CheckpointError, MissingSettingError
from cpsc.foreign.reading import Unread
from cpsc.foreign.state_dicts import State, own_name, words

COUNTER = "num_batches_tracked"
"""Counts a batch norm's training steps; torch before 0.4.1 did not have it, and a frozen network does not use it."""
_BOOKKEEPING = frozenset({COUNTER, "total_ops", "total_params", "n_averaged", "initted"})
"""Last parts of the names of counters; profilers leave some in every layer."""
_COUNTERS = frozenset({"step", "num_updates", "decay", "updates"})
"""Names of counters at the top of a state dict, left by averaging wrappers."""
_JUDGES = ("criterion", "criteria", "criterions", "loss", "losses", "lossfn", "entropy", "ce", "mixup", "cutmix")
_METRICS = ("metric", "metrics", "meter", "acc", "accuracy", "top1", "top5", "f1", "precision", "recall", "auc", "auroc", "confmat")
_BESIDE = frozenset(_JUDGES + _METRICS)
"""Words in the names of losses and metrics that training scripts keep in one module with the network."""
_ADAPTER = frozenset({"head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"})
"""The projection head that CPSC-DFKD's code saves with its students, next to ``model``."""


def unprefixed(state: State, anchors: Sequence[str], where: str = "") -> tuple[State, list[str]]:
    """The part of `state` that belongs to the network with one of `anchors`, by its own names, and remarks on what was left out.

    If there is no such network, `state` is returned as it is. CheckpointError if there are several, or layers outside of it.
    `where`: the place of `state` in the file.
    """
    state = _by_own_names(state)
    prefixes = [name.removesuffix(anchor) for name in state for anchor in anchors if _ends(name, anchor)]
    if not prefixes:
        return state, []
    prefix = _only(prefixes, where)
    outside = _outside(state, prefix, where)
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    beside = [name for name in inside if _is_beside(name) and not name.endswith(COUNTER)]
    network = {name: _tensor(name, value) for name, value in inside.items() if name not in beside}
    return network, _remarks([*outside, *beside])


def is_fitted(state: State, expected: Mapping[str, Tensor], where: str = "") -> bool:
    """Whether `state` has all names and shapes of `expected`."""
    fitted, _ = fit(state, expected, where)
    return all(name in fitted and fitted[name].shape == wanted.shape for name, wanted in expected.items())


def fit(state: State, expected: Mapping[str, Tensor], where: str = "") -> tuple[dict[str, Tensor], list[str]]:
    """`state` with the names and dtypes of `expected`, and remarks on what was left out or converted.

    What does not fit stays as it is; checking the weights then refuses it by name. CheckpointError if a weight is of a kind that
    no network computes with, or if several parts of `state` fit equally well. `where`: the place of `state` in the file.
    """
    state, names = _by_own_names(state), _by_own_names({name: name for name in expected})
    prefix, cut, fits = _place(state, {own: expected[name] for own, name in names.items()}, where)
    outside = _outside(state, prefix, where) if fits else []
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    fitted: dict[str, Tensor] = {}
    for own, name in names.items():
        found = inside.pop(own.removeprefix(cut), None)
        if found is not None:
            fitted[name] = _converted(name, found, expected[name])
        elif name.endswith(COUNTER):
            fitted[name] = torch.zeros_like(expected[name], device="cpu")
    beside = [name for name in inside if _is_beside(name)]
    extra = {f"{cut}{name}": _tensor(name, value) for name, value in inside.items() if name not in beside}
    return fitted | extra, _remarks([*outside, *beside])


def stored_dtypes(state: State) -> list[str]:
    """A remark on each dtype other than float32 that weights are stored in; networks compute in float32."""
    floating = [value.dtype for value in state.values() if isinstance(value, Tensor) and value.is_floating_point()]
    others = Counter(dtype for dtype in floating if dtype != torch.float32)
    return [
        f"{number} of {len(floating)} weights are {str(dtype).removeprefix('torch.')} and converted to float32"
        for dtype, number in others.items()
    ]


def _by_own_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """`state` without the parts of names that wrappers add, unless that makes two names equal."""
    bare = {own_name(name): value for name, value in state.items()}
    return bare if len(bare) == len(state) else dict(state)


def _outside(state: State, prefix: str, where: str) -> list[str]:
    """The names that do not begin with `prefix`; CheckpointError if one may belong to a layer that computes."""
    outside = [name for name in state if not name.startswith(prefix)]
    layers = [name for name in outside if not _is_beside(name)]
    if not _ADAPTER.issuperset(layers):
        raise CheckpointError(
            f"it has {layers[0]} outside of the network under {prefix.rstrip('.')}: if the network does not use that, "
            f"select the network alone with weights: {_dotted(where, prefix)}"
        )
    return outside


def _place(state: State, expected: Mapping[str, Tensor], where: str) -> tuple[str, str, bool]:
    """The prefix of the network's names in `state`, the prefix to cut from `expected`, and whether all names are there.

    A factory may wrap its network once more, or once less, than the program that saved the weights. If not all names are there,
    the place with most of them is returned, so that an error names what is really missing.
    """
    cut, most = "", (len(expected) // 2, "", "")
    while True:
        needed = {name.removeprefix(cut): tensor for name, tensor in expected.items() if not name.endswith(COUNTER)}
        prefixes = [prefix for prefix in _prefixes(state, needed) if all(f"{prefix}{name}" in state for name in needed)]
        shaped = [prefix for prefix in prefixes if all(_is_shaped(state[f"{prefix}{name}"], needed[name]) for name in needed)]
        if shaped or len(set(prefixes)) == 1:
            return _only(shaped or prefixes, where), cut, True
        most = max(most, *((number, prefix, cut) for prefix, number in _hits(state, needed).items()), (0, "", ""))
        if not (part := _common_part(needed)):
            return most[1], most[2], False
        cut += part


def _prefixes(state: State, needed: Iterable[str]) -> list[str]:
    """The prefixes before the first of `needed` in the names of `state`."""
    first = next(iter(needed), "")
    return [name.removesuffix(first) for name in state if first and _ends(name, first)]


def _ends(name: str, last: str) -> bool:
    return name == last or name.endswith(f".{last}")


def _common_part(names: Iterable[str]) -> str:
    """The common first part of all `names`, with its dot; "" if they begin differently or have a single part."""
    parts = {name.partition(".")[0] if "." in name else "" for name in names}
    return f"{part}." if len(parts) == 1 and (part := parts.pop()) else ""


def _hits(state: State, needed: Iterable[str]) -> Counter[str]:
    """How many of `needed` are in `state` with each prefix."""
    return Counter(name.removesuffix(wanted) for wanted in needed for name in state if _ends(name, wanted))


def _only(prefixes: Iterable[str], where: str) -> str:
    """The only one of `prefixes`; the empty one wins over all others. MissingSettingError if there are several."""
    found = sorted(set(prefixes))
    if len(found) > 1 and found[0]:
        named = [_dotted(where, prefix) for prefix in found]
        told = f"holds several networks that fit ({', '.join(named)}): select one with weights, e.g. weights: {named[0]}"
        raise MissingSettingError(told, "weights", options=named)
    return found[0]


def _dotted(where: str, prefix: str) -> str:
    return f"{where}.{prefix}".strip(".")


def _is_shaped(found: object, wanted: Tensor) -> bool:
    return isinstance(found, Tensor) and found.shape == wanted.shape


def _is_beside(name: str) -> bool:
    """Whether a weight belongs to a counter, a loss or a metric, not to the network."""
    return _counts(name) or not _BESIDE.isdisjoint(words(name.partition(".")[0]))


def _counts(name: str) -> bool:
    return name.rpartition(".")[2] in _BOOKKEEPING or name in _COUNTERS


def _remarks(names: Iterable[str]) -> list[str]:
    parts = list(dict.fromkeys(name.partition(".")[0] for name in names if not _counts(name)))
    return [f"left out {', '.join(parts)}, which the network does not use"] if parts else []


def _tensor(name: str, value: object) -> Tensor:
    if isinstance(value, Unread):
        raise CheckpointError(f"its weight {name} is a {value.origin[:80]}, not a tensor: save tensors only")
    assert isinstance(value, Tensor)
    return value


def _converted(name: str, value: object, wanted: Tensor) -> Tensor:
    """Convert to the dtype of `wanted`: narrow floats are widened exactly, wide ones are rounded."""
    found = _tensor(name, value)
    if odd := _odd_kind(found, wanted):
        raise CheckpointError(f"its weight {name} is {odd}")
    if not wanted.is_floating_point():
        return _as_count(found, wanted)
    try:
        converted = found.to(wanted.dtype)
    except RuntimeError as error:
        raise CheckpointError(f"its weight {name} is {found.dtype}, which cannot be converted to {wanted.dtype}") from error
    if found.dtype == torch.float64 and bool((found.isfinite() & ~converted.isfinite()).any()):
        raise CheckpointError(f"its weight {name} has values too large for {wanted.dtype}, up to {found.abs().max().item():.3g}")
    return converted


def _odd_kind(found: Tensor, wanted: Tensor) -> str:
    """What is wrong with a tensor that no network can compute with; "" if it is an ordinary one."""
    if type(found) not in (Tensor, nn.Parameter):
        return f"a {type(found).__name__}, not a plain tensor: gather shards and dequantize before you save it"
    if found.is_quantized:
        return f"quantised ({found.dtype}): save the weights that it was made from, or dequantize() each"
    if found.layout != torch.strided or found.is_nested:
        return f"sparse ({found.layout}): save it with to_dense()"
    if found.device.type == "meta":
        return "a shape without values (on the meta device): save it after it is loaded"
    if found.dtype.is_complex:
        return f"complex ({found.dtype}): networks that compute with complex numbers are not supported"
    if wanted.is_floating_point() and not found.is_floating_point():
        return f"{found.dtype}, quantised or a mask: save the floating-point weights that it was made from"
    return ""


def _as_count(found: Tensor, wanted: Tensor) -> Tensor:
    """Convert to a whole number; a script may have cast it to float with everything else. If that overflowed, it becomes 0."""
    if found.numel() != wanted.numel():
        return found
    known = torch.where(found.isfinite(), found, torch.zeros_like(found)) if found.is_floating_point() else found
    return known.to(wanted.dtype).reshape(wanted.shape)
