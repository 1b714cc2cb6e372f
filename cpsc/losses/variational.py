"""The regulariser of a variational autoencoder."""

from torch import Tensor


def latent_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, I)), [B, d] each -> [B], nats. Kingma and Welling 2014 (arXiv:1312.6114), app. B."""
    return -0.5 * (1.0 + log_var - mean.square() - log_var.exp()).sum(dim=1)
