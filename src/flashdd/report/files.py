"""The files below OUT/report that the page draws; each may be absent, none may be damaged."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from flashdd.core.errors import ArtifactError
from flashdd.core.record import field_name

_PNG = b"\x89PNG\r\n\x1a\n"
Fraction = Annotated[float, Field(ge=0, le=1)]


class _ReportFile(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The file at `path`, None where there is none. Raises ArtifactError where it is damaged."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ArtifactError(
                f"{path} cannot be read ({error.strerror}): check the path and its rights."
            ) from error
        try:
            return cls.model_validate_json(data, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise ArtifactError(
                f"{path}: field {field_name(first['loc'])} is wrong ({first['msg']}): delete the file to get "
                "the report without it, or make the run again."
            ) from None


class Strip(_ReportFile):
    """Images of one class by one method, as base64 PNG files."""

    images: str
    png: tuple[str, ...]

    @field_validator("png")
    @classmethod
    def _are_png(cls, png: tuple[str, ...]) -> tuple[str, ...]:
        for number, text in enumerate(png):
            try:
                data = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                data = b""
            if not data.startswith(_PNG):
                raise ValueError(f"image {number} is no base64 PNG")
        return png


class GalleryClass(_ReportFile):
    """One class: a strip for every image method at hand, the run's own first."""

    name: str
    strips: tuple[Strip, ...]


class Gallery(_ReportFile):
    """report/gallery.json: some images of every class, by class and method."""

    classes: tuple[GalleryClass, ...]


class Matrix(_ReportFile):
    """A square matrix >= 0, a row and a column for every class.

    report/mean_labels.json: row = class, values = mean soft label that the labeler gives to its views.
    report/confusion.json: row = true class, column = predicted class, values = test images.
    """

    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    matrix: tuple[tuple[Annotated[float, Field(ge=0)], ...], ...]

    @model_validator(mode="after")
    def _is_square(self) -> Self:
        num = len(self.class_names)
        if len(self.matrix) != num or any(len(row) != num for row in self.matrix):
            raise ValueError(f"matrix is not {num} x {num}, as many as class_names")
        return self


class CurveRow(_ReportFile):
    """Mean accuracy over seeds after so many steps."""

    scheme: str
    images: str
    steps: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    mean: tuple[Fraction, ...]

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.steps) != len(self.mean):
            raise ValueError(f"{len(self.steps)} steps, but {len(self.mean)} means")
        return self


class Curves(_ReportFile):
    """report/curves.json: how the students learned."""

    rows: tuple[CurveRow, ...]
