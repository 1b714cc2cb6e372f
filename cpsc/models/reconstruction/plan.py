"""The order of the reconstruction: the teacher runs, channels are chosen, then the student runs and is fitted layer by layer."""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import torch
from torch import Tensor, fx, nn

from cpsc.models.reconstruction.blocks import Blocks
from cpsc.models.reconstruction.graph import (
    block_of,
    ending,
    is_fitted,
    is_sum,
    module_of,
    name_of,
    stack_of,
    traced,
    widths,
    without_identity,
)
from cpsc.models.reconstruction.layers import (
    FITTED,
    NORMS,
    before_norm,
    check_fits,
    num_inputs,
    num_outputs,
    refusal,
    take_over,
    use_of,
)
from cpsc.models.reconstruction.least_squares import covariance, fit, most_explaining

Width = tuple[fx.Node, fx.Node]
"""A set of channels that several nodes of the student share, and the teacher's set that it is chosen from: see `graph.widths`."""


class Reconstruction:
    """Plan for making `student` from `teacher`; ConfigError if it is not a smaller network of the same family."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self.student, self.teacher = student, teacher
        self.graph, self._teacher_graph = traced(student), traced(teacher)
        self._blocks = Blocks(student, teacher)
        self._widths, self._teacher_widths = widths(self.graph), widths(self._teacher_graph)
        self._modules = {name_of(node): node for node in self._teacher_widths if node.op == "call_module"}
        self._sums = {block_of(node): node for node in self._teacher_widths if is_sum(node)}
        self._check()

    @torch.no_grad()
    def run(self, images: Tensor) -> list[Tensor]:
        """Fit the student's weights on `images`, [N, K, H, W] -> for each stage, the teacher's channels that it has.

        `images` are normalised. Both networks are float32, on the same device, and in eval mode during the fit.
        """
        was_training = self.student.training
        self.student.eval()
        sums = (node for node in self._widths if is_sum(node))
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
        if is_sum(node):
            return self._sums[self._blocks.last(block_of(node))]
        return self._modules[self._blocks.first(name_of(node))]

    def counterpart(self, node: fx.Node) -> nn.Module:
        """The teacher's layer or norm that corresponds to the one called by the student's `node`."""
        return self.teacher.get_submodule(self._blocks.first(name_of(node)))

    def width(self, node: fx.Node) -> Width:
        """Width of the output of a layer, a norm or a sum of the student."""
        return self._widths[node], self._teacher_widths[self.of_teacher(node)]

    def _check(self) -> None:
        """Raise ConfigError if a part of the student has no counterpart in the teacher that it can be made from."""
        for node in self._layers():
            check_fits(name_of(node), module_of(self.graph, node), self.counterpart(node))
        for node in self._widths:
            if is_sum(node) and self._blocks.last(block_of(node)) not in self._sums:
                raise refusal(f"{block_of(node)} has a residual sum, in the teacher it does not")
            if node.op == "call_module" and isinstance(own := module_of(self.graph, node), NORMS):
                other = self.counterpart(node)
                if type(own) is not type(other) or own.state_dict().keys() != other.state_dict().keys():
                    raise refusal(f"{name_of(node)} is {own}, in the teacher {other}")
        read = self._readers()
        if unread := [node for node in self._stage_ends() if self.width(node) not in read]:
            raise refusal(f"no layer reads the output of {block_of(unread[0])}")

    def _readers(self) -> dict[Width, list[fx.Node]]:
        """The student's layers by the width of their input."""
        readers: dict[Width, list[fx.Node]] = {}
        for node in self._layers():
            entering, of_teacher = (one.all_input_nodes[0] for one in (node, self.of_teacher(node)))
            readers.setdefault((self._widths[entering], self._teacher_widths[of_teacher]), []).append(node)
        return readers

    def _chosen(self, readers: Sequence[fx.Node], seen: "_Observer") -> Tensor:
        own = num_inputs(module_of(self.graph, readers[0]))
        if not self._is_narrower(readers[0]):
            return torch.arange(own)
        covariances = [seen.inputs[self.of_teacher(node)] for node in readers]
        return most_explaining(covariances, [use_of(self.counterpart(node)) for node in readers], own)

    def _is_narrower(self, layer: fx.Node) -> bool:
        """Whether the layer has fewer input channels than the teacher's."""
        return num_inputs(module_of(self.graph, layer)) < num_inputs(self.counterpart(layer))

    def _layers(self) -> Iterator[fx.Node]:
        return (node for node in self._widths if is_fitted(self.graph, node))

    def _stage_ends(self) -> list[fx.Node]:
        """The last layer, norm or sum of each stage; channel-wise operations may follow it."""
        names = {id(module): name for name, module in self.student.named_modules()}
        stages = [names[id(stage)] for stage in getattr(self.student, "stages", ())]
        made = [node for node in self._widths if is_sum(node) or node.op == "call_module"]
        return [[node for node in made if stage in stack_of(node)][-1] for stage in stages]


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
            self.inputs[n] = covariance(self.fetch_args_kwargs_from_env(n)[0][0])
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
            layer = self.fetch_attr(name_of(n))
            if isinstance(layer, FITTED):
                fit(layer, self.fetch_args_kwargs_from_env(n)[0][0], self._wanted(n))
            elif isinstance(layer, NORMS):
                take_over(layer, self._plan.counterpart(n), self._chosen(n))
        return super().run_node(n)

    def _chosen(self, node: fx.Node) -> Tensor:
        """The teacher's channels that `node` outputs; all of them for the classifier."""
        channels = self._channels.get(self._plan.width(node))
        return torch.arange(num_outputs(self._plan.counterpart(node))) if channels is None else channels

    def _seen_at(self, node: fx.Node) -> Tensor:
        """The teacher's output at the student's `node`, in the chosen channels."""
        whole = self._seen.outputs[self._plan.of_teacher(node)]
        return whole.index_select(1, self._chosen(node).to(whole.device))

    def _wanted(self, node: fx.Node) -> Tensor:
        """The target for the output of the layer of `node`."""
        norm, total = ending(self._plan.graph, node)
        if total is None:
            return self._seen_at(node)
        other = next(operand for operand in total.all_input_nodes if operand not in (node, norm))
        other = without_identity(self._plan.graph, other)
        if other not in self.env:  # the other branch is fitted later, to what this one misses
            return self._seen_at(node)
        missing = self._seen_at(total) - self.env[other]
        return (
            missing if norm is None else before_norm(self._plan.counterpart(norm), self._chosen(norm), missing, self._seen_at(node))
        )
