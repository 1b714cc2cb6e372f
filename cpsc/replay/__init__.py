"""Replay of earlier images for the student: images of an autoencoder that imitates them, or some of the images themselves."""

from cpsc.replay.autoencoder import GenerativeReplay
from cpsc.replay.base import AbstractReplay, Recalled
from cpsc.replay.images import ImageReplay

__all__ = ["AbstractReplay", "GenerativeReplay", "ImageReplay", "Recalled"]
