"""The children of `up`, `web` and `worker`: what each runs, how its health is known, how long it may take to stop."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.db import close_old_connections

from batches import identity
from provocative.addresses import Address, answers
from provocative.children import Child
from provocative.queue_health import ChoresMove, RunnersTakeWork

WEB_PATIENCE = 60.0  # seconds: slow uploads may keep every thread for a while, and that is no wedge
WEB_GRACE = 32.0  # seconds: requests that are in flight at a stop have 30
WORKERS_GRACE = 35.0  # seconds: runners drain for 30, and a chore has as long
MANAGE = (sys.executable, str(settings.BASE_DIR / "manage.py"))


def children(web: Address, model: Address | None, drain: float = 0.0) -> list[Child]:
    """In the order of their start. They stop in the reverse one, so that runners drain into a model that answers."""
    always = [web_server(web, drain), *workers()]
    return [_model(model), *always] if model else always


def workers() -> list[Child]:
    """What validates, finalizes and runs batches."""
    return [_chores(), _runners()]


def leaving() -> Path:
    """The file by which our web server hears, before anything stops, that we leave; nobody else has this name."""
    return settings.HOME / f".leaving-{os.getpid()}-{identity.own_start()}"


def leave() -> None:
    """Tell it. A disk that takes no file keeps nobody from stopping."""
    with contextlib.suppress(OSError):
        leaving().touch()


def web_server(at: Address, drain: float = 0.0) -> Child:
    """`drain`: for so many seconds /readyz says that we leave, and all else is answered as ever."""
    where = ("--host", at.host, "--port", str(at.port))
    threads = ("--workers", "1", "--blocking-threads", str(settings.WEB_THREADS), "--workers-kill-timeout", "30")
    quiet = ("--no-ws", "--log-level", "error", "--log-config", str(Path(__file__).with_name("granian_log.json")))
    server = (sys.executable, "-m", "granian", "--interface", "wsgi", *where, *threads, *quiet)
    return Child(
        name="web",
        argv=(*server, "provocative.wsgi:application"),
        env=_env("web", PROVOCATIVE_LEAVING=str(leaving())),
        healthy=lambda: answers(at, "/healthz"),
        patience=WEB_PATIENCE,
        grace=WEB_GRACE,
        lingers=drain,
    )


def _chores() -> Child:
    return Child(
        name="chores",
        argv=(*MANAGE, "qcluster"),
        env=_env("chores", Q_CLUSTER_NAME="chores"),
        healthy=_reconnecting(ChoresMove()),
        patience=30.0,
        grace=WORKERS_GRACE,
        with_next=True,  # the runners
    )


def _runners() -> Child:
    return Child(
        name="runners",
        argv=(*MANAGE, "qcluster"),
        env=_env("runners", Q_CLUSTER_NAME="runners"),
        healthy=_reconnecting(RunnersTakeWork(identity.HOST)),
        patience=10.0,
        grace=WORKERS_GRACE,
    )


def metrics(at: Address) -> Child:
    """What Prometheus asks, of all the others."""
    where = f"[{at.host}]:{at.port}" if ":" in at.host else f"{at.host}:{at.port}"
    return Child(
        name="metrics",
        argv=(*MANAGE, "metrics", "--bind", where),
        env=_env("metrics"),
        healthy=lambda: answers(at, "/healthz"),
    )


def _model(at: Address) -> Child:
    return Child(
        name="model",
        argv=(*MANAGE, "model", "--port", str(at.port)),
        env=_env("model"),
        healthy=lambda: answers(at, "/health"),
    )


def _env(role: str, **more: str) -> dict[str, str]:
    """What every child gets on top of our own environment; PYTHONPATH lets the web server find the project."""
    return {
        "PROVOCATIVE_HOME": str(settings.HOME),
        "PROVOCATIVE_ROLE": role,
        "PROVOCATIVE_RUNNERS": str(settings.RUNNERS),
        "PYTHONPATH": str(settings.BASE_DIR),
        **more,
    }


def _reconnecting(check: Callable[[], bool]) -> Callable[[], bool]:
    def reconnecting() -> bool:
        close_old_connections()
        return check()

    return reconnecting
