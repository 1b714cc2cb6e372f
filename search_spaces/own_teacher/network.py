"""A user's own network: plain torch, nothing from this package."""

import torch
from torch import Tensor, nn


class Digits(nn.Module):
    """Scores of ten classes for grey images of 8 x 8 pixels."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.third = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.scores = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.third(self.second(self.first(images)))
        return self.scores(torch.flatten(nn.functional.adaptive_avg_pool2d(maps, 1), 1))
