"""Formats of an export: how each is written, and how a user without this package opens it."""

import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cpsc.data import Normalisation
from cpsc.deploy import DeployedStudent
from cpsc.errors import CheckpointError, ConfigError
from cpsc.models import output, recipe_of

JSON_FILE, README_FILE, NETWORK_FILE = "student.json", "README.md", "network.py"
WEIGHTS, SAFETENSORS, PROGRAM, ONNX = "weights", "safetensors", "program", "onnx"
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUT = "pixels", "logits"

Answer = Callable[[Tensor], Tensor]
"""Pixels in [0, 1], float32 [N, K, H, W] -> logits [N, C]."""


class Format(NamedTuple):
    """One file of an export. `is_exact`: whether it must give the checkpoint's logits bit by bit.

    `check` raises ConfigError if a required package is not installed. `write` takes the student, two images and the path; it
    raises ConfigError if the format does not support the student. `open` takes the path, the text of `NETWORK_FILE` and the
    normalisation constants.
    """

    file: str
    is_exact: bool
    check: Callable[[], None]
    write: Callable[[DeployedStudent, Tensor, Path], None]
    open: Callable[[Path, str, Normalisation], Answer]


def _write_weights(model: DeployedStudent, images: Tensor, path: Path) -> None:
    torch.save({name: tensor.contiguous() for name, tensor in model.network.state_dict().items()}, path)


def _open_weights(path: Path, network: str, normalisation: Normalisation) -> Answer:
    return _answer(torch.load(path, weights_only=True), network, normalisation)


def _write_safetensors(model: DeployedStudent, images: Tensor, path: Path) -> None:
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in model.network.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})  # readers of the Hub expect this


def _open_safetensors(path: Path, network: str, normalisation: Normalisation) -> Answer:
    from safetensors.torch import load_file

    return _answer(load_file(path), network, normalisation)


def _answer(state: dict[str, Tensor], network: str, normalisation: Normalisation) -> Answer:
    """The answer of the network with the source `network` and the weights `state`."""
    names: dict[str, Any] = {"__name__": "network"}
    exec(compile(network, NETWORK_FILE, "exec"), names)  # our own source: verify exactly what a user will import
    student = names["build_network"]()
    student.load_state_dict(state)
    mean, std = (torch.tensor(values)[:, None, None] for values in (normalisation.mean, normalisation.std))
    return lambda pixels: student((pixels - mean) / std).logits


def _write_program(model: DeployedStudent, images: Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about its own deprecations
        torch.export.save(_program(model, images), path)


def _program(model: DeployedStudent, images: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(model, (images,), dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}})


def _open_program(path: Path, network: str, normalisation: Normalisation) -> Answer:
    answer: Answer = torch.export.load(path).module()
    return answer


def _check_onnx() -> None:
    if missing := [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"--formats onnx: needs {', '.join(missing)}, install with: pip install 'cpsc-tune[onnx]'")


def _write_onnx(model: DeployedStudent, images: Tensor, path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch, onnx and onnxscript warn about each other
            torch.onnx.export(
                _program(model, images),
                f=path,
                input_names=[INPUT],
                output_names=[OUTPUT],
                external_data=False,  # a single file, which is complete or absent
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ConfigError(f"--formats onnx: the student has an operator that ONNX lacks ({reason}); use program") from error


def _open_onnx(path: Path, network: str, normalisation: Normalisation) -> Answer:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no common base class
        raise CheckpointError(f"student.onnx: onnxruntime cannot load it ({str(error).splitlines()[0][:200]})") from error
    return lambda pixels: torch.from_numpy(session.run([OUTPUT], {INPUT: pixels.numpy()})[0])


FORMATS: Mapping[str, Format] = {
    WEIGHTS: Format("student.pt", True, lambda: None, _write_weights, _open_weights),
    PROGRAM: Format("student.pt2", False, lambda: None, _write_program, _open_program),
    SAFETENSORS: Format("student.safetensors", True, lambda: None, _write_safetensors, _open_safetensors),
    ONNX: Format("student.onnx", False, _check_onnx, _write_onnx, _open_onnx),
}


def network_source(arch: str, *, num_classes: int, channels: int) -> str:
    """Source of a module that builds the network `arch` with torch alone: this package's source and ``build_network()``."""
    kind = recipe_of(arch).kind
    parts = [inspect.getsource(module) for module in (output, sys.modules[kind.__module__])]
    lines = [line for part in parts for line in part.splitlines() if not line.startswith("from cpsc.")]
    call = f"{kind.__name__}({_own_arguments(arch)}num_classes={num_classes}, channels={channels})"
    return "\n".join(
        [
            *lines,
            "",
            "",
            f"def build_network() -> {kind.__name__}:",
            f'    """{arch} for the exported weights, in eval mode: normalised images -> features and logits."""',
            f"    return {call}.eval()",
            "",
        ]
    )


def _own_arguments(arch: str) -> str:
    """Arguments of the class of `arch` other than classes and channels, as source."""
    _, arguments, options = recipe_of(arch)
    return "".join([*(f"{value!r}, " for value in arguments), *(f"{name}={value!r}, " for name, value in options.items())])


_STATE_DICT = """\
It takes normalised images.

```python
import json

IMPORTS

from network import build_network

facts = json.load(open("student.json"))["input"]["normalisation"]
mean, std = (torch.tensor(facts[name])[:, None, None] for name in ("mean", "std"))
student = build_network()
student.load_state_dict(LOAD)
pixels = torch.rand(4, {channels}, {size}, {size})  # yours: float32 in [0, 1], any number of images
with torch.no_grad():
    logits = student((pixels - mean) / std).logits
print(logits.argmax(dim=1).tolist())
```
"""
SAFETENSORS_IMPORTS = "import torch\nfrom safetensors.torch import load_file"


def _state_dict(imports: str, load: str) -> str:
    return _STATE_DICT.replace("IMPORTS", imports).replace("LOAD", load)


SNIPPETS = {
    "student.pt2": """\
`student.pt2` is a `torch.export` program: it needs torch but no source code, and normalises the images itself. torch only
promises to read it in the version that wrote it ({torch}).

```python
import torch

student = torch.export.load("student.pt2").module()
pixels = torch.rand(4, {channels}, {size}, {size})  # yours: float32 in [0, 1], any number of images
with torch.no_grad():
    logits = student(pixels)
print(logits.argmax(dim=1).tolist())
```
""",
    "student.onnx": """\
`student.onnx` needs onnxruntime, or any other ONNX runtime, but not torch. It normalises the images itself.

```python
import numpy
import onnxruntime

session = onnxruntime.InferenceSession("student.onnx", providers=["CPUExecutionProvider"])
pixels = numpy.random.rand(4, {channels}, {size}, {size}).astype("float32")  # yours: in [0, 1], any number of images
(logits,) = session.run(["logits"], {{"pixels": pixels}})
print(logits.argmax(axis=1).tolist())
```
""",
    "student.pt": f"""\
`student.pt` is a plain state dict, and `network.py` the network it belongs to, which imports only torch. Use these
for further training; every torch can read them. {_state_dict("import torch", 'torch.load("student.pt", weights_only=True)')}""",
    "student.safetensors": f"""\
`student.safetensors` holds the same weights in the format of the Hugging Face Hub; the package safetensors reads it.
{_state_dict(SAFETENSORS_IMPORTS, 'load_file("student.safetensors")')}""",
}


def readme(facts: Mapping[str, Any], files: Sequence[str]) -> str:
    """The exported folder's README: what is in it and how to load it. `facts`: the content of `JSON_FILE`."""
    made, image = facts["provenance"], facts["input"]
    values = {"channels": image["channels"], "size": image["image_size"], "torch": made["torch"]}
    measured = ", ".join(f"{name} {value:.4f}" for name, value in made["metrics"].items()) or "nothing"
    head = (
        f"# {facts['arch']}, student of study {made['study']}\n\n"
        f"A classifier of {len(facts['classes'])} classes for images of {image['channels']} x {image['image_size']} x "
        f"{image['image_size']} pixels, distilled without data from the teacher {made['teacher']['arch']} "
        f"({made['teacher']['digest'][:12]}): trial {made['trial']} of launch {made['launch']}, epoch {made['epoch']}, "
        f"MLflow run {made['run_id']}. Measured there: {measured}.\n\n"
        f"`{JSON_FILE}` holds the class names in the order of the logits, the normalisation constants, and the "
        "full configuration of the trial.\n"
    )
    return "\n".join([head, *(text.format(**values) for file, text in SNIPPETS.items() if file in files)])
