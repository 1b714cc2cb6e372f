import pytest
import torch

from cpsc.deploy import build_deployed
from cpsc.errors import CheckpointError
from cpsc.metrics import predict

CPU = torch.device("cpu")


def test_a_deployed_student_takes_pixels_and_gives_the_logits_of_the_normalised_image(teacher, shapes) -> None:
    deployed = build_deployed("wrn_10_1", teacher.state, teacher)
    images = shapes.test.images[:6]
    expected = predict(teacher.build(CPU), teacher.normalisation.normalise(images))
    with torch.no_grad():
        torch.testing.assert_close(deployed(images.float() / 255.0), expected)


def test_a_deployed_student_is_in_eval_mode_and_carries_its_normalisation(teacher, shapes) -> None:
    deployed = build_deployed("wrn_10_1", teacher.state, teacher)
    assert not any(module.training for module in deployed.modules())
    state = deployed.state_dict()
    assert state["mean"].flatten().tolist() == pytest.approx(teacher.normalisation.mean)
    assert state["std"].flatten().tolist() == pytest.approx(teacher.normalisation.std)
    pixels = shapes.test.images[:6].float() / 255.0
    with torch.no_grad():
        torch.testing.assert_close(deployed(pixels)[:1], deployed(pixels[:1]))


def test_a_deployed_student_traces_into_a_program_without_this_package(teacher, shapes) -> None:
    deployed = build_deployed("wrn_10_1", teacher.state, teacher)
    pixels = shapes.test.images[:3].float() / 255.0
    program = torch.export.export(deployed, (pixels,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(pixels), deployed(pixels))


def test_weights_of_another_network_are_refused(teacher) -> None:
    with pytest.raises(CheckpointError, match="best student's weights do not fit its network 'wrn_16_1'") as caught:
        build_deployed("wrn_16_1", teacher.state, teacher)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("arch", "weights"), [("alexnet", {}), (5, {}), ("wrn_10_1", {"fc.bias": 1.0}), ("wrn_10_1", 3)])
def test_what_is_no_network_is_refused(arch, weights, teacher) -> None:
    with pytest.raises(CheckpointError, match="do not fit its network"):
        build_deployed(arch, weights, teacher)
