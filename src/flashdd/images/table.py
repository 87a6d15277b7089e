"""From an image method's name to the method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flashdd.core.config import ImagesSection, Section
from flashdd.core.errors import unknown_name
from flashdd.core.plugins import is_plugin, load_plugin, registered
from flashdd.data.imageset import ImageSet
from flashdd.images.dm import dm_images
from flashdd.images.herding import herding_images
from flashdd.images.kmeans import kmeans_images
from flashdd.images.random import random_images
from flashdd.images.rded import rded_images
from flashdd.images.task import DistillTask


@dataclass(frozen=True, kw_only=True)
class ImageMethod:
    """make: the method. revision: raised whenever what it makes changes. teacher: whether it asks for one."""

    make: Callable[[DistillTask, Any], ImageSet]
    citation: str
    revision: int
    teacher: bool


METHODS: Mapping[str, ImageMethod] = {
    "random": ImageMethod(make=random_images, citation="real images", revision=1, teacher=False),
    "herding": ImageMethod(
        make=herding_images, citation="iCaRL, arXiv 1611.07725, Algorithm 4", revision=1, teacher=True
    ),
    "kmeans": ImageMethod(
        make=kmeans_images, citation="DC-BENCH, arXiv 2207.09639", revision=1, teacher=True
    ),
    "rded": ImageMethod(make=rded_images, citation="RDED, arXiv 2312.03526", revision=1, teacher=True),
    "dm": ImageMethod(make=dm_images, citation="DM, arXiv 2110.04181", revision=1, teacher=False),
}


def method_of(name: str) -> ImageMethod:
    """The method called `name`; `module:name` is a user's own, called as those of the table are.

    Its second argument is the table `[images.options]` of the recipe, as a dict. UnknownNameError for no method.
    """
    if name not in METHODS and is_plugin("image method", name):
        make = load_plugin("image method", name)
        return ImageMethod(make=make, citation=name, revision=1, teacher=True)
    if name not in METHODS:
        raise unknown_name("image method", name, (*METHODS, *registered("image method")))
    return METHODS[name]


def settings_of(method: str, section: ImagesSection) -> Section | dict[str, Any]:
    """The table of `method` in the recipe; an empty one where it has no dials."""
    if method not in METHODS:
        return dict(section.options)
    settings: Section = getattr(section, method, Section())
    return settings
