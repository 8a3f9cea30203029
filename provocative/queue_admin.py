"""The queue as staff see it: what waits, what failed, what runs by the clock.

What a task is called with is a pickle, and to read one may run anything: no page here selects, searches or filters by
such a column. So a waiting task has no name, only a place.
"""

from datetime import timedelta
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db.models import DateTimeField, Exists, OuterRef, QuerySet, Value
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django_q.models import OrmQ, Schedule, Task

from tenants.console.pages import ReadOnly

apps.get_app_config("django_q").verbose_name = "Queue"  # as the console's home and breadcrumbs call it


class _Queue(ReadOnly):
    """Rows with the moment at which they are read."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        now = Value(timezone.now(), DateTimeField())  # by this machine's clock, as the queue's own
        rows: QuerySet[Any] = super().get_queryset(request).annotate(seen_at=now)
        return rows


@admin.register(OrmQ)
class QueuedAdmin(_Queue):
    """Its lock is when it may be taken; who takes it moves that to when it is given to another one."""

    list_display = ("id", "cluster", "state", "since", "age")
    search_fields = ("id__exact", "key__exact")
    search_help_text = "The number of a task, or the name of a cluster, whole."
    fields = readonly_fields = list_display
    unseen = ("payload",)

    @admin.display(description="cluster", ordering="key")
    def cluster(self, queued: Any) -> str:
        return str(queued.key)

    @admin.display(description="state", ordering="lock")
    def state(self, queued: Any) -> str:
        return "waits" if _waits(queued) else "taken, or put off"

    @admin.display(description="runnable since, locked until", ordering="lock")
    def since(self, queued: Any) -> Any:
        return queued.lock

    @admin.display(description="age")
    def age(self, queued: Any) -> str:
        if queued.lock is None:
            return "unknown"
        return (
            f"for {_span(queued.seen_at - queued.lock)}"
            if _waits(queued)
            else f"{_span(queued.lock - queued.seen_at)} to go"
        )


def _waits(queued: Any) -> bool:
    return queued.lock is None or queued.lock <= queued.seen_at


@admin.register(Task)
class TaskAdmin(_Queue):
    """Of tasks that succeed no row is kept."""

    list_display = ("name", "func", "cluster", "started", "stopped", "seconds", "attempt_count", "success")
    list_filter = ("success", "stopped")
    ordering = ("-stopped",)
    search_fields = ("id__exact", "name__exact", "func")
    search_help_text = "An id or a name, whole; a part of a function."
    fields = readonly_fields = ("id", *list_display)
    unseen = ("args", "kwargs", "result")

    @admin.display(description="seconds")
    def seconds(self, task: Any) -> str:
        return f"{(task.stopped - task.started).total_seconds():,.1f}"


@admin.register(Schedule)
class ScheduleAdmin(_Queue):
    """Made by `migrate`, all of them."""

    list_display = ("func", "kind", "next_run", "due", "cluster", "repeats", "last")
    ordering = ("next_run",)
    search_fields = ("id__exact", "name__exact", "func")
    search_help_text = "A number or a name, whole; a part of a function."
    fields = readonly_fields = ("id", "name", *list_display)
    unseen = ("args", "kwargs")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        failed = Task.objects.filter(pk=OuterRef("task"), success=False)
        rows: QuerySet[Any] = super().get_queryset(request).annotate(has_failed=Exists(failed))
        return rows

    @admin.display(description="kind", ordering="schedule_type")
    def kind(self, schedule: Any) -> str:
        match schedule.schedule_type:
            case Schedule.MINUTES:
                return f"every {schedule.minutes or 1} min"
            case Schedule.CRON:
                return f"cron {schedule.cron}"
        return str(schedule.get_schedule_type_display())

    @admin.display(description="due", ordering="next_run")
    def due(self, schedule: Any) -> str:
        if schedule.next_run is None:
            return "never"
        left = schedule.next_run - schedule.seen_at
        return f"in {_span(left)}" if left > timedelta(0) else f"late by {_span(-left)}"

    @admin.display(description="last run")
    def last(self, schedule: Any) -> str:
        if not schedule.task:
            return "not yet"
        if not schedule.has_failed:
            return "no failure kept"
        page = reverse("admin:django_q_task_change", args=[schedule.task])
        return format_html('<a href="{}">failed</a>', page)


def _span(length: timedelta) -> str:
    """A length of time to the second, or the minute, or the hour."""
    seconds = max(int(length.total_seconds()), 0)
    hours, minutes = seconds // 3600, seconds // 60
    if hours >= 48:
        return f"{hours // 24:,} days"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min" if minutes > 2 else f"{seconds} s"
