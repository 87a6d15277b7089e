"""What long work tells its caller; the command line draws it, the Python API is silent by default."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Progress(ABC):
    """Where messages and bars go. One bar is open at a time."""

    @abstractmethod
    def message(self, text: str) -> None:
        """One line for the user."""

    @abstractmethod
    def start(self, label: str, total: int) -> None:
        """Open a bar of `total` units, closing the one before."""

    @abstractmethod
    def update(self, done: int) -> None:
        """`done` units of the open bar are finished."""

    @abstractmethod
    def finish(self, result: str) -> None:
        """Close the open bar and say in a few words what came of its work."""

    @abstractmethod
    def close(self) -> None:
        """Close the open bar."""


class Silent(Progress):
    def message(self, text: str) -> None:
        del text

    def start(self, label: str, total: int) -> None:
        del label, total

    def update(self, done: int) -> None:
        del done

    def finish(self, result: str) -> None:
        del result

    def close(self) -> None:
        return
