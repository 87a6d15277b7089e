"""The integers that describe views, drawn per row or, for small image sets, for whole epochs ahead."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict

import torch
from torch import Tensor

from flashdd.data import draws
from flashdd.data.draws import Stream
from flashdd.data.viewspec import ViewSpec

SMALL_SET = 4096
_KEPT_BLOCKS = 32
_NEW_BLOCKS = 4
_KEPT_PARTNERS = 2**22


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewParams:
    """What is random about B views, all int64; an operation that is off holds the value that changes nothing."""

    shuffle: Tensor
    """(B, 2, f): order of the row bands, order of the column bands."""
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

    @classmethod
    def unpack(cls, values: Tensor) -> ViewParams:
        """From the rows (B, 13 + 2f) of a ParamTable; the fields are views of `values`."""
        return cls(
            shift=values[:, 0:2],
            crop=values[:, 2:6],
            flip=values[:, 6],
            partner=values[:, 7],
            partner_epoch=values[:, 8],
            box=values[:, 9:13],
            shuffle=values[:, 13:].unflatten(1, (2, -1)),
        )

    def to_json(self) -> dict[str, list[object]]:
        """Every field as nested lists of integers."""
        return {field.name: getattr(self, field.name).tolist() for field in dataclasses.fields(self)}


class ParamTable:
    """Parameters of the views (epoch, image id) of one image set; what it keeps never changes what it gives.

    At a student's step the cost is in the number of small operations, not in their size, so up to SMALL_SET
    images all views of some epochs are drawn in one call and looked up afterwards. Memory: about 15 MB for
    those tables (shuffle factor 1), 32 MB for the partners of larger sets.
    """

    def __init__(
        self, spec: ViewSpec, *, size: tuple[int, int], num_images: int, seed: int, device: torch.device
    ) -> None:
        self._spec, self._size, self._num_images, self._seed, self._device = spec, size, num_images, seed, device
        self._epochs_ahead = SMALL_SET // num_images  # 0: nothing is drawn ahead
        self._blocks: OrderedDict[int, Tensor] = OrderedDict()
        self._partners: OrderedDict[int, Tensor] = OrderedDict()
        self._partners_kept = max(2, _KEPT_PARTNERS // num_images)
        shuffle = list(range(spec.shuffle)) * 2
        p, (height, width) = spec.padding, size
        neutral = [p, p, 0, 0, height, width, 0, 0, 0, 0, 0, 0, 0, *shuffle]
        self._neutral = torch.tensor(neutral, device=device)

    def rows(self, epochs: Tensor, ids: Tensor, bounds: tuple[int, int]) -> Tensor:
        """Parameters int64 (B, 13 + 2f) in the columns of `ViewParams.unpack`.

        epochs, ids: int64 (B,) on this table's device; bounds: least and greatest of `epochs`.
        """
        ahead = self._epochs_ahead
        if ahead == 0:
            return self._draw(epochs, ids)
        first, last = bounds[0] // ahead, bounds[1] // ahead
        if first == last:
            return self._look_up(first, epochs, ids)
        blocks = torch.unique(epochs // ahead).tolist()
        if sum(block not in self._blocks for block in blocks) > _NEW_BLOCKS:
            return self._draw(epochs, ids)  # epochs at random: tables would be thrown away unused
        values = torch.empty((len(ids), len(self._neutral)), dtype=torch.int64, device=self._device)
        for block in blocks:
            here = (epochs // ahead == block).nonzero()[:, 0]
            values[here] = self._look_up(block, epochs[here], ids[here])
        return values

    def _look_up(self, block: int, epochs: Tensor, ids: Tensor) -> Tensor:
        table = self._blocks.get(block)
        if table is None:
            table = self._blocks[block] = self._draw_block(block)
            if len(self._blocks) > _KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(block)
        place = (epochs - block * self._epochs_ahead) * self._num_images + ids
        return table.index_select(0, place)

    def _draw_block(self, block: int) -> Tensor:
        """All views of `_epochs_ahead` epochs, epoch by epoch, id by id."""
        start, count = block * self._epochs_ahead, self._epochs_ahead
        epochs = torch.arange(start, start + count, device=self._device)
        ids = torch.arange(self._num_images, device=self._device)
        partner = None
        if self._spec.mix == "cutmix":
            partner = draws.partners(self._seed, epochs, self._num_images).flatten()
        return self._draw(epochs.repeat_interleave(self._num_images), ids.repeat(count), partner)

    def _draw(self, epochs: Tensor, ids: Tensor, partner: Tensor | None = None) -> Tensor:
        """Parameters drawn row by row; `partner` where the caller knows them already."""
        spec, seed = self._spec, self._seed
        values = self._neutral.repeat(len(ids), 1)
        values[:, 7], values[:, 8] = ids, epochs
        switches = {
            Stream.SHIFT: spec.padding > 0,
            Stream.CROP: spec.crop_scale is not None,
            Stream.FLIP: spec.flip,
            Stream.BOX: spec.mix == "cutmix",
        }
        streams = [stream for stream, on in switches.items() if on]
        drawn = dict(zip(streams, zip(*draws.words(seed, streams, epochs, ids), strict=True), strict=True))
        if Stream.SHIFT in drawn:
            values[:, 0:2] = draws.shifts(drawn[Stream.SHIFT], spec.padding)
        if spec.crop_scale is not None:
            first = drawn[Stream.CROP]
            values[:, 2:6] = draws.crop_boxes(seed, epochs, ids, first, size=self._size, scale=spec.crop_scale)
        if Stream.FLIP in drawn:
            values[:, 6] = drawn[Stream.FLIP][0] >> 31
        if Stream.BOX in drawn:
            values[:, 7] = self._partner(epochs, ids) if partner is None else partner
            values[:, 9:13] = draws.cutmix_boxes(drawn[Stream.BOX], self._size)
        if spec.shuffle > 1:
            values[:, 13:] = draws.band_orders(seed, epochs, ids, spec.shuffle).flatten(1)
        return values

    def _partner(self, epochs: Tensor, ids: Tensor) -> Tensor:
        """The CutMix partners of single rows; the permutations of recent epochs are kept."""
        found = torch.empty_like(ids)
        for epoch in torch.unique(epochs).tolist():
            order = self._partners.get(epoch)
            if order is None:
                one = torch.tensor([epoch], device=self._device)
                order = self._partners[epoch] = draws.partners(self._seed, one, self._num_images)[0]
                if len(self._partners) > self._partners_kept:
                    self._partners.popitem(last=False)
            found = torch.where(epochs == epoch, order[ids], found)
        return found
