"""A traced network: its layers, norms and residual sums, and which of them share their channels."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from cpsc.models.output import Output
from cpsc.models.reconstruction.layers import FITTED, NORMS, refusal

ADDITIONS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add)
PASSING: tuple[Any, ...] = (
    nn.ReLU,
    nn.ReLU6,
    nn.Identity,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Dropout,
    F.relu,
    F.avg_pool2d,
    F.max_pool2d,
    F.adaptive_avg_pool2d,
    torch.flatten,
    "flatten",
    "mean",
)
"""Operations that keep the channels and their order."""


def traced(network: nn.Module) -> fx.GraphModule:
    """The network's graph; ConfigError if its order of layers depends on the images."""
    try:
        return fx.symbolic_trace(network)
    except Exception as error:  # a forward pass may fail in any way on the stand-in for images
        raise refusal(f"{type(network).__name__} has no fixed order of layers") from error


def widths(graph: fx.GraphModule) -> dict[fx.Node, fx.Node]:
    """For each node, the representative of all nodes that share its channels; a sum ties its operands together."""
    ties: dict[fx.Node, fx.Node] = {}
    for node in graph.graph.nodes:
        if node.op == "output" or node.target is Output:
            continue
        ties[node] = node
        if node.op == "placeholder" or is_fitted(graph, node):
            continue
        if not (is_sum(node) or _passes(graph, node)):
            raise refusal(f"{block_of(node) or 'it'} has {node.target} between its layers")
        for source in node.all_input_nodes:
            _tie(ties, source, node)
    return {node: _end(ties, node) for node in ties}


def _tie(ties: dict[fx.Node, fx.Node], one: fx.Node, other: fx.Node) -> None:
    """Tie two nodes; a layer represents the nodes that it is tied to, because its module tells the width."""
    first, second = _end(ties, one), _end(ties, other)
    if first is not second:
        ties[second] = first


def _end(ties: Mapping[fx.Node, fx.Node], node: fx.Node) -> fx.Node:
    while ties[node] is not node:
        node = ties[node]
    return node


def _passes(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(module_of(graph, node), (*NORMS, *(kind for kind in PASSING if isinstance(kind, type))))
    return node.target in PASSING


def is_fitted(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether `node` calls a convolution or a linear layer."""
    return node.op == "call_module" and isinstance(module_of(graph, node), FITTED)


def is_sum(node: fx.Node) -> bool:
    """Whether `node` adds two branches."""
    return node.op == "call_function" and node.target in ADDITIONS and len(node.all_input_nodes) == 2


def ending(graph: fx.GraphModule, node: fx.Node) -> tuple[fx.Node | None, fx.Node | None]:
    """The norm that follows a layer and the residual sum that the layer ends in, if any."""
    norm, follower = None, _only_user(node)
    if follower is not None and follower.op == "call_module" and isinstance(module_of(graph, follower), NORMS):
        norm, follower = follower, _only_user(follower)
    return norm, follower if follower is not None and is_sum(follower) else None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def without_identity(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """`node`, or the one whose output identities pass on to it."""
    while node.op == "call_module" and isinstance(module_of(graph, node), nn.Identity):
        node = node.all_input_nodes[0]
    return node


def name_of(node: fx.Node) -> str:
    """Name of the module that `node` calls."""
    return str(node.target)


def module_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module:
    """The module that `node` calls."""
    return graph.get_submodule(name_of(node))


def stack_of(node: fx.Node) -> list[str]:
    """Names of the modules within which `node` runs, the innermost last."""
    return [str(name) for name in node.meta.get("nn_module_stack", {})]


def block_of(node: fx.Node) -> str:
    """Name of the module whose forward pass has `node`."""
    stack = stack_of(node)
    return stack[-1] if stack else ""
