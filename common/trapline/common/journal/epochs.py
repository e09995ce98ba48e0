"""Which epochs a partition had, and whether its writer ended cleanly."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import msgspec

FILE = "epochs.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Epoch(msgspec.Struct, frozen=True):
    """An epoch of a partition and the seq of its first record."""

    epoch: int
    first_seq: int


class Epochs(msgspec.Struct):
    """All epochs of a partition in order, and whether a writer holds it or died holding it.

    `boot` names the run of the machine in which the last writer opened it.
    """

    epochs: list[Epoch] = []
    open: bool = False
    boot: str = ""

    @property
    def current(self) -> int:
        """The newest epoch; 0 before the first."""
        return self.epochs[-1].epoch if self.epochs else 0

    @property
    def in_doubt(self) -> bool:
        """Whether the machine went down under the writer, and none has opened since: the end may be torn."""
        return self.open and self.boot != boot_id()

    def end_of(self, epoch: int) -> int | None:
        """Return the seq from which on what was read in this epoch is void or was never in it; None for the newest one.

        A later epoch may have begun before an earlier one did: the writer then lost all of that one and more.
        """
        return min((e.first_seq for e in self.epochs if e.epoch > epoch), default=None)

    def holds(self, epoch: int, seq: int) -> bool:
        """Tell whether a record of an epoch can stand: no later epoch began at or before it."""
        end = self.end_of(epoch)
        return end is None or seq < end

    def begin(self, next_seq: int) -> None:
        """Open for writing: a new epoch when there was none, or when the last writer did not close."""
        if self.open or not self.epochs:
            self.epochs.append(Epoch(self.current + 1 if self.epochs else 0, next_seq))
        self.open, self.boot = True, boot_id()


@cache
def boot_id() -> str:
    """Return what names this run of the machine; nothing where it has no name."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def load_epochs(directory: Path) -> Epochs:
    """Return the epochs of a partition; none when it is new."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=Epochs)
    except FileNotFoundError:
        return Epochs()


class EpochsFile:
    """The epochs of a partition for one who asks often: the file is read when it is another one."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._seen: tuple[int, int] | None = None
        self._epochs = Epochs()

    def read(self) -> Epochs:
        """Return the epochs, as the writer last wrote them; none when the partition is new."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return Epochs()
        seen = status.st_ino, status.st_mtime_ns
        if seen != self._seen:
            self._epochs, self._seen = load_epochs(self._path.parent), seen
        return self._epochs


def save_epochs(directory: Path, epochs: Epochs) -> None:
    """Replace the file atomically, synced: after a power cut it is the old one or the new one."""
    replace_file(directory / FILE, msgspec.json.encode(epochs))


def replace_file(path: Path, data: bytes) -> None:
    """Replace a small file so that after a power cut it has the old content or the new, never half of it."""
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        # A disk that was too full for it needs the room.
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make new and renamed files of a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
