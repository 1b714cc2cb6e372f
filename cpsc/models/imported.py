"""A network of the user's own, named by import path, made to return ``Output`` like every other."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cpsc.errors import ConfigError
from cpsc.import_path import import_object, told_in_a_line
from cpsc.models.output import Output

PREFIX = "network."
"""Prefix of the user's own keys in the wrapped network's state dict."""
NUM_CLASSES = "num_classes"
PROBE_BATCH = 2
_RETURN = "return the scores [B, C] that an nn.Linear computes, or cpsc.models.Output(features, logits)"


def build_imported(path: str, *, num_classes: int, channels: int, image_size: int) -> nn.Module:
    """Import the factory at `path`, call it, and wrap the network that it makes so that it returns ``Output``.

    This runs the user's code: `path` must come from a person, never from a file. The factory gets those of `num_classes`,
    `channels` and `image_size` that its signature names, and `num_classes` if it takes arbitrary options by name, as in torchvision
    and timm. Unless the network returns features, two black images are passed through to find them: they are the input of the
    nn.Linear that computes the scores, or else of the last one that runs. ConfigError if the factory cannot be imported or fails,
    or if its network's output is not understood.
    """
    factory = _import_factory(path)
    known = {NUM_CLASSES: num_classes, "channels": channels, "image_size": image_size}
    positional, named = _arguments(factory, known, path)
    with told_in_a_line(f"factory {path}", "fails when called"):
        network = _unwrapped(factory(*positional, **named))
    if isinstance(network, torch.jit.ScriptModule):
        raise ConfigError(f"factory {path}: returns TorchScript, whose layers cannot be observed: return the original module")
    if not isinstance(network, nn.Module):
        raise ConfigError(f"factory {path}: must return a torch.nn.Module, got a {type(network).__name__}")
    network = network.float().cpu()  # a teacher's weights are float32, wherever it is placed later
    images = torch.zeros(PROBE_BATCH, channels, image_size, image_size)
    with told_in_a_line(f"factory {path}", f"its network fails on images {tuple(images.shape)}"):
        returned, passes = _probe(network, images)
    try:
        wrapped = _wrap(network, returned, passes, num_classes)
    except ConfigError as error:
        raise ConfigError(f"factory {path}: {error}") from error
    if odd := [name for name, value in wrapped.state_dict().items() if not isinstance(value, Tensor)]:
        raise ConfigError(f"factory {path}: its state_dict must hold tensors only, {odd[0]!r} is not one")
    return wrapped


class TappedNetwork(nn.Module):
    """A network that returns logits; the features are the input of its layer `classifier`."""

    def __init__(self, network: nn.Module, *, classifier: str, feature_dim: int) -> None:
        super().__init__()
        self.network = network
        self.feature_dim = feature_dim
        self.stages: tuple[nn.Module, ...] = ()
        self._classifier = classifier  # by name: as an attribute the layer would be in the state dict twice

    def forward(self, x: Tensor) -> Output:
        entered: list[Tensor] = []
        with _noting(self.network.get_submodule(self._classifier), entered.append):
            logits = self.network(x)
        return Output(entered[-1].flatten(1), logits)


class PairedNetwork(nn.Module):
    """A network that returns features and logits, the latter at position `logits_at`."""

    def __init__(self, network: nn.Module, *, logits_at: int, feature_dim: int) -> None:
        super().__init__()
        self.network = network
        self.feature_dim = feature_dim
        self.stages: tuple[nn.Module, ...] = ()
        self._logits_at = logits_at

    def forward(self, x: Tensor) -> Output:
        pair = self.network(x)
        return Output(pair[1 - self._logits_at].flatten(1), pair[self._logits_at])


def _import_factory(path: str) -> Callable[..., Any]:
    factory: Callable[..., Any] = import_object(path)
    if not callable(factory):
        raise ConfigError(f"factory {path}: must be a function or class that makes a network, got a {type(factory).__name__}")
    return factory


def _arguments(factory: Callable[..., Any], known: dict[str, int], path: str) -> tuple[list[int], dict[str, int]]:
    """The arguments in `known` that the factory takes, by position and by name; ConfigError if it needs others."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"factory {path}: its arguments are unknown, wrap it in a function of {', '.join(known)}") from error
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [given.name for given in parameters if given.default is given.empty and given.kind not in variadic]
    if unknown := [name for name in needed if name not in known]:
        raise ConfigError(
            f"factory {path}: needs {', '.join(unknown)}, but gets only {', '.join(known)}: give other arguments defaults"
        )
    takes_options = any(given.kind is inspect.Parameter.VAR_KEYWORD for given in parameters)
    taken = [given for given in parameters if given.name in known and given.kind not in variadic]
    positional = [known[given.name] for given in taken if given.kind is inspect.Parameter.POSITIONAL_ONLY]
    named = {given.name: known[given.name] for given in taken if given.kind is not inspect.Parameter.POSITIONAL_ONLY}
    if takes_options and not any(given.name == NUM_CLASSES for given in taken):
        named[NUM_CLASSES] = known[NUM_CLASSES]
    return positional, named


def _unwrapped(network: Any) -> Any:
    """The network without wrappers that compile it or distribute it over devices; here, settings decide about that."""
    while isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(network, "_orig_mod"):
        network = network._orig_mod if hasattr(network, "_orig_mod") else network.module
    return network


@contextmanager
def _noting(layer: nn.Module, note: Callable[[Tensor], None]) -> Iterator[None]:
    """Inside the block, call `note` with each input of `layer`."""

    def hook(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        note(args[0] if args else kwargs["input"])

    handle = layer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class _Pass(NamedTuple):
    """One nn.Linear as it ran: its name, its input and its output."""

    name: str
    entered: Tensor
    left: Tensor


def _probe(network: nn.Module, images: Tensor) -> tuple[Any, list[_Pass]]:
    """What the network returns, and each nn.Linear that ran, in order."""
    passes: list[_Pass] = []

    def note(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], left: Tensor) -> None:
        passes.append(_Pass(name, args[0] if args else kwargs["input"], left))

    was_training = network.training
    network.eval()
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    handles = [
        layer.register_forward_hook(lambda _layer, args, kwargs, left, name=name: note(name, args, kwargs, left), with_kwargs=True)
        for name, layer in layers
    ]
    try:
        with torch.no_grad():
            returned = network(images)
    finally:
        for handle in handles:
            handle.remove()
    network.train(was_training)
    return returned, passes


def _classifier(passes: Sequence[_Pass], logits: Tensor) -> _Pass:
    """The layer that computes `logits`, not always the last one if there are several heads; the last one if none does."""
    computing = [one for one in passes if one.left.shape == logits.shape and torch.equal(one.left, logits)]
    return (computing or passes)[-1]


def _wrap(network: nn.Module, returned: Any, passes: list[_Pass], num_classes: int) -> nn.Module:
    """Wrap `network` to return ``Output``, depending on what it returned. ConfigError if that is unusable or ambiguous."""
    if isinstance(returned, Tensor):
        _check_logits(returned, num_classes)
        if not passes:
            raise ConfigError(f"no nn.Linear runs in its forward pass, so its features are unknown: {_RETURN}")
        found = _classifier(passes, returned)
        return TappedNetwork(network, classifier=found.name, feature_dim=_feature_dim(found.entered))
    if not isinstance(returned, tuple | list) or len(returned) != 2 or not all(isinstance(part, Tensor) for part in returned):
        raise ConfigError(f"its network returns a {type(returned).__name__}, not scores or a pair of tensors: {_RETURN}")
    logits_at = 1 if isinstance(returned, Output) else _find_logits(returned, num_classes)
    _check_logits(returned[logits_at], num_classes)
    return PairedNetwork(network, logits_at=logits_at, feature_dim=_feature_dim(returned[1 - logits_at]))


def _find_logits(pair: Sequence[Tensor], num_classes: int) -> int:
    candidates = [index for index, part in enumerate(pair) if part.shape == (PROBE_BATCH, num_classes)]
    if len(candidates) != 1:
        shapes = " and ".join(str(tuple(part.shape)) for part in pair)
        which = "either" if candidates else "neither"
        raise ConfigError(f"its network returns {shapes}, {which} could be scores of {num_classes} classes: {_RETURN}")
    return candidates[0]


def _check_logits(logits: Tensor, num_classes: int) -> None:
    if logits.shape != (PROBE_BATCH, num_classes) or not logits.is_floating_point():
        raise ConfigError(
            f"its network returns {logits.dtype} {tuple(logits.shape)} for {PROBE_BATCH} images, "
            f"must be floating scores {(PROBE_BATCH, num_classes)}"
        )
    if (logits >= 0).all() and torch.allclose(logits.float().sum(dim=1), torch.ones(PROBE_BATCH), atol=1e-4):
        raise ConfigError("its network returns probabilities, must return the scores before softmax")


def _feature_dim(features: Tensor) -> int:
    if features.ndim < 2 or len(features) != PROBE_BATCH:
        raise ConfigError(f"its features are {tuple(features.shape)} for {PROBE_BATCH} images, must be a row per image: {_RETURN}")
    return features[0].numel()
