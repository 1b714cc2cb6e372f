"""Trains the network and saves its weights: stands for a training long ago, elsewhere, on images that are gone."""

from pathlib import Path

import torch
from network import Digits
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
torch.set_num_threads(1)  # so small a network gains nothing from more, and loses on a busy machine
images, labels = (torch.tensor(array) for array in (load_digits().images, load_digits().target))
images = (images.float()[:, None] / 16 - 0.5) / 0.5  # pixels in 0..1, minus the mean 0.5, divided by the deviation 0.5
network = Digits()
optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
for batch in torch.cat([torch.randperm(len(labels)) for _ in range(6)]).split(64):
    optimizer.zero_grad()
    cross_entropy(network(images[batch]), labels[batch]).backward()
    optimizer.step()
torch.save(network.state_dict(), Path(__file__).with_name("teacher.pth"))
