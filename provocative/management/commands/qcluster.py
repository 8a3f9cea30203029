"""`manage.py qcluster`: django-q2's cluster, with a stop that runners hear and no process that outlives its parent."""

import gc
import logging
import os
from types import FrameType
from typing import Any

import django_q.cluster
import django_q.worker
from django.conf import settings
from django.core.management.base import CommandError
from django_q.cluster import Cluster, Sentinel
from django_q.conf import logger
from django_q.management.commands import qcluster

from batches import results, sealing, sweeping, validation
from batches.engine import runner
from batches.engine.stopping import stopping  # made before the fork, so that every worker shares its byte
from provocative.processes import die_with_parent, forked_children_die_with_parent

log = logging.getLogger(__name__)

IDLE = -1  # a worker's timer between two tasks
# a worker's first task does not wait for their imports
LOADED_BEFORE_THE_FORK = (runner, validation, results, sealing, sweeping)


class StoppableCluster(Cluster):  # type: ignore[misc]  # django-q2 has no types
    """Tells the runners, and then stops as django-q2 does. Only the first signal counts: its stop is not reentrant."""

    def sig_handler(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self.pid or stopping():
            return
        stopping.set()
        if self.sentinel is None:
            raise SystemExit(0)
        super().sig_handler(signum, frame)


class TaskFailures:
    """What django-q2's workers tell of a task that raised, with the exception at hand. Its monitor, which has the text
    of it alone, is not heard (settings.LOGGING)."""

    def report(self) -> None:
        log.error("a task failed", exc_info=True)  # noqa: LOG014 - it is called where the exception is handled


class StrictSentinel(Sentinel):  # type: ignore[misc]
    """Gives the cluster up when an idle worker was killed: that one may hold the queue's lock for ever.

    While others are busy it carries on: `up` restarts the cluster once work waits in vain (queue_health.py).
    """

    def reincarnate(self, process: Any) -> None:
        killed_idle = process in self.pool and (process.exitcode or 0) < 0 and _timer(process) == IDLE
        if killed_idle and not any(worker.is_alive() and _timer(worker) > 0 for worker in self.pool):
            logger.critical("an idle worker was killed and may hold the queue's lock: the cluster starts anew")
            os._exit(1)  # every process of the cluster dies with this one
        super().reincarnate(process)


def _timer(process: Any) -> float:
    return float(process.timer.get_obj().value)  # without its lock, which a dead worker may hold


class Command(qcluster.Command):  # type: ignore[misc]
    requires_system_checks = ()  # `up` made them

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT; fails when the cluster ends without one."""
        if settings.ROLE:
            die_with_parent()
        forked_children_die_with_parent()
        if name := options.get("cluster_name"):
            os.environ["Q_CLUSTER_NAME"] = name
        django_q.cluster.Sentinel = StrictSentinel
        django_q.worker.error_reporter = TaskFailures()
        gc.collect()
        gc.freeze()  # what is loaded is never garbage: workers' collections pass over it, and its pages stay shared
        cluster = StoppableCluster()
        cluster.start()
        if options.get("run_once"):
            cluster.stop()
            return
        cluster.sentinel.join()
        if not stopping():
            raise CommandError("the cluster's sentinel has died: start the cluster again.")
