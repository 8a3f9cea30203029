"""This host: its folder, its limits."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import Sum

from batches import identity
from batches.models import Upstream
from provocative.apps import OTHERS
from provocative.doctor import hosts
from provocative.doctor.findings import Finding, error, ok, warning

NETWORKS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs"}
WEB_FILES = 1500  # of the web server: idle connections, threads, its pool
BESIDE = 200  # files of a runner that are no connections to upstreams
BACKLOG = 1024  # connections that wait to be accepted, the web server's own limit
PROCESSES = 512
MEMORY = 2**30  # bytes
PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def home() -> Iterator[Finding]:
    """Ours alone: prompts, answers and the key of all secrets may be in it."""
    folder = settings.HOME
    if folder.stat().st_uid != os.geteuid() or not os.access(folder, os.W_OK | os.X_OK):
        yield error(
            f"{folder} belongs to user {folder.stat().st_uid}, and this is user {os.geteuid()}.",
            f"Run the commands as the user of the service; else chown -R it: {folder}",
        )
        return
    open_ones = [path for path in (folder, *sorted(folder.iterdir())) if _is_open(path)]
    if open_ones:
        names = ", ".join(path.name for path in open_ones[:3])
        yield warning(f"Others on this machine may look into {names}.", f"chmod -R go= {folder}")
    else:
        yield ok(f"{folder} is for its own user alone.")


def _is_open(path: Path) -> bool:
    return not path.is_symlink() and bool(path.stat().st_mode & OTHERS)


def one_machine() -> Iterator[Finding]:
    """SQLite is for one machine, on a disk of its own."""
    if connection.vendor != "sqlite":
        yield ok("PostgreSQL: any number of hosts.")
        return
    others = hosts.runners() - {identity.HOST}
    if others:
        yield error(
            f"SQLite, and runners of other hosts: {', '.join(sorted(others)[:3])}.",
            "Stop the other hosts, or move to PostgreSQL (DATABASE_URL).",
        )
    if (kind := _file_system(settings.HOME)) in NETWORKS:
        yield error(f"SQLite lies on a network share ({kind}).", "Put PROVOCATIVE_HOME on a local disk.")
    elif not others:
        yield ok("SQLite, on one machine.")


def _file_system(folder: Path) -> str:
    """Its kind: of the longest mount point above it."""
    found: list[tuple[int, str]] = []
    for line in (PROC / "self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        if folder.is_relative_to(point):
            found.append((len(point), right.split()[0]))
    return max(found, default=(0, ""))[1]


def open_files() -> Iterator[Finding]:
    """Of the service's processes where some run here, else of this one: each connection is an open file."""
    limit = min(map(_limit, _ours()), default=resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    in_flight = Upstream.objects.filter(enabled=True).aggregate(sum=Sum("max_in_flight", default=0))["sum"]
    wanted = max(WEB_FILES, in_flight + BESIDE)
    text = f"A process may open {limit:,} files; {wanted:,} may be wanted."
    cure = "LimitNOFILE=65536 (systemd), --ulimit nofile=65536 (containers), ulimit -n 65536 (shells)."
    if limit < in_flight + BESIDE:
        yield error(text, cure)
    else:
        yield warning(text, cure) if limit < wanted else ok(text)


def _ours() -> Iterator[int]:
    """Pids of the service's processes on this host, as far as they are this user's."""
    marks = (b"PROVOCATIVE_HOME=" + os.fsencode(settings.HOME), b"PROVOCATIVE_ROLE=")
    for entry in PROC.glob("[0-9]*"):
        try:
            environ = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if marks[0] in environ and any(variable.startswith(marks[1]) for variable in environ):
            yield int(entry.name)


def _limit(pid: int) -> int:
    try:
        return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    except OSError:  # gone meanwhile
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def kernel() -> Iterator[Finding]:
    """What the kernel, or the container, allows."""
    found = [finding for look in (_backlog, _ports, _processes, _memory) for finding in look()]
    yield from found or [ok("Backlog, ports, processes and memory suffice.")]


def _backlog() -> Iterator[Finding]:
    allowed = _number(PROC / "sys/net/core/somaxconn")
    if allowed is not None and allowed < BACKLOG:
        yield warning(f"{allowed} connections may wait to be accepted.", f"sysctl net.core.somaxconn={BACKLOG * 4}")


def _ports() -> Iterator[Finding]:
    try:
        low, high = map(int, (PROC / "sys/net/ipv4/ip_local_port_range").read_text().split())
    except (OSError, ValueError):
        return
    in_flight = Upstream.objects.filter(enabled=True).aggregate(sum=Sum("max_in_flight", default=0))["sum"]
    if high - low < 2 * in_flight:
        yield warning(
            f"{high - low:,} local ports for {in_flight:,} requests in flight.",
            'sysctl net.ipv4.ip_local_port_range="1024 65535"',
        )


def _processes() -> Iterator[Finding]:
    allowed = _number(_cgroup() / "pids.max")
    if allowed is not None and allowed < PROCESSES:
        yield warning(f"{allowed} processes and threads are allowed.", f"TasksMax={PROCESSES * 8} or --pids-limit.")


def _memory() -> Iterator[Finding]:
    allowed = _number(_cgroup() / "memory.max")
    if allowed is not None and allowed < MEMORY:
        yield warning(f"{allowed / 2**20:,.0f} MiB of memory are allowed.", "Allow 1 GiB or more: docs/scaling.md.")


def _cgroup() -> Path:
    """This process's, of version 2; a path without files where there is none."""
    try:
        lines = (PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    return CGROUP / own.lstrip("/")


def _number(path: Path) -> int | None:
    """None when it is not there, or says that there is no limit."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
