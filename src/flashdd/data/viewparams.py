"""The integers that describe views, as one row per view."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from flashdd.data import draws
from flashdd.data.draws import Stream
from flashdd.data.viewspec import ViewSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewParams:
    """What is random about B views, all int64; where an operation is off, what changes nothing."""

    shift: Tensor
    """(B, 2): row and column of the crop's corner in the padded image, 0 .. 2 padding."""
    crop: Tensor
    """(B, 4): top, left, height, width of RandomResizedCrop's box."""
    flip: Tensor
    """(B,): 1 = mirrored."""
    partner: Tensor
    """(B,): image id of the CutMix partner, the own id without mixing."""
    partner_epoch: Tensor
    """(B,): epoch of the partner's view; another than the own only for "cutmix-batch" over several epochs."""
    box: Tensor
    """(B, 4): top, left, bottom, right of the box that the partner fills, ends exclusive."""
    shuffle: Tensor
    """(B, 2, f): order of the row bands, order of the column bands."""

    @classmethod
    def unpack(cls, values: Tensor) -> ViewParams:
        """From rows (B, 13 + 2f) as `draw_values` makes them; the fields are views of `values`."""
        return cls(
            shift=values[:, 0:2],
            crop=values[:, 2:6],
            flip=values[:, 6],
            partner=values[:, 7],
            partner_epoch=values[:, 8],
            box=values[:, 9:13],
            shuffle=values[:, 13:].reshape(len(values), 2, -1),
        )

    def to_json(self) -> dict[str, list[object]]:
        """Every field as nested lists of integers."""
        return {field.name: getattr(self, field.name).tolist() for field in dataclasses.fields(self)}


def draw_values(
    spec: ViewSpec, size: tuple[int, int], seed: int, epochs: Tensor, ids: Tensor, partner: Tensor | None
) -> Tensor:
    """Rows int64 (B, 13 + 2f), columns as in `ViewParams.unpack`, each drawn for (epochs[i], ids[i]) alone.

    partner: int64 (B,), needed for "cutmix"; what "cutmix-batch" adds is `draw_batch_mix`'s.
    """
    height, width = size
    orders = list(range(spec.shuffle)) * 2
    neutral = [0, 0, 0, 0, height, width, 0, 0, 0, 0, 0, 0, 0, *orders]
    values = torch.tensor(neutral, device=ids.device).repeat(len(ids), 1)
    values[:, 7], values[:, 8] = ids, epochs
    if partner is not None:
        values[:, 7] = partner
    if spec.shuffle > 1:
        values[:, 13:] = draws.band_orders(seed, epochs, ids, spec.shuffle).flatten(1)
    switches = {
        Stream.SHIFT: spec.padding > 0,
        Stream.CROP: spec.crop_scale is not None,
        Stream.FLIP: spec.flip,
        Stream.BOX: spec.mix == "cutmix",
    }
    streams = [stream for stream, on in switches.items() if on]
    if not streams:
        return values
    drawn = dict(zip(streams, draws.words(seed, streams, epochs, ids), strict=True))
    if Stream.SHIFT in drawn:
        values[:, 0:2] = draws.shifts(drawn[Stream.SHIFT], spec.padding)
    if spec.crop_scale is not None:
        values[:, 2:6] = draws.crop_boxes(
            seed, epochs, ids, drawn[Stream.CROP], size=size, scale=spec.crop_scale
        )
    if Stream.FLIP in drawn:
        values[:, 6] = draws.coins(drawn[Stream.FLIP])
    if Stream.BOX in drawn:
        values[:, 9:13] = draws.cutmix_boxes(drawn[Stream.BOX], size)
    return values


def draw_batch_mix(
    values: Tensor, size: tuple[int, int], seed: int, epochs: Tensor, ids: Tensor
) -> tuple[Tensor, Tensor]:
    """`values` with the box and partners of "cutmix-batch": one draw, keyed by the first row, for all rows.

    Returns with them the order (B,): row i is mixed with row order[i] of the batch.
    """
    order = draws.batch_order(seed, epochs[:1], ids[:1], len(ids))
    (word,) = draws.words(seed, [Stream.BATCH_BOX], epochs[:1], ids[:1])
    values = values.clone()
    values[:, 7], values[:, 8] = ids[order], epochs[order]
    values[:, 9:13] = draws.cutmix_boxes(word, size)
    return values, order
