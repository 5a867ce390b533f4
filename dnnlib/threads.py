"""Threads that suit containers and shared machines.

By default OpenMP's threads wait for one another by spinning, and start one for each core. Where something else has the
cores, or a quota stops them, every wait costs a time slice: several times slower. If they sleep at once instead, each
wait costs a wake-up, which idle cores feel too (benchmarks/README.md). So they spin for a moment and then sleep, and
are no more than the quota.
"""

import os
from pathlib import Path, PurePosixPath

WAITING = {
    "OMP_WAIT_POLICY": "passive",  # sleep at once; but GNU's OpenMP, which torch's Linux packages bring,
    "GOMP_SPINCOUNT": "10000",  # looks so often before, in some tenths of a millisecond: most waits are shorter
}
CONTROLLERS = ("", "cpu", "cpu,cpuacct")  # folders of cgroup v2 and v1


def set_defaults() -> None:
    """Put `defaults` where the user has set nothing, for OpenMP to read, once, as torch is loaded."""
    found = defaults()
    # One of them decides how threads wait, whatever the other says.
    if not WAITING.keys().isdisjoint(os.environ):
        found = {name: value for name, value in found.items() if name not in WAITING}
    for name, value in found.items():
        os.environ.setdefault(name, value)


def defaults(root: Path = Path("/")) -> dict[str, str]:
    """Environment variables that suit this machine.

    Args:
        root: of the file system that describes it.
    """
    found = dict(WAITING)
    quota = cpu_quota(root)
    if quota is not None and int(quota) < _cores():
        found["OMP_NUM_THREADS"] = str(max(1, int(quota)))
    return found


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Processors' time that the control groups of this process allow it in a second, None where they set no limit.

    That of a group bounds those below it, so the smallest counts.

    Args:
        root: of the file system with proc/self/cgroup and sys/fs/cgroup.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = PurePosixPath("/", path)
        for folder in (group, *group.parents):
            for controller in CONTROLLERS:
                quotas += _quota(root / "sys/fs/cgroup" / controller / folder.relative_to("/"))
    return min(quotas, default=None)


def _quota(group: Path) -> list[float]:
    """The limit that a control group's folder states: [] or [seconds per second]."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = (
                (group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        return [int(quota) / int(period)] if int(quota) > 0 and int(period) > 0 else []
    except (OSError, ValueError):  # "max", -1, or no such file: no limit
        return []


def _cores() -> int:
    """Those that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
