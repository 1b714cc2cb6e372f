"""Teachers with other norms, brought by a factory, from a weights file to a champion, through the command line."""

import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from cpsc.data import DatasetConfig, load_dataset
from cpsc.errors import ConfigError
from cpsc.models import build_imported
from tests.support.command_line import call_cli
from tests.support.studies import tiny_study, write_study
from tuning.cli import probe, replay, teacher, trial
from tuning.launch import Journal
from tuning.launch.events import Epoch, LaunchStart, TrialStart

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

NETWORKS = """
import torch
from torch import nn


class Grouped(nn.Module):
    def __init__(self, num_classes, channels):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, 16, 3, stride=2, padding=1), nn.GroupNorm(4, 16)
        self.conv2, self.norm2 = nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GroupNorm(4, 32)
        self.score = nn.Linear(512, num_classes)

    def forward(self, x):
        x = self.norm1(self.conv1(x)).relu()
        return self.score(self.norm2(self.conv2(x)).relu().flatten(1))


class Transformer(nn.Module):
    def __init__(self, num_classes, channels):
        super().__init__()
        self.patches = nn.Conv2d(channels, 32, 4, stride=4)
        self.place = nn.Parameter(0.02 * torch.randn(1, 16, 32))
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(32), nn.LayerNorm(32), nn.LayerNorm(32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.grow, self.shrink = nn.Linear(32, 64), nn.Linear(64, 32)
        self.score = nn.Linear(32, num_classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.place
        seen = self.norm1(x)
        x = x + self.attention(seen, seen, seen, need_weights=False)[0]
        x = x + self.shrink(self.grow(self.norm2(x)).relu())
        return self.score(self.norm3(x).mean(dim=1))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the user's module, and weights that were trained with it."""
    folder = tmp_path_factory.mktemp("normless")
    (folder / "normless.py").write_text(textwrap.dedent(NETWORKS), encoding="utf-8")
    data = load_dataset(DatasetConfig(name="digits"))
    images, labels = data.normalisation.normalise(data.train.images), data.train.labels
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for name in ("Grouped", "Transformer"):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                wrapped = build_imported(f"normless:{name}", num_classes=10, channels=1, image_size=16)
                optimizer = torch.optim.Adam(wrapped.parameters(), lr=3e-3)
                for batch in torch.randperm(len(labels)).repeat(4).split(64):
                    optimizer.zero_grad()
                    F.cross_entropy(wrapped(images[batch]).logits, labels[batch]).backward()
                    optimizer.step()
            torch.save(wrapped.network.state_dict(), folder / f"{name}.pt")
    return folder


def study_of(name: str) -> dict[str, Any]:
    study = tiny_study() | {"name": name.lower()}
    constants = {"mean": [0.3055], "std": [0.3194]}
    classes = [str(digit) for digit in range(10)]
    study["config"]["teacher"] = {
        "path": f"{name}.pt",
        "factory": f"normless:{name}",
        "normalisation": constants,
        "image_size": 16,
        "class_names": classes,
        "min_accuracy": 0.6,
    }
    study["config"]["epochs"] = 1
    study["search"]["num_trials"] = 2
    return study


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As a process that was started in the user's folder."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    return folder


def test_a_group_norm_teacher_is_swept_with_no_further_setting_and_what_is_switched_off_is_said_and_recorded(folder: Path) -> None:
    study = write_study(folder / "grouped.yaml", study_of("Grouped"))
    done = call_cli("sweep", study, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "this teacher: no batch norm with statistics to compare (2 GroupNorm)\n" in said
    assert (
        "switched off for lack of batch norms: weights.batch_statistics, probe.batch_statistics; "
        "the probe set is made with label, total_variation, image_norm alone\n"
    ) in said
    assert "is registered as models:/grouped@champion" in said
    events = list(Journal(folder / "runs" / "grouped").events())
    starts = [event.params for event in events if isinstance(event, LaunchStart | TrialStart)]
    assert {params["switched_off"] for params in starts} == {"weights.batch_statistics, probe.batch_statistics"}
    assert {params["weights.batch_statistics"] for params in starts if "weights.batch_statistics" in params} == {"0.0"}
    epochs = [event.metrics for event in events if isinstance(event, Epoch)]
    assert epochs
    assert not any("generator/batch_statistics" in metrics for metrics in epochs)


def test_a_trial_without_batch_norm_is_replayed_without_a_remark(folder: Path, here: Path, capsys: pytest.CaptureFixture) -> None:
    replay("grouped:0")
    said = "".join(capsys.readouterr())
    assert "identical to the record" in said
    assert "recorded value is used" not in said


def test_a_layer_norm_teacher_goes_from_its_weights_to_a_trial(folder: Path, here: Path, capsys: pytest.CaptureFixture) -> None:
    study = write_study(folder / "transformer.yaml", study_of("Transformer"))
    for verb, words in ((teacher, "3 LayerNorm"), (probe, "picture, one row per class"), (trial, "epoch 1, probe agreement")):
        verb(study)
        said = "".join(capsys.readouterr())
        assert words in said
    (name,) = {path.stem for path in (folder / "runs" / "probes").glob("*.png")}
    assert f"{name}.pt" in said  # the picture is of the set that the trial was measured on


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("space={weights.batch_statistics: {uniform: [0.1, 1]}}", "start=[]"), "space.weights.batch_statistics: has no effect"),
        (("space={}", "start=[]", "method=cmi"), "config.weights.contrast: must be 0 and not searched with method cmi"),
        (("probe={label: 0, total_variation: 0, image_norm: 0}",), "config.probe: label, total_variation or image_norm must"),
    ],
)
def test_what_cannot_be_without_batch_norm_is_refused_in_a_line_before_the_probe_set_is_made(
    folder: Path, here: Path, settings: tuple[str, ...], message: str
) -> None:
    study = write_study(folder / "refused.yaml", study_of("Grouped") | {"name": "refused", "storage": "refused"})
    with pytest.raises(ConfigError) as caught:
        probe(study, list(settings))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert not (folder / "refused" / "probes").exists()
