"""Classifiers by name. Every model returns ``Output(features, logits)`` and has ``feature_dim`` and ``stages``."""

from cpsc.import_path import check_import_path, is_import_path
from cpsc.models.imported import build_imported
from cpsc.models.lenet import LeNet
from cpsc.models.mobilenet import MobileNetV2
from cpsc.models.names import (
    STANDARD,
    VARIANTS,
    Recipe,
    build_model,
    check_arch,
    check_image_size,
    named_variant,
    recipe_of,
    variants_of,
)
from cpsc.models.output import Output
from cpsc.models.reconstruction import Reconstruction
from cpsc.models.resnet import BottleneckResNet, CifarResNet, PaddedCifarResNet, ResNet
from cpsc.models.shapes import shapes_alone
from cpsc.models.shufflenet import ShuffleNetV2
from cpsc.models.vgg import PooledVgg, Vgg
from cpsc.models.vit import VisionTransformer
from cpsc.models.weight_selection import is_smaller, selected_weights
from cpsc.models.wide_resnet import GroupNormWideResNet, WideResNet

__all__ = [
    "STANDARD",
    "VARIANTS",
    "BottleneckResNet",
    "CifarResNet",
    "GroupNormWideResNet",
    "LeNet",
    "MobileNetV2",
    "Output",
    "PaddedCifarResNet",
    "PooledVgg",
    "Recipe",
    "Reconstruction",
    "ResNet",
    "ShuffleNetV2",
    "Vgg",
    "VisionTransformer",
    "WideResNet",
    "build_imported",
    "build_model",
    "check_arch",
    "check_image_size",
    "check_import_path",
    "is_import_path",
    "is_smaller",
    "named_variant",
    "recipe_of",
    "selected_weights",
    "shapes_alone",
    "variants_of",
]
