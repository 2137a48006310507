"""Processes and memory of a running server.

Memory is the proportional set size (PSS): a page that n processes share counts 1/n for each, so the
sum over a process tree is exact. Resident sizes would count the memory shared by Ray's processes,
some 40%, several times.
"""

from pathlib import Path

PROC = Path("/proc")


def family(pid: int) -> set[int]:
    """Return a process and all its descendants."""
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
    """Return the proportional set size of processes; an ended one counts 0.

    Raises:
        PermissionError: a process belongs to another system user.
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
