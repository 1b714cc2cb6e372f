"""Makes a smaller network of the teacher's family from the teacher, layer by layer, without any training.

Channel pruning by least squares: He, Zhang and Sun, ICCV 2017 (arXiv:1707.06168). Channels of each width are chosen. Then every
convolution is fitted, on the outputs of the previous layers for some images, to what the teacher's convolution computes in the
chosen channels (eq. 1); if it ends a residual branch, to what is missing from the teacher's sum, as in the paper. The paper chooses
channels by LASSO, for each layer separately. Here they are chosen one after another: each is the channel that explains, by least
squares, most of what all layers that read this width see, so that the parts of a residual sum share one choice. In a network that
is also shallower, one block stands for several of the teacher's: its input is that of the first, its output that of the last.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from cpsc.errors import ConfigError
from cpsc.models.output import Output

MOST_ROWS = 131_072
"""Largest number of positions in the images on which a layer is fitted and its channels are chosen."""
CHUNK = 64
"""Images whose patches are in memory at once."""
RIDGE = 1e-3
"""Ridge regularisation, as a fraction of the inputs' mean square."""
LEAST_SCALE = 1e-3
"""A channel that its norm scales by less than this fraction of the largest scale is fitted to the teacher's value before the norm,
not to what is missing after it."""

FITTED = (nn.Conv2d, nn.Linear)
NORMS = (nn.BatchNorm2d, nn.GroupNorm)
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

Width = tuple[fx.Node, fx.Node]
"""A set of channels that several nodes of the student share, and the teacher's set that it is chosen from: see `_widths`."""


class Reconstruction:
    """Plan for making `student` from `teacher`; ConfigError if it is not a smaller network of the same family."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self.student, self.teacher = student, teacher
        self.graph, self._teacher_graph = _traced(student), _traced(teacher)
        self._blocks = _Blocks(student, teacher)
        self._widths, self._teacher_widths = _widths(self.graph), _widths(self._teacher_graph)
        self._modules = {_name(node): node for node in self._teacher_widths if node.op == "call_module"}
        self._sums = {_block(node): node for node in self._teacher_widths if _is_sum(node)}
        self._check()

    @torch.no_grad()
    def run(self, images: Tensor) -> list[Tensor]:
        """Fit the student's weights on `images`, [N, K, H, W] -> for each stage, the teacher's channels that it has.

        `images` are normalised. Both networks are float32, on the same device, and in eval mode during the fit.
        """
        was_training = self.student.training
        self.student.eval()
        sums = (node for node in self._widths if _is_sum(node))
        seen = _Observer(
            self._teacher_graph,
            wanted={self.of_teacher(node) for node in (*self._layers(), *sums)},
            read={self.of_teacher(node) for node in self._layers() if self._is_narrower(node)},
        )
        seen.run(images)
        channels = {width: self._chosen(readers, seen) for width, readers in self._readers().items()}
        _Fitter(self, seen, channels).run(images)
        self.student.train(was_training)
        return [channels[self.width(node)] for node in self._stage_ends()]

    def of_teacher(self, node: fx.Node) -> fx.Node:
        """The teacher's node that a node of the student (a layer, a norm or a sum) stands for."""
        if _is_sum(node):
            return self._sums[self._blocks.last(_block(node))]
        return self._modules[self._blocks.first(_name(node))]

    def counterpart(self, node: fx.Node) -> nn.Module:
        """The teacher's layer or norm that corresponds to the one called by the student's `node`."""
        return self.teacher.get_submodule(self._blocks.first(_name(node)))

    def width(self, node: fx.Node) -> Width:
        """Width of the output of a layer, a norm or a sum of the student."""
        return self._widths[node], self._teacher_widths[self.of_teacher(node)]

    def _check(self) -> None:
        """Raise ConfigError if a part of the student has no counterpart in the teacher that it can be made from."""
        for node in self._layers():
            _check_fits(_name(node), _module(self.graph, node), self.counterpart(node))
        for node in self._widths:
            if _is_sum(node) and self._blocks.last(_block(node)) not in self._sums:
                raise _refusal(f"{_block(node)} has a residual sum, in the teacher it does not")
            if node.op == "call_module" and isinstance(own := _module(self.graph, node), NORMS):
                other = self.counterpart(node)
                if type(own) is not type(other) or own.state_dict().keys() != other.state_dict().keys():
                    raise _refusal(f"{_name(node)} is {own}, in the teacher {other}")
        read = self._readers()
        if unread := [node for node in self._stage_ends() if self.width(node) not in read]:
            raise _refusal(f"no layer reads the output of {_block(unread[0])}")

    def _readers(self) -> dict[Width, list[fx.Node]]:
        """The student's layers by the width of their input."""
        readers: dict[Width, list[fx.Node]] = {}
        for node in self._layers():
            entering, of_teacher = (one.all_input_nodes[0] for one in (node, self.of_teacher(node)))
            readers.setdefault((self._widths[entering], self._teacher_widths[of_teacher]), []).append(node)
        return readers

    def _chosen(self, readers: Sequence[fx.Node], seen: "_Observer") -> Tensor:
        own = _num_inputs(_module(self.graph, readers[0]))
        if not self._is_narrower(readers[0]):
            return torch.arange(own)
        covariances = [seen.inputs[self.of_teacher(node)] for node in readers]
        return most_explaining(covariances, [_use(self.counterpart(node)) for node in readers], own)

    def _is_narrower(self, layer: fx.Node) -> bool:
        """Whether the layer has fewer input channels than the teacher's."""
        return _num_inputs(_module(self.graph, layer)) < _num_inputs(self.counterpart(layer))

    def _layers(self) -> Iterator[fx.Node]:
        return (node for node in self._widths if _is_fitted(self.graph, node))

    def _stage_ends(self) -> list[fx.Node]:
        """The last layer, norm or sum of each stage; channel-wise operations may follow it."""
        names = {id(module): name for name, module in self.student.named_modules()}
        stages = [names[id(stage)] for stage in getattr(self.student, "stages", ())]
        made = [node for node in self._widths if _is_sum(node) or node.op == "call_module"]
        return [[node for node in made if stage in _stack(node)][-1] for stage in stages]


class _Observer(fx.Interpreter):
    """Runs the teacher; keeps the outputs of `wanted` nodes (layers and sums) and the input covariances of those in `read`."""

    def __init__(self, graph: fx.GraphModule, *, wanted: Set[fx.Node], read: Set[fx.Node]) -> None:
        super().__init__(graph)
        self._wanted, self._read = wanted, read
        self.outputs: dict[fx.Node, Tensor] = {}
        self.inputs: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n not in self._wanted:
            return super().run_node(n)
        if n in self._read:
            self.inputs[n] = _covariance(self.fetch_args_kwargs_from_env(n)[0][0])
        out = super().run_node(n)
        self.outputs[n] = out.clone()  # the next operation may work in place
        return out


class _Fitter(fx.Interpreter):
    """Runs the student and fits each layer when its inputs are known."""

    def __init__(self, plan: Reconstruction, seen: _Observer, channels: Mapping[Width, Tensor]) -> None:
        super().__init__(plan.graph)
        self._plan, self._seen, self._channels = plan, seen, channels

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "call_module":
            layer = self.fetch_attr(_name(n))
            if isinstance(layer, FITTED):
                fit(layer, self.fetch_args_kwargs_from_env(n)[0][0], self._wanted(n))
            elif isinstance(layer, NORMS):
                _take_over(layer, self._plan.counterpart(n), self._chosen(n))
        return super().run_node(n)

    def _chosen(self, node: fx.Node) -> Tensor:
        """The teacher's channels that `node` outputs; all of them for the classifier."""
        channels = self._channels.get(self._plan.width(node))
        return torch.arange(_num_outputs(self._plan.counterpart(node))) if channels is None else channels

    def _seen_at(self, node: fx.Node) -> Tensor:
        """The teacher's output at the student's `node`, in the chosen channels."""
        whole = self._seen.outputs[self._plan.of_teacher(node)]
        return whole.index_select(1, self._chosen(node).to(whole.device))

    def _wanted(self, node: fx.Node) -> Tensor:
        """The target for the output of the layer of `node`."""
        norm, total = _ending(self._plan.graph, node)
        if total is None:
            return self._seen_at(node)
        other = next(operand for operand in total.all_input_nodes if operand not in (node, norm))
        other = _without_identity(self._plan.graph, other)
        if other not in self.env:  # the other branch is fitted later, to what this one misses
            return self._seen_at(node)
        missing = self._seen_at(total) - self.env[other]
        return missing if norm is None else _before(self._plan.counterpart(norm), self._chosen(norm), missing, self._seen_at(node))


class _Blocks:
    """Which of the teacher's blocks a block of the student stands for: an even share of each ``nn.Sequential``, in order."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self._student, self._teacher = student, teacher

    def first(self, name: str) -> str:
        """The teacher's counterpart of the module `name`, in the first block that the student's block stands for."""
        return self._named(name, lambda index, own, other: index * other // own)

    def last(self, name: str) -> str:
        """The same in the last of these blocks."""
        return self._named(name, lambda index, own, other: (index + 1) * other // own - 1)

    def _named(self, name: str, place: Callable[[int, int, int], int]) -> str:
        own, other, parts = self._student, self._teacher, []
        for part in name.split("."):
            children = [key for key, _ in other.named_children()]
            if isinstance(own, nn.Sequential) and 0 < len(own) <= len(children):
                index = [key for key, _ in own.named_children()].index(part)
                parts.append(children[place(index, len(own), len(children))])
            else:
                parts.append(part)
            own = own.get_submodule(part)
            if parts[-1] not in children:
                raise _refusal(f"the teacher has no {'.'.join(parts)}")
            other = other.get_submodule(parts[-1])
        return ".".join(parts)


def most_explaining(covariances: Sequence[Tensor], uses: Sequence[Tensor], number: int) -> Tensor:
    """Indices, in ascending order, of the `number` channels that explain most of all channels by least squares.

    `covariances` [C, C]: of the channels at each layer that reads them. `uses` [C]: how strongly that layer reads each channel. The
    choice is greedy, and all readers count equally, whatever their scale.
    """
    device = covariances[0].device
    scaled = [use.double()[:, None] * cov.double() * use.double() for cov, use in zip(covariances, uses, strict=True)]
    left = [one / one.trace().clamp_min(torch.finfo(torch.float64).tiny) for one in scaled]
    chosen: list[int] = []
    for _ in range(number):
        gains = torch.stack([_explained(one) for one in left]).sum(dim=0)
        gains[chosen] = -1.0
        best = int(gains.argmax())
        chosen.append(best)
        left = [one - torch.outer(one[:, best], one[best]) / _positive(one[best, best]) for one in left]
    return torch.tensor(sorted(chosen), device=device)


def _explained(covariance: Tensor) -> Tensor:
    """Variance of all channels that each channel explains, [C]."""
    return covariance.square().sum(dim=0) / _positive(covariance.diagonal())


def _positive(variance: Tensor) -> Tensor:
    return variance.clamp_min(1e-12)


def fit(layer: nn.Module, inputs: Tensor, wanted: Tensor) -> None:
    """Set the weights of `layer`, a convolution or a linear layer, so that it maps `inputs` to `wanted` by least squares.

    `inputs`: [N, K, H, W] or [N, K]; `wanted`: the outputs, with the same number of dimensions.
    """
    gram = rest = None
    for patches, targets in _rows(layer, inputs, wanted):
        rows = patches if layer.bias is None else torch.cat([patches, patches.new_ones(len(patches), 1)], dim=1)
        own, cross = (rows.T @ rows).double(), (rows.T @ targets).double()
        gram, rest = (own, cross) if gram is None or rest is None else (gram + own, rest + cross)
    assert gram is not None
    assert rest is not None
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    found = torch.linalg.solve(gram, rest).T.to(inputs.dtype)
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    if isinstance(bias, Tensor):
        bias.copy_(found[:, -1])
        found = found[:, :-1]
    weight.copy_(found.reshape(weight.shape))


def _rows(layer: nn.Module, inputs: Tensor, wanted: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The inputs of `layer` for each output position and the targets there, some positions at a time."""
    if isinstance(layer, nn.Linear):
        yield inputs, wanted
        return
    assert isinstance(layer, nn.Conv2d)
    every = -(-wanted[:, 0].numel() // MOST_ROWS)
    for some, targets in zip(inputs.split(CHUNK), wanted.split(CHUNK), strict=True):
        patches = F.unfold(some, layer.kernel_size, dilation=layer.dilation, padding=_padding(layer), stride=layer.stride)
        yield patches.transpose(1, 2).flatten(0, 1)[::every], targets.flatten(2).transpose(1, 2).flatten(0, 1)[::every]


def _padding(layer: nn.Conv2d) -> tuple[int, ...]:
    assert not isinstance(layer.padding, str)
    return layer.padding


def _covariance(activations: Tensor) -> Tensor:
    """[N, K, H, W] or [N, K] -> covariance [K, K], over some of the positions."""
    rows = activations.transpose(0, 1).flatten(1)
    rows = rows[:, :: -(-rows.shape[1] // MOST_ROWS)]
    centred = rows - rows.mean(dim=1, keepdim=True)
    return centred @ centred.T / rows.shape[1]


def _use(layer: nn.Module) -> Tensor:
    """How strongly a layer reads each of its input channels, [K]: the norm of their weights."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.transpose(0, 1).flatten(1).norm(dim=1)


def _take_over(norm: nn.Module, other: nn.Module, chosen: Tensor) -> None:
    """Copy the teacher's scale, shift and statistics of the chosen channels."""
    state = other.state_dict()
    norm.load_state_dict({name: value[chosen.to(value.device)] if value.ndim else value for name, value in state.items()})


def _before(norm: nn.Module, chosen: Tensor, wanted: Tensor, plain: Tensor) -> Tensor:
    """The input of the teacher's batch norm that gives `wanted` in the `chosen` channels; `plain` where its scale is near 0."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None or norm.running_mean is None:
        return plain
    chosen = chosen.to(wanted.device)
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt())[chosen]
    passes = scale.abs() > LEAST_SCALE * scale.abs().max()
    safe = torch.where(passes, scale, torch.ones_like(scale))
    column = (slice(None), None, None)
    entering = (wanted - norm.bias[chosen][column]) / safe[column] + norm.running_mean[chosen][column]
    return torch.where(passes[column], entering, plain)


# The graph


def _traced(network: nn.Module) -> fx.GraphModule:
    try:
        return fx.symbolic_trace(network)
    except Exception as error:  # a forward pass may fail in any way on the stand-in for images
        raise _refusal(f"{type(network).__name__} has no fixed order of layers") from error


def _widths(graph: fx.GraphModule) -> dict[fx.Node, fx.Node]:
    """For each node, the representative of all nodes that share its channels; a sum ties its operands together."""
    ties: dict[fx.Node, fx.Node] = {}
    for node in graph.graph.nodes:
        if node.op == "output" or node.target is Output:
            continue
        ties[node] = node
        if node.op == "placeholder" or _is_fitted(graph, node):
            continue
        if not (_is_sum(node) or _passes(graph, node)):
            raise _refusal(f"{_block(node) or 'it'} has {node.target} between its layers")
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
        return isinstance(_module(graph, node), (*NORMS, *(kind for kind in PASSING if isinstance(kind, type))))
    return node.target in PASSING


def _is_fitted(graph: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(_module(graph, node), FITTED)


def _is_sum(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target in ADDITIONS and len(node.all_input_nodes) == 2


def _ending(graph: fx.GraphModule, node: fx.Node) -> tuple[fx.Node | None, fx.Node | None]:
    """The norm that follows a layer and the residual sum that the layer ends in, if any."""
    norm, follower = None, _only_user(node)
    if follower is not None and follower.op == "call_module" and isinstance(_module(graph, follower), NORMS):
        norm, follower = follower, _only_user(follower)
    return norm, follower if follower is not None and _is_sum(follower) else None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _without_identity(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    while node.op == "call_module" and isinstance(_module(graph, node), nn.Identity):
        node = node.all_input_nodes[0]
    return node


def _name(node: fx.Node) -> str:
    """Name of the module that `node` calls."""
    return str(node.target)


def _module(graph: fx.GraphModule, node: fx.Node) -> nn.Module:
    return graph.get_submodule(_name(node))


def _stack(node: fx.Node) -> list[str]:
    """Names of the modules within which `node` runs, the innermost last."""
    return [str(name) for name in node.meta.get("nn_module_stack", {})]


def _block(node: fx.Node) -> str:
    """Name of the module whose forward pass has `node`."""
    stack = _stack(node)
    return stack[-1] if stack else ""


def _check_fits(name: str, own: nn.Module, other: nn.Module) -> None:
    """Raise ConfigError unless `own`, a layer of the student, can be fitted to `other`."""
    if isinstance(own, nn.Conv2d) and isinstance(other, nn.Conv2d):
        if own.groups > 1 or own.padding_mode != "zeros" or isinstance(own.padding, str):
            raise _refusal(f"{name} is a grouped convolution, or one that is not padded with zeros")
        alike = (own.kernel_size, own.stride, own.padding, own.dilation) == (
            other.kernel_size,
            other.stride,
            other.padding,
            other.dilation,
        )
    else:
        alike = isinstance(own, nn.Linear) and isinstance(other, nn.Linear)
    if not alike or _num_inputs(own) > _num_inputs(other) or _num_outputs(own) > _num_outputs(other):
        raise _refusal(f"{name} is {own}, in the teacher {other}")


def _num_inputs(layer: nn.Module) -> int:
    return layer.in_channels if isinstance(layer, nn.Conv2d) else _of_linear(layer).in_features


def _num_outputs(layer: nn.Module) -> int:
    return layer.out_channels if isinstance(layer, nn.Conv2d) else _of_linear(layer).out_features


def _of_linear(layer: nn.Module) -> nn.Linear:
    assert isinstance(layer, nn.Linear)
    return layer


def _refusal(reason: str) -> ConfigError:
    return ConfigError(
        f"student.initial must not be 'reconstructed' for this student, which cannot be made from its teacher: {reason}"
    )
