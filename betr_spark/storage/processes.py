"""Processes of this machine: whose, and whether one that once ran still does."""

import getpass
import os
from pathlib import Path


def user_name() -> str:
    """Name of the user, or the number where a container's user has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def identity(pid: int) -> str:
    """Name a process so that no later one has the same name; empty where the system cannot tell (no Linux `/proc`).

    Boot id of the machine, process id namespace (a container's), process id, and start time in ticks since boot.
    """
    start, machine = _start(pid), _machine()
    return f"{machine}/{pid}/{start}" if start and machine else ""


def all_dead(identities: list[str]) -> bool:
    """Whether processes are known to have ended: all have a name, ran on this machine and do not exist."""
    return bool(identities) and all(_is_dead(name) for name in identities)


def some_dead(identities: list[str]) -> bool:
    """Whether one of several processes is known to have ended: the others are about to."""
    return any(_is_dead(name) for name in identities)


def _is_dead(name: str) -> bool:
    machine, pid, start = name.rsplit("/", 2)
    return machine == _machine() and _start(int(pid)) != start


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start(pid: int) -> str:
    """Start time of a process that exists and has not ended (a zombie has)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
