"""What stands in a row about how its labels were chosen or made."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from flashdd.core.facts import Amount, Count, Facts, Fraction, Positive, Ratio


class StoredCandidate(Facts):
    """A scheme of stored labels, fitted to a byte budget; accuracies are those of proxy students."""

    name: str  # the scheme with its settings, "stored@4bit-e52"
    bytes: Positive  # payload and manifest
    proxy_mean: Fraction
    proxy_stderr: Amount | None  # None below n = 2
    n: Positive
    values: tuple[Fraction, ...]  # proxy accuracy by seed


class EqualBytes(Facts):
    """What `stored@equal-bytes` was chosen from; `chosen` is an index into the candidates."""

    name: str  # of the chosen one
    bytes: Positive  # of the chosen one
    budget_bytes: Positive  # the labeler's bytes; without a labeler the label budget
    candidates: Annotated[tuple[StoredCandidate, ...], Field(min_length=1)]
    chosen: Count
    seconds: Amount  # of the choice: writing the candidates, training the proxies

    @model_validator(mode="after")
    def _chosen_exists(self) -> Self:
        if self.chosen >= len(self.candidates):
            raise ValueError(f"chosen is {self.chosen}, but there are {len(self.candidates)} candidates")
        return self


class FittedOffsets(Facts):
    """Class offsets that labels got for the images of a row; gains are those of proxy students."""

    offsets: tuple[float, ...]  # one per class, added to the logits; none where they gained nothing
    gain: float  # of proxies with those that they ask for over the same without, mean
    gain_stderr: Amount
    n: Positive  # proxies without, and as many with
    seconds: Amount


class CommitteeMember(Facts):
    """A network of a committee."""

    name: str  # as the scheme spells it, epochs included
    bytes: Positive  # of its float32 file
    weight: Ratio  # of its logits; the committee's weights sum to 1


class LabelNetwork(Facts):
    """The network behind a row: that the scheme names, the full teacher, the labeler, or whose labels are stored; of a
    committee, the mean of its networks."""

    params: Positive
    macs: Positive
    accuracy: Fraction  # test
    val_accuracy: Fraction
    temperature: Ratio
    name: str | None = None  # absent where the scheme is its name
    epochs: Positive | None = None  # of its training; as name, and absent for a labeler
    shift: Fraction | None = None  # share of its side by which an image moved at most in it; as epochs
    logit_scale: Ratio | None = None  # as name
    offsets: tuple[float, ...] | None = None  # of the full teacher's labels, one per class
    class_offsets: bool | None = None  # true of a labeler that has some in its file
    bits: Positive | None = None  # of a packed labeler's weights; absent for float32 networks
    num_members: Positive | None = None  # as bits
    entropy: Amount | None = None  # mean over all labels, nats; absent where labels are made at every step
    members: tuple[CommitteeMember, ...] | None = None  # of a committee
    batch_statistics: Positive | None = None  # views that a committee's batch norms normalize together
