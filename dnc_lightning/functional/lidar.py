"""What views of the same images show without labels: LiDAR and alignment."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from dnc_lightning.functional._checks import check_features
from dnc_lightning.functional._tiles import exact_arithmetic, wide
from dnc_lightning.functional.spectrum import effective_rank

REGULARISATION = 1e-4
"""Added to the within-image covariance, as published: LiDAR depends on the scale of features."""


def lidar(features: Tensor, images: Tensor, regularisation: float = REGULARISATION) -> Tensor:
    """Effective rank of the linear discriminant analysis that has every image as a class.

    Thilak et al., *LiDAR: Sensing Linear Probing Performance in Joint Embedding SSL Architectures*,
    ICLR 2024, with about 1,000 images of 10 to 50 views.

    Args:
        features: [N, D], of several views of each image.
        images: [N] integers from 0: of which image a view is.
        regularisation: Added to each within-image variance, in squared units of the features.

    Returns:
        Between 1 and min(D, images - 1); nan where all features are the same.

    Raises:
        ValueError: an image without two views, or features and images that do not fit.
    """
    count = check_features(features, images, None)
    with exact_arithmetic(features.device):
        x = features.to(wide(features.device))
        means, within = _split(x, images, count)
        views = len(x) - count
        dim = x.shape[1]
        spread = within.T @ within / views + regularisation * torch.eye(dim).to(x)
        between = means - means.mean(0)
        factor = torch.linalg.cholesky(spread)
        whitened = torch.linalg.solve_triangular(factor, between.T, upper=False)  # [D, images]
        return effective_rank(torch.linalg.svdvals(whitened).square())


def alignment(features: Tensor, images: Tensor) -> Tensor:
    """Mean squared distance of the directions of two views of one image, over pairs of views.

    Wang and Isola, *Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere*, ICML 2020.

    Args:
        features: [N, D], of several views of each image.
        images: [N] integers from 0: of which image a view is.

    Returns:
        In [0, 4]: 0 where the views of an image point the same way, 2 of directions at random;
        mean over the images.

    Raises:
        ValueError: an image without two views, or features and images that do not fit.
    """
    count = check_features(features, images, None)
    with exact_arithmetic(features.device):
        unit = normalize(features.to(wide(features.device)), dim=1)
        _, within = _split(unit, images, count)
        views = torch.bincount(images.long(), minlength=count)
        # The mean squared distance of n points is 2 n / (n - 1) times their variance.
        sums = one_hot(images.long(), count).to(unit).T @ within.square().sum(1)
        return (2 * sums / (views - 1)).mean()


def _split(x: Tensor, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Means [images, D], and what is left of each view [N, D]."""
    views = torch.bincount(images.long(), minlength=count)
    if bool((views < 2).any()):
        raise ValueError(
            f"every image needs two views, image {int(views.argmin())} has {int(views.min())}. "
            "Give each as many; see dnc_lightning.probe.views."
        )
    means = one_hot(images.long(), count).to(x).T @ x / views[:, None]
    return means, x - means[images.long()]
