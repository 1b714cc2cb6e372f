"""Sources of synthetic images: a generator that trains along with the student, or a pool of batches inverted one by one."""

from cpsc.synthesis.base import AbstractSynthesis, Batch
from cpsc.synthesis.generated import GeneratedImages
from cpsc.synthesis.inverted import InvertedBatches, InvertedByGenerator
from cpsc.synthesis.meta_generator import InvertedByMetaGenerator, MetaGeneratorConfig
from cpsc.synthesis.noisy_layer import InvertedByNoisyLayer, NoisyLayerConfig

__all__ = [
    "AbstractSynthesis",
    "Batch",
    "GeneratedImages",
    "InvertedBatches",
    "InvertedByGenerator",
    "InvertedByMetaGenerator",
    "InvertedByNoisyLayer",
    "MetaGeneratorConfig",
    "NoisyLayerConfig",
]
