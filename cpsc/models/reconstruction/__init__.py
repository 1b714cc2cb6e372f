"""Makes a smaller network of the teacher's family from the teacher, layer by layer, without any training.

Channel pruning by least squares: He, Zhang and Sun, ICCV 2017 (arXiv:1707.06168). Channels of each width are chosen. Then every
convolution is fitted, on the outputs of the previous layers for some images, to what the teacher's convolution computes in the
chosen channels (eq. 1); if it ends a residual branch, to what is missing from the teacher's sum, as in the paper. The paper chooses
channels by LASSO, for each layer separately. Here they are chosen one after another: each is the channel that explains, by least
squares, most of what all layers that read this width see, so that the parts of a residual sum share one choice. In a network that
is also shallower, one block stands for several of the teacher's: its input is that of the first, its output that of the last.
"""

from cpsc.models.reconstruction.plan import Reconstruction

__all__ = ["Reconstruction"]
