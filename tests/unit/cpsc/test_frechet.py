"""Frechet distances against closed forms; the FID path with a real Inception network of random weights."""

import hashlib
import importlib
import importlib.util
import math
import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cpsc import frechet
from cpsc.errors import ConfigError, DataError
from cpsc.frechet import InceptionFid, frechet_distance, inception_fid, load_inception
from cpsc.metrics import features_and_logits
from cpsc.torchvision_cure import import_torchvision
from tests.unit.cpsc.data.files import Touch

needs_extra = pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is None, reason="the extra fid is not installed")


def normal(num: int, dim: int, *, seed: int) -> Tensor:
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_moments(mean: Tensor, root: Tensor, *, num: int = 200, seed: int = 0) -> Tensor:
    """Rows whose mean is exactly `mean` and whose unbiased covariance is exactly ``root @ root.T``."""
    raw = normal(num, len(mean), seed=seed)
    white = torch.linalg.qr(raw - raw.mean(dim=0)).Q * math.sqrt(num - 1)
    return white @ root.T + mean


# The distance


def test_gaussians_with_diagonal_covariances_have_the_closed_form() -> None:
    mean, other_mean = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.0, 0.0, 0.5]).double()
    scales, other_scales = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([2.0, 2.0, 0.5]).double()
    real = with_moments(mean, scales.diag(), seed=1)
    synthetic = with_moments(other_mean, other_scales.diag(), seed=2, num=90)
    expected = (mean - other_mean).square().sum() + (scales - other_scales).square().sum()  # sum of (s1 - s2)^2
    assert frechet_distance(real, synthetic) == pytest.approx(expected.item(), rel=1e-10)


def test_gaussians_with_full_covariances_agree_with_an_explicit_matrix_root() -> None:
    root, other_root = normal(4, 4, seed=3), normal(4, 4, seed=4)
    real, synthetic = with_moments(torch.zeros(4).double(), root), with_moments(torch.ones(4).double(), other_root, seed=9)
    eigenvalues = torch.linalg.eigvals(root @ root.T @ other_root @ other_root.T).real
    expected = 4.0 + root.square().sum() + other_root.square().sum() - 2 * eigenvalues.sqrt().sum()
    assert frechet_distance(real, synthetic) == pytest.approx(expected.item(), rel=1e-9)


def test_a_shift_costs_its_squared_length() -> None:
    features = normal(50, 6, seed=0)
    assert frechet_distance(features, features + 0.5) == pytest.approx(6 * 0.25, rel=1e-9)


@pytest.mark.parametrize(("num", "dim"), [(300, 20), (5, 20)], ids=["many rows", "fewer rows than columns"])
def test_a_set_is_at_no_distance_from_itself_in_any_order(num: int, dim: int) -> None:
    features = normal(num, dim, seed=0)
    scale = features.square().sum().item()
    assert frechet_distance(features, features) == pytest.approx(0.0, abs=1e-12 * scale)
    assert frechet_distance(features, features.flip(0)) == pytest.approx(0.0, abs=1e-12 * scale)


def test_the_distance_is_symmetric_not_negative_and_blind_to_rotations() -> None:
    real, synthetic = normal(80, 12, seed=1), 2.0 * normal(60, 12, seed=2) + 0.3
    rotation = torch.linalg.qr(normal(12, 12, seed=3)).Q
    distance = frechet_distance(real, synthetic)
    assert distance > 1.0
    assert frechet_distance(synthetic, real) == pytest.approx(distance, rel=1e-10)
    assert frechet_distance(real @ rotation, synthetic @ rotation) == pytest.approx(distance, rel=1e-10)


def test_singular_covariances_have_the_closed_form_too() -> None:
    """Both vary in one direction only: along the same one scales subtract, along orthogonal ones variances add."""
    first, second = torch.zeros(30, 30).double(), torch.zeros(30, 30).double()
    first[0, 0], second[5, 5] = 3.0, 2.0
    mean = torch.zeros(30).double()
    real = with_moments(mean, first, num=100)
    assert frechet_distance(real, with_moments(mean, first / 3, num=70, seed=8)) == pytest.approx((3 - 1) ** 2, rel=1e-10)
    assert frechet_distance(real, with_moments(mean, second, num=70, seed=8)) == pytest.approx(3**2 + 2**2, rel=1e-10)
    constant = torch.ones(4, 30)
    assert frechet_distance(constant, constant + 1) == pytest.approx(30.0)


def test_float32_features_are_measured_in_float64() -> None:
    """Around a large mean, float32 moments would lose all that the sets differ in."""
    real, synthetic = normal(400, 8, seed=1), 1.5 * normal(400, 8, seed=2)
    exact = frechet_distance(real, synthetic)
    assert frechet_distance((real + 4096).float(), (synthetic + 4096).float()) == pytest.approx(exact, rel=1e-2)


def test_rows_read_in_chunks_give_the_distance_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    real, synthetic = normal(70, 9, seed=1), normal(41, 9, seed=2) * 0.5
    whole = frechet_distance(real, synthetic)
    monkeypatch.setattr(frechet, "CHUNK", 8)
    assert frechet_distance(real, synthetic) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(
    ("real", "synthetic", "message"),
    [
        (torch.zeros(1, 3), torch.zeros(4, 3), r"real features must be \[N, d\] with N >= 2, got \[1, 3\]"),
        (torch.zeros(4, 3), torch.zeros(4, 3, 2), r"synthetic features must be \[N, d\] with N >= 2, got \[4, 3, 2\]"),
        (torch.zeros(4, 3), torch.full((4, 3), math.nan), "synthetic features must be finite"),
        (torch.zeros(4, 3), torch.zeros(4, 2), "features must come from one network, got widths 3 and 2"),
    ],
)
def test_features_that_have_no_distance_are_refused(real: Tensor, synthetic: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=f"Frechet distance: {message}"):
        frechet_distance(real, synthetic)


# On the teacher's features


def test_a_real_teacher_tells_noise_from_its_own_images(teacher, shapes) -> None:
    network = teacher.build(torch.device("cpu"))
    images = shapes.normalisation.normalise(shapes.train.images)
    noise = 3 * torch.randn(images[32:].shape, generator=torch.Generator().manual_seed(0))
    real, alike, unlike = (features_and_logits(network, some)[0] for some in (images[:32], images[32:], noise))
    near, far = frechet_distance(real, alike), frechet_distance(real, unlike)
    assert 0 <= near < far


# FID


class Pixels(nn.Module):
    """Stands for the Inception network: its features are the means of the three channels."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> tuple[Tensor]:
        assert (images.dtype, images.shape[1]) == (torch.uint8, 3)
        return (images.float().mean(dim=(2, 3)),)


def some_images(num: int, *, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (num, channels, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_fid_is_the_distance_of_the_networks_features_and_says_on_how_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "load_inception", lambda weights: Pixels())
    real, synthetic = some_images(150), some_images(70, seed=1) // 2
    seen: list[tuple[int, int]] = []
    fid = inception_fid(real, synthetic, Path("w"), on_image=lambda done, total: seen.append((done, total)))
    expected = frechet_distance(real.float().mean(dim=(2, 3)), synthetic.float().mean(dim=(2, 3)))
    assert fid == InceptionFid(pytest.approx(expected, rel=1e-9), 150, 70)
    assert seen == [(64, 220), (128, 220), (150, 220), (214, 220), (220, 220)]
    grey = some_images(20, channels=1)
    assert inception_fid(grey, grey, Path("w")).distance == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize(
    ("num_real", "num_synthetic", "comparable"), [(50_000, 10_000, True), (50_000, 9_999, False), (5, 50_000, False)]
)
def test_an_fid_of_few_images_is_not_comparable(num_real: int, num_synthetic: int, comparable: bool) -> None:
    assert InceptionFid(1.0, num_real, num_synthetic).is_comparable == comparable


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ConfigError, match=r"^FID needs the extra fid, install it: pip install 'cpsc-tune\[fid\]'$"):
        inception_fid(some_images(2), some_images(2), tmp_path / "weights.pth")


@needs_extra
@pytest.mark.parametrize("content", [None, b"", b"other weights"])
def test_weights_that_are_not_the_original_ones_are_refused_in_a_line(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    if content is not None:
        file.write_bytes(content)
    rule = r"cannot be read \(No such file" if content is None else r"not the Inception weights of FID \(sha256 "
    with pytest.raises(ConfigError, match=rf"^{file}: .*{rule}.*download pt_inception-2015-12-05-6726825d.pth"):
        load_inception(file)


def take_for_the_original(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "INCEPTION_SHA256", hashlib.sha256(file.read_bytes()).hexdigest())


@needs_extra
def test_weights_are_read_without_running_what_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, marker = tmp_path / "weights.pth", tmp_path / "marker"
    torch.save({"weight": Touch(marker)}, file)
    take_for_the_original(file, monkeypatch)
    with pytest.raises(pickle.UnpicklingError):
        load_inception(file)
    assert not marker.exists()
    torch.load(file, weights_only=False)  # the file is as dangerous as it claims
    assert marker.exists()


@needs_extra
@pytest.mark.slow
def test_a_real_inception_reads_its_weights_from_the_file_and_downloads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_torchvision()
    inception = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    with monkeypatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setattr(inception, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(nn.Module, "load_state_dict", lambda self, state: None)
        drawn = inception.FeatureExtractorInceptionV3("drawn", ["2048"])
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *args, **kwargs: pytest.fail("it would download"))
    file = tmp_path / "weights.pth"
    torch.save(drawn.state_dict(), file, _use_new_zipfile_serialization=False)  # as the original was written
    take_for_the_original(file, monkeypatch)

    network = load_inception(file)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, drawn.state_dict()[name]) for name, tensor in network.state_dict().items())
    real, synthetic = some_images(4), some_images(3, seed=1) // 4
    with torch.inference_mode():
        expected = frechet_distance(drawn(real)[0], drawn(synthetic)[0])
    fid = inception_fid(real, synthetic, file)
    assert fid.distance == pytest.approx(expected, rel=1e-3)
    assert fid.distance > 0
