"""PRE-DFKD's generative pseudo replay: an autoencoder that imitates all earlier images (Binici et al. 2022, arXiv:2201.03019)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.config import DistillConfig
from cpsc.device import place, precise
from cpsc.generator import FAMILIES, Generator, initialise
from cpsc.losses.confidence import class_imbalance, one_hot_loss
from cpsc.losses.variational import latent_kl
from cpsc.memory import num_bytes
from cpsc.models import Output
from cpsc.replay.base import AbstractReplay, Recalled
from cpsc.rng import RandomStreams, seeded_init
from cpsc.teacher import Teacher

FAMILY = FAMILIES["pre_decoder"]
ADAM_EPS = 1e-8


class Encoder(nn.Module):
    """Images [B, K, H, W] -> mean and log-variance of their latents, [B, nz] each.

    As in the published code, each column of each channel is first scaled to unit norm (it normalises over the height).
    """

    def __init__(self, *, latent_dim: int, width: int, channels: int, image_size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width // 2, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(width // 2, eps=0.8)
        self.conv2 = nn.Conv2d(width // 2, width, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(width, eps=0.8)
        self.conv3 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.norm3 = nn.BatchNorm2d(width)
        self.num_features = width * (image_size // 8) ** 2
        self.mean = nn.Linear(self.num_features, latent_dim)
        self.log_var = nn.Linear(self.num_features, latent_dim)
        initialise(self, FAMILY)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        return self.mean(features), self.log_var(features)

    def features(self, images: Tensor) -> Tensor:
        """[B, K, H, W] -> [B, num_features]."""
        x = F.leaky_relu(self.norm1(self.conv1(F.normalize(images, dim=2))), 0.2)
        x = F.leaky_relu(self.norm2(self.conv2(x)), 0.2)
        x = self.norm3(self.conv3(_halved(x)))
        return _halved(x).flatten(1)


def _halved(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=0.5, mode="nearest")


class GenerativeReplay(AbstractReplay):
    """The autoencoder: draws images for the student, and provides the terms that it is trained on.

    `terms` has `reconstruction` of pixels and `response` of the teacher's logits (factor 1 each), `latent_kl`, and with `leak` the
    loss of the refinement.
    """

    def __init__(
        self, config: DistillConfig, teacher: Teacher, network: nn.Module, streams: RandomStreams, device: torch.device
    ) -> None:
        super().__init__()
        self._config = config.replay
        self._teacher = (network,)  # in a tuple, so that it is not a submodule
        self._rng = streams.named("replay")
        self._device = device
        batch_size = config.schedule.batch_size
        self.num_images = max(2, round(batch_size * config.replay.fraction))
        self._num_novel = max(1, batch_size // 2)
        size = {"width": config.generator.width, "channels": teacher.channels, "image_size": teacher.image_size}
        with seeded_init(config.seed, "replay"):
            self.encoder = Encoder(latent_dim=config.replay.latent_dim, **size)
            self.decoder = Generator(FAMILY, latent_dim=config.replay.latent_dim, normalisation=teacher.normalisation, **size)
        self._num_updates = 0
        self.updates = min(config.replay.updates, config.schedule.student_steps)
        place(self, device).train().requires_grad_(False)
        self.weights = {"reconstruction": 1.0, "response": 1.0, "latent_kl": config.replay.latent_kl}
        if config.replay.leak:
            self.weights["leak"] = 1.0
        self._novel = torch.empty(0)

    @property
    def num_stored_bytes(self) -> int:
        return num_bytes(self.encoder) + num_bytes(self.decoder)

    def recall(self) -> Recalled:
        """Images from the decoder, [num_images, K, H, W], without a graph."""
        self.decoder.eval()
        images, _ = self._refined()
        self.decoder.train()
        return Recalled(images)

    def remember(self, novel: Tensor, answers: Output) -> None:
        """Keep half of a batch, taken from `novel`, for the next update to imitate."""
        del answers
        self._novel = novel[: self._num_novel]

    def terms(self) -> dict[str, Tensor]:
        """Terms to minimise over the autoencoder, on half of the last new images and on images of its own.

        In the first iteration of a run it has no images of its own to remember yet.
        """
        images, leak = self._novel, torch.zeros((), device=self._device)
        if self._num_updates >= self.updates:
            own, leak = self._refined()
            images = torch.cat([images, own])
        self._num_updates += 1
        mean, log_var = self.encoder(images)
        noise = torch.randn(mean.shape, device=self._device, generator=self._rng)
        restored = self.decoder(mean + (0.5 * log_var).exp() * noise)
        with torch.no_grad():
            wanted = self._respond(images)
        terms = {
            "reconstruction": (precise(restored) - precise(images)).abs().mean(),
            "response": (self._respond(restored) - wanted).abs().mean(),
            "latent_kl": latent_kl(precise(mean), precise(log_var)),
        }
        return terms | ({"leak": leak} if self._config.leak else {})

    def get_extra_state(self) -> dict[str, int]:
        return {"num_updates": self._num_updates}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self._num_updates = state["num_updates"]

    def _refined(self) -> tuple[Tensor, Tensor]:
        """Images of latents after one Adam step towards confident, class-balanced images; and the loss of that step, with a graph.

        The step changes only the latents; its gradients reach the decoder only with `leak`.
        """
        config = self._config
        latents = torch.randn(self.num_images, config.latent_dim, device=self._device, generator=self._rng)
        latents.requires_grad_(True)
        with torch.enable_grad():
            logits = self._respond(self.decoder(latents))
            spread = latents.var(dim=0)
            loss = (
                config.balance * class_imbalance(logits, base=10.0)
                + one_hot_loss(logits).mean()
                + F.mse_loss(spread, torch.ones_like(spread))
                + latents.mean(dim=0).square().mean()
            )
            (gradient,) = torch.autograd.grad(loss, latents, retain_graph=config.leak)
        with torch.no_grad():
            # The first step of a fresh Adam, whose moments are the gradient and its square.
            refined = latents - config.refine_lr * gradient / (gradient.abs() + ADAM_EPS)
            return self.decoder(refined), loss

    def _respond(self, images: Tensor) -> Tensor:
        logits: Tensor = self._teacher[0](images).logits
        return precise(logits)
