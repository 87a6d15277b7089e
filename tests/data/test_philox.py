"""Philox4x32-10 against published answers and against the pure-Python rounds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from view_reference import philox

from flashdd.data.philox import philox4x32

WORD = st.integers(0, 2**32 - 1)
PI = ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0))


def as_tensors(counter: tuple[int, int, int, int]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(word) for word in counter)


def draw(counter: tuple[int, int, int, int], key: tuple[int, int]) -> list[int]:
    c0, c1, c2, c3 = as_tensors(counter)
    return [int(word) for word in philox4x32((c0, c1, c2, c3), key[0] | key[1] << 32)]


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0,) * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (*PI, [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_known_answers_of_random123(
    counter: tuple[int, int, int, int], key: tuple[int, int], answer: list[int]
) -> None:
    assert draw(counter, key) == answer
    assert philox(counter, key) == answer


@given(st.tuples(WORD, WORD, WORD, WORD), st.tuples(WORD, WORD))
def test_equals_the_rounds_in_pure_python(counter: tuple[int, int, int, int], key: tuple[int, int]) -> None:
    assert draw(counter, key) == philox(counter, key)


def test_counters_broadcast() -> None:
    ids, epochs = torch.arange(3), torch.tensor([[7], [8]])
    words = torch.stack(philox4x32((torch.tensor(1), ids, epochs, torch.tensor(2)), 5), dim=-1)
    expected = [[philox((1, i, e, 2), (5, 0)) for i in range(3)] for e in (7, 8)]
    assert words.tolist() == expected
    assert words.dtype == torch.int64
