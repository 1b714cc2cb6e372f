"""A study's teacher: where it comes from, what is said of it, when it is refused."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from cpsc.data import digits
from cpsc.data.dataset import Dataset, Normalisation, Split
from cpsc.errors import CheckpointError, ConfigError
from cpsc.metrics import predict
from cpsc.models import build_model
from cpsc.published import PublishedConfig
from cpsc.teacher import Teacher, measure
from cpsc.teacher_training import TeacherRecipe, train_teacher
from tests.support.malformed import sound_teacher
from tests.support.studies import tiny_study, write_study
from tuning.display import Display
from tuning.storage import Storage
from tuning.study import TeacherSource, load_study
from tuning.study.teacher_fit import check_students
from tuning.trial.assets import obtain_teacher

pytestmark = pytest.mark.slow  # teachers are trained, or checked against their batch norms
CPU = torch.device("cpu")
HALF = Normalisation(mean=(0.5,), std=(0.5,))
SAID = PublishedConfig(normalisation="half", image_size=8)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """Weights as another program saves them."""
    torch.manual_seed(3)
    network = build_model("wrn_10_1", num_classes=3, channels=1)
    for _ in range(20):
        network(torch.randn(16, 1, 8, 8))
    return network.state_dict()


@pytest.fixture
def path(state: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "net.pth")
    return tmp_path / "net.pth"


def obtain(source: TeacherSource, tmp_path: Path, dataset: Dataset | None = None, *, force: bool = False) -> tuple[Teacher, str]:
    """The teacher, and all that was said."""
    said = io.StringIO()
    display = Display(console=Console(file=said, width=400))
    teacher = obtain_teacher(source, dataset, Storage(str(tmp_path / "runs")), CPU, display, force=force)
    return teacher, said.getvalue().strip()


def source_of(path: Path, published: PublishedConfig | None = SAID, *, min_accuracy: float = 0.0) -> TeacherSource:
    return TeacherSource(path=str(path), recipe=None, min_accuracy=min_accuracy, published=published)


def labelled_by(teacher: Teacher, *, wrong: int) -> Dataset:
    """Forty images with the classes that the teacher gives them, all but the first `wrong`; said to be normalised otherwise."""
    images = torch.randint(0, 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    labels = predict(teacher.build(CPU), teacher.normalisation.normalise(images)).argmax(dim=1)
    labels[:wrong] = (labels[:wrong] + 1) % 3
    split = Split(images, labels)
    other = Normalisation(mean=(0.9,), std=(0.1,))
    return Dataset(name="marks", train=split, test=split, class_names=tuple("abc"), normalisation=other, crop_padding=0, flip=False)


def test_an_imported_teacher_is_told_with_its_classes_and_constants(path: Path, tmp_path: Path) -> None:
    teacher, said = obtain(source_of(path), tmp_path)
    assert (teacher.arch, teacher.normalisation, teacher.test_accuracy) == ("wrn_10_1", HALF, None)
    about = "3 classes, normalised by mean 0.5 and std 0.5, test accuracy unknown"
    assert said.startswith(f"teacher wrn_10_1 {teacher.digest[:12]}: {about} ({path}); its batch norms fit (")


def test_what_was_chosen_and_converted_is_told(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    path = tmp_path / "net.pth"
    torch.save({"state_dict": state, "state_dict_ema": half}, path)
    with pytest.raises(CheckpointError, match=r"net\.pth: holds several networks \(state_dict, state_dict_ema\): select one"):
        obtain(source_of(path), tmp_path)
    _, said = obtain(source_of(path, replace(SAID, weights="state_dict_ema")), tmp_path)
    assert said.startswith("net.pth: uses the weights under state_dict_ema\nnet.pth: 39 of 39 weights are float16 and converted")


def test_its_accuracy_is_measured_with_the_constants_it_was_trained_with(path: Path, tmp_path: Path) -> None:
    teacher, _ = obtain(source_of(path), tmp_path)
    dataset = labelled_by(teacher, wrong=10)
    assert measure(teacher.build(CPU), dataset, CPU) < 0.7  # with the dataset's own
    _, said = obtain(source_of(path, min_accuracy=0.7), tmp_path, dataset)
    assert "test accuracy 75.00 %" in said


def test_the_accuracy_of_a_teacher_trained_here_is_the_one_measured_then(tmp_path: Path) -> None:
    recipe = TeacherRecipe(arch="wrn_10_1", epochs=1, batch_size=64, warmup_epochs=1)
    source = TeacherSource(path=None, recipe=recipe, min_accuracy=0.0, published=None)
    trained, said = obtain(source, tmp_path, digits.load())
    assert trained.test_accuracy == measure(trained.build(CPU), digits.load(), CPU)
    assert f"test accuracy {trained.test_accuracy:.2%}".replace("%", " %") in said
    (kept,) = (tmp_path / "runs" / "teachers").glob("*.pt")
    replace(trained, test_accuracy=0.125).save(kept)  # what a second measurement would not say
    assert "test accuracy 12.50 %" in obtain(source, tmp_path, digits.load())[1]


def test_it_is_refused_below_the_accuracy_asked_for_unless_forced(path: Path, tmp_path: Path) -> None:
    teacher, _ = obtain(source_of(path), tmp_path)
    dataset, source = labelled_by(teacher, wrong=10), source_of(path, min_accuracy=0.8)
    with pytest.raises(ConfigError, match=rf"config.teacher: {path} scores 75.00 %, below min_accuracy 80.00 %; train it longer"):
        obtain(source, tmp_path, dataset)
    assert obtain(source, tmp_path, dataset, force=True)[0].digest == teacher.digest


def test_an_accuracy_that_nobody_knows_is_not_enough_unless_forced(path: Path, tmp_path: Path) -> None:
    source = source_of(path, min_accuracy=0.8)
    with pytest.raises(ConfigError, match=rf"config.teacher.min_accuracy: the test accuracy of {path} is unknown; name"):
        obtain(source, tmp_path)
    assert "test accuracy unknown" in obtain(source, tmp_path, force=True)[1]


def test_images_of_another_size_are_refused(path: Path, tmp_path: Path) -> None:
    teacher, _ = obtain(source_of(path), tmp_path)
    with pytest.raises(ConfigError, match="teacher was trained on 3 classes of 1x16x16 images, dataset marks has 3"):
        obtain(source_of(path, replace(SAID, image_size=16)), tmp_path, labelled_by(teacher, wrong=0))


def test_a_bundle_is_loaded_by_its_path_alone(path: Path, tmp_path: Path) -> None:
    imported, _ = obtain(source_of(path), tmp_path)
    replace(imported, test_accuracy=0.25).save(tmp_path / "bundle.pt")
    teacher, said = obtain(source_of(tmp_path / "bundle.pt", None, min_accuracy=0.2), tmp_path)
    assert teacher.digest == imported.digest
    assert "test accuracy 25.00 %" in said
    with pytest.raises(CheckpointError, match="a teacher bundle already contains normalisation, image_size"):
        obtain(source_of(tmp_path / "bundle.pt"), tmp_path)


def test_weights_that_nobody_explains_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"bare weights, which need normalisation beside the path.* one of cifar10, cifar100"):
        obtain(source_of(path, None), tmp_path)


def test_weights_at_a_uri_are_imported_as_well(path: Path, tmp_path: Path) -> None:
    here, _ = obtain(source_of(path), tmp_path)
    source = TeacherSource(path=path.as_uri(), recipe=None, min_accuracy=0.0, published=SAID)
    assert obtain(source, tmp_path)[0].digest == here.digest


class Idle(nn.Module):
    """One of its batch norms never runs."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.extra, self.norm, self.score = nn.BatchNorm2d(1), nn.BatchNorm2d(1), nn.Linear(64, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.score(self.norm(x).flatten(1))


class Bare(Idle):
    """No batch norm runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.score(x.flatten(1))


@pytest.mark.parametrize(
    ("make", "about"),
    [
        (Idle, "1 of 2 batch norms are left out of batch statistics: extra does not run"),
        (Bare, "no batch norm with statistics to compare (extra does not run, norm does not run)"),
    ],
)
def test_a_teachers_batch_norms_that_cannot_be_compared_are_told(make: type[nn.Module], about: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(make(3).state_dict(), tmp_path / "own.pth")
    said = PublishedConfig(
        normalisation="half", image_size=8, channels=1, class_names=("a", "b", "c"), factory=f"{__name__}:{make.__name__}"
    )
    _, told = obtain(source_of(tmp_path / "own.pth", said), tmp_path)
    assert told.splitlines()[1:] == [f"this teacher: {about}"]


# Whether its network is the one that its weights were trained in


@pytest.fixture(scope="module")
def strided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network with stride 2 in its stem, trained on digits; keys and shapes are the standard one's."""
    recipe = TeacherRecipe(arch="wrn_10_1-stem_stride_2", epochs=4, batch_size=64, warmup_epochs=1)
    path = tmp_path_factory.mktemp("weights") / "strided.pth"
    torch.save(train_teacher(recipe, digits.load(), CPU).state, path)
    return path


def digits_said(variant: str | None = None) -> PublishedConfig:
    return PublishedConfig(normalisation=digits.load().normalisation, image_size=digits.IMAGE_SIZE, variant=variant)


def test_the_only_variant_that_fits_is_taken_and_said(strided: Path, tmp_path: Path) -> None:
    teacher, said = obtain(source_of(strided, digits_said()), tmp_path, digits.load())
    assert teacher.arch == "wrn_10_1-stem_stride_2"
    assert "of the variants standard, stem_stride_2 only those of stem_stride_2" in said
    assert measure(teacher.build(CPU), digits.load(), CPU) > 0.8
    teacher.save(tmp_path / "bundle.pt")
    assert obtain(source_of(tmp_path / "bundle.pt", None), tmp_path)[0].arch == teacher.arch


def test_another_variant_is_refused_with_the_layer_and_the_one_that_fits_unless_forced(strided: Path, tmp_path: Path) -> None:
    source = source_of(strided, digits_said("standard"))
    with pytest.raises(ConfigError) as caught:
        obtain(source, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"config.teacher: {strided} was not trained in this wrn_10_1: block")
    assert message.endswith("; its statistics fit variant: stem_stride_2; set that, or pass --force")
    teacher, said = obtain(source, tmp_path, force=True)
    assert teacher.arch == "wrn_10_1"
    assert "its batch norms do not fit" in said
    teacher.save(tmp_path / "wrong.pt")
    with pytest.raises(ConfigError, match="was not trained in this wrn_10_1"):
        obtain(source_of(tmp_path / "wrong.pt", None), tmp_path)


def test_a_variant_that_the_network_has_not_is_refused(strided: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="variant must be one of standard, stem_stride_2 for a wrn_10_1, got 'max_pool'"):
        obtain(source_of(strided, digits_said("max_pool")), tmp_path)


def test_what_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    network = build_model("wrn_10_1", num_classes=3, channels=1)
    network(torch.randn(8, 1, 8, 8))
    torch.save(network.state_dict(), tmp_path / "net.pth")
    with pytest.raises(
        ConfigError, match=r"its batch norms have seen too few .*; name one with variant \(standard, stem_stride_2\)"
    ):
        obtain(source_of(tmp_path / "net.pth"), tmp_path)
    teacher, said = obtain(source_of(tmp_path / "net.pth", replace(SAID, variant="standard")), tmp_path)
    assert teacher.arch == "wrn_10_1"
    assert "not checked whether this is its network, because its batch norms have seen too few batches" in said


def test_a_teacher_from_a_file_that_guesses_is_refused_unless_forced(path: Path, tmp_path: Path) -> None:
    teacher, _ = obtain(source_of(path), tmp_path)
    dataset = labelled_by(teacher, wrong=30)
    with pytest.raises(ConfigError, match=rf"{path} scores 25.00 % on 40 test images, and guessing scores up to 55.69 %"):
        obtain(source_of(path), tmp_path, dataset)
    assert obtain(source_of(path), tmp_path, dataset, force=True)[0].digest == teacher.digest


@pytest.mark.parametrize("part", ["config", "space"])
def test_a_student_that_takes_no_images_of_the_teachers_size_is_refused_before_the_trials(part: str, tmp_path: Path) -> None:
    study = tiny_study()
    if part == "config":
        study["config"]["student"]["arch"] = "lenet5"
    else:
        study["space"]["student.arch"] = {"choice": ["wrn_10_1", "lenet5"]}
    loaded = load_study(write_study(tmp_path / "study.yaml", study))
    check_students(loaded, replace(sound_teacher(), image_size=28))
    with pytest.raises(ConfigError, match="arch lenet5: takes images of 28 or 32 pixels per side, but these have 16"):
        check_students(loaded, replace(sound_teacher(), image_size=16))
