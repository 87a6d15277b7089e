"""What every object in a record is made of: frozen models, and numbers with their range."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Ratio = Annotated[float, Field(gt=0)]


class Facts(BaseModel):
    """Frozen; unknown keys are kept; NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
