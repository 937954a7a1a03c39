"""What a probe set of several views of each image shows, see `dnc_lightning.image_views`."""

from __future__ import annotations

from dnc_lightning.functional._whole import whole, whole_labels
from dnc_lightning.functional.lidar import alignment, lidar
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Reference, Series

_GROUP = "Views of the same images"


class Views:
    """LiDAR and alignment: every class is an image, its samples are views of it."""

    name = "views"
    series = (
        Series(
            key="lidar",
            title="LiDAR",
            meaning="effective rank of the linear discriminant analysis of images by their views",
            group=_GROUP,
            unit="dimensions",
            low=1.0,
            direction="higher",
            scale="log",
        ),
        Series(
            key="alignment",
            title="Alignment",
            meaning="mean squared distance of the directions of two views of one image",
            group=_GROUP,
            low=0.0,
            high=4.0,
            direction="lower",
            references=(Reference("random directions", 2.0),),
        ),
    )

    def measure(self, bench: Bench) -> Found:
        """Both from the features of all processes, gathered."""
        features = whole(bench.features, bench.shard)
        images = whole_labels(bench.labels, bench.shard)
        return Found({"lidar": lidar(features, images), "alignment": alignment(features, images)})


INSTRUMENT = Views()
