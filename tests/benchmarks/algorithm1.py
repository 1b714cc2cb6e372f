"""A literal CPSC-DFKD Algorithm 1, for comparison: float32, contiguous, nothing frozen, every loss written out.

Plain PyTorch, as a first reading of Shao et al. 2023 (arXiv:2510.03375) suggests. Teacher and student are this project's
networks without further optimisation.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.config import DistillConfig
from cpsc.models import build_model
from cpsc.teacher import Teacher


class Embedding(nn.Module):
    """Eq. 4."""

    def __init__(self, num_channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(num_channels, eps=1e-3, affine=False)
        self.scale = nn.Embedding.from_pretrained(torch.ones(num_classes, num_channels), freeze=False)
        self.shift = nn.Embedding.from_pretrained(torch.zeros(num_classes, num_channels), freeze=False)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        scale, shift = self.scale(labels)[:, :, None, None], self.shift(labels)[:, :, None, None]
        out: Tensor = scale * self.norm(x) + shift
        return out


class PlainGenerator(nn.Module):
    """Sec. 3.2."""

    def __init__(self, latent_dim: int, width: int, *, num_classes: int, channels: int, image_size: int) -> None:
        super().__init__()
        self.shape = width, image_size // 4, image_size // 4
        self.project = nn.Linear(latent_dim, math.prod(self.shape))
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.conv3 = nn.Conv2d(width // 2, channels, 3, padding=1)
        self.embeddings = nn.ModuleList(Embedding(number, num_classes) for number in (width, width, width // 2, channels))

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        first, second, third, last = self.embeddings
        x = first(self.project(latents).view(-1, *self.shape), labels)
        x = F.leaky_relu(second(self.conv1(F.interpolate(x, scale_factor=2)), labels), 0.2)
        x = F.leaky_relu(third(self.conv2(F.interpolate(x, scale_factor=2)), labels), 0.2)
        images: Tensor = last(torch.tanh(self.conv3(x)), labels)
        return images


class PlainLoop:
    """One student and one generator, trained by `run`."""

    def __init__(self, config: DistillConfig, teacher: Teacher, device: torch.device) -> None:
        self.config, self.device = config, device
        self.teacher = build_model(teacher.arch, num_classes=teacher.num_classes, channels=teacher.channels)
        self.teacher.load_state_dict(dict(teacher.state))
        self.teacher.eval()
        self.student = build_model(config.student.arch, num_classes=teacher.num_classes, channels=teacher.channels)
        self.generator = PlainGenerator(
            config.generator.latent_dim,
            config.generator.width,
            num_classes=teacher.num_classes,
            channels=teacher.channels,
            image_size=teacher.image_size,
        )
        for network in (self.teacher, self.student, self.generator):
            network.to(device)
        self.num_classes = teacher.num_classes
        student = config.student
        self.student_optimizer = torch.optim.SGD(
            self.student.parameters(), lr=student.lr, momentum=student.momentum, weight_decay=student.weight_decay
        )
        betas = (config.generator.beta1, config.generator.beta2)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), lr=config.generator.lr, betas=betas)
        self._seen: list[Tensor] = []
        self._norms = [module for module in self.teacher.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in self._norms:
            norm.register_forward_pre_hook(lambda _norm, inputs: self._seen.append(inputs[0]))

    def run(self, iterations: int) -> None:
        """Run `iterations` of the generator's steps followed by the student's."""
        for _ in range(iterations):
            for _ in range(self.config.schedule.generator_steps):
                self.generator_step()
            for _ in range(self.config.schedule.student_steps):
                self.student_step()

    def generator_step(self) -> None:
        images, labels = self._images()
        self._seen.clear()
        teacher = self.teacher(images)
        statistics = self._batch_statistics()
        student = self.student(images)
        contrast = self._contrast(teacher.features, student.features, labels)
        label = F.cross_entropy(teacher.logits, labels)
        weights = self.config.weights
        loss = -self._distillation(student.logits, teacher.logits)
        loss = loss + weights.batch_statistics * statistics + weights.contrast * contrast + weights.label * label
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()
        loss.item()

    def student_step(self) -> None:
        images, labels = self._images()
        images = images.detach()
        self._seen.clear()
        teacher = self.teacher(images).logits.detach()
        student = self.student(images).logits
        loss = self._distillation(student, teacher) + self.config.weights.label * F.cross_entropy(student, labels)
        self.student_optimizer.zero_grad()
        loss.backward()
        self.student_optimizer.step()
        loss.item()

    def _images(self) -> tuple[Tensor, Tensor]:
        size = self.config.schedule.batch_size
        latents = torch.randn(size, self.config.generator.latent_dim, device=self.device)
        labels = torch.randint(self.num_classes, (size,), device=self.device)
        return self.generator(latents, labels), labels

    def _distillation(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Eq. 6."""
        kl = F.kl_div(student.log_softmax(dim=1), teacher.softmax(dim=1), reduction="batchmean")
        return kl + self.config.weights.l2 * (teacher - student).norm().log()

    def _batch_statistics(self) -> Tensor:
        """Eq. 2."""
        total = torch.zeros((), device=self.device)
        for norm, seen in zip(self._norms, self._seen, strict=True):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean, var = seen.mean(dim=(0, 2, 3)), seen.var(dim=(0, 2, 3), correction=0)
            total = total + (mean - norm.running_mean).norm() + (var - norm.running_var).norm()
        return total

    def _contrast(self, teacher: Tensor, student: Tensor, labels: Tensor) -> Tensor:
        """Eq. 8."""
        teacher, student = F.normalize(teacher, dim=1), F.normalize(student, dim=1)
        log_probs = (teacher @ student.T / self.config.contrast_temperature).log_softmax(dim=1)
        positives = labels[:, None] == labels[None, :]
        return (-(log_probs * positives).sum(dim=1) / positives.sum(dim=1)).mean()
