"""Rows of a comparison, made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flashdd.core.record import Accuracy, ComparedRow, Comparison

RECORD = Path(__file__).parents[1] / "report" / "record.json"


def row(scheme: str, images: str, values: list[float], **more: Any) -> ComparedRow:
    facts: dict[str, Any] = {
        "scheme": scheme,
        "images": images,
        "ipc": 10,
        "student": "convnet-3-w32",
        "protocol": "flash",
        "label_bytes": 0,
        "accuracy": Accuracy.of(values),
        "best_epoch": None,
        "seconds": 1.0,
    }
    return ComparedRow(**{**facts, **more})


def comparison(rows: list[ComparedRow]) -> Comparison:
    top = {
        key: value
        for key, value in json.loads(RECORD.read_text()).items()
        if key in ("flashdd", "format", "environment", "config", "data")
    }
    top["config"] = {**top["config"], "seed": 0}
    return Comparison.model_validate(
        {**top, "rows": [entry.model_dump() for entry in rows], "notes": ["first"]}
    )
