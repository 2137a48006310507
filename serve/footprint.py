"""What a server takes of this machine: its processes, and the memory that is theirs.

The memory of a process is its proportional set size: a page that n processes share counts 1/n to
each, so that the sum over a family is what the family takes. The sum of resident sizes would count
what Ray's processes share, some 40%, several times.
"""

from pathlib import Path

PROC = Path("/proc")


def family(pid: int) -> set[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for path in PROC.iterdir():
        if path.name.isdigit() and (parent := _parent(path)) is not None:
            children.setdefault(parent, []).append(int(path.name))
    found, new = {pid}, [pid]
    while new:
        new = [child for one in new for child in children.get(one, [])]
        found.update(new)
    return found


def memory_bytes(pids: set[int]) -> int:
    """Return the proportional set size of processes; one that has ended has none.

    Raises:
        PermissionError: a process is somebody else's.
    """
    return sum(map(_memory, pids))


def _parent(path: Path) -> int | None:
    try:
        stat = (path / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[1])


def _memory(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
