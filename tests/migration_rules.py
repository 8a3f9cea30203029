"""What a migration must not do, since the service runs beside it, its release and the one before.

It is judged by the SQL that it comes to on PostgreSQL, and by its operations. `accepts` of a Migration names the rules
that it breaks, each with a reason.
"""

import re
from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.db.migrations import Migration, RunPython
from django.db.migrations.state import ProjectState

from tenants.migrating import AddIndexConcurrently, ChangeRows
from tests.service import ROOT

CHANGELOG = ROOT / "CHANGELOG.md"

# Read in a blink, however many tenants there are: their indexes, constraints and rewriting are nobody's loss.
SMALL = {
    "account_emailaddress", "account_emailconfirmation", "auth_group", "auth_group_permissions", "auth_permission",
    "batches_permit", "batches_runner", "batches_signingkey", "batches_upstream", "batches_webhookendpoint",
    "billing_customer", "billing_price", "billing_tenantdiscount", "django_content_type", "django_q_schedule",
    "mfa_authenticator", "tenants_invitation", "tenants_membership", "tenants_tenant", "tenants_user",
    "tenants_user_groups", "tenants_user_user_permissions",
}  # fmt: skip

MISSED = "code of the release before doesn't name it: give it db_default, or null"
SCANNED = "the table is read, or written anew, while nobody else may use it"
GONE = "code of the release before may use it still: accepts names the release that used it last, with one after it"
CURES = {
    "index": f"{SCANNED}: AddIndexConcurrently, with atomic = False",
    "missed": MISSED,
    "required": f"{SCANNED}, and code of the release before may leave it out: a constraint, later",
    "constraint": f"{SCANNED}: NOT VALID first, VALIDATE in a migration after it",
    "rewrite": f"{SCANNED}: a new column, filled by ChangeRows",
    "drop": GONE,
    "rename": "code of the release before knows the old name: add, fill, and drop a release later",
    "data": "rows stay locked until the last is done: ChangeRows, with atomic = False",
    "mixed": "what is locked by the one stays so during the other: a migration of its own",
    "again": "a stopped attempt is not undone without a transaction: only what may be run again",
}
ADDED = r'ALTER TABLE "(?P<table>\w+)" ADD COLUMN (?P<column>"\w+") '
ALTERED = r'ALTER TABLE "(?P<table>\w+)" ALTER COLUMN (?P<column>"\w+") '
STABLE = r"(?!now\(\)|statement_timestamp\(\)|transaction_timestamp\(\))"  # once a statement: no row is written for it
STATEMENTS = (
    ("index", r'CREATE (UNIQUE )?INDEX (?!CONCURRENTLY).*? ON "(?P<table>\w+)"'),
    ("missed", ADDED + r"(?!.*\bDEFAULT\b).*\bNOT NULL(?P<always>)"),
    ("required", ALTERED + r"SET NOT NULL(?P<always>)"),
    ("constraint", r'ALTER TABLE "(?P<table>\w+)" ADD CONSTRAINT (?!.*NOT VALID)'),
    ("constraint", ADDED + r".*\b(CHECK|UNIQUE|PRIMARY KEY)\b"),
    ("rewrite", ALTERED + r"TYPE "),
    ("rewrite", ADDED + r".*\b(GENERATED ALWAYS|serial|bigserial)\b"),
    ("rewrite", ADDED + rf".*\bDEFAULT \(?{STABLE}\w+\("),
    ("drop", r'ALTER TABLE "(?P<table>\w+)" DROP COLUMN(?P<always>)'),
    ("drop", r'DROP TABLE "(?P<table>\w+)"(?P<always>)'),
    ("rename", r'ALTER TABLE "(?P<table>\w+)" RENAME (?!CONSTRAINT)(?P<always>)'),
    ("data", r'(UPDATE|DELETE FROM|INSERT INTO) "?(?P<table>\w+)"?(?P<always>)'),
)
DROPS_DEFAULT = re.compile(ALTERED + "DROP DEFAULT", re.IGNORECASE)


def faults(migration: Any, state: ProjectState) -> list[str]:
    """The rules that it breaks on this state, one entry a breach; a reason for what is not broken is one, too."""
    accepts: dict[str, str] = getattr(migration, "accepts", {})
    broken = [*_by_statements(statements(migration, state)), *_by_operations(migration)]
    left = [rule for rule in broken if rule not in accepts]
    idle = [f"accepts {rule}, which it doesn't break" for rule in accepts if rule not in broken]
    early = [f"{rule}: {CURES[rule]}: {accepts[rule]}" for rule in accepts if rule == "drop" and _early(accepts[rule])]
    return [f"{rule}: {CURES[rule]}" for rule in left] + idle + early


def statements(migration: Migration, state: ProjectState) -> list[str]:
    """The SQL that it comes to, as `sqlmigrate` prints it."""
    with connection.schema_editor(collect_sql=True, atomic=bool(migration.atomic)) as editor:
        migration.apply(state.clone(), editor, collect_sql=True)
    return [line for line in editor.collected_sql if not line.startswith("--")]


def _by_statements(lines: list[str]) -> Iterator[str]:
    new = set(re.findall(r'^CREATE TABLE "(\w+)"', "\n".join(lines), re.MULTILINE))
    undone = {found.group("table", "column") for line in lines if (found := DROPS_DEFAULT.match(line))}
    for line in lines:
        for rule, pattern in STATEMENTS:
            found = re.match(pattern, line, re.IGNORECASE | re.DOTALL)
            if found and found["table"] not in new and ("always" in found.groupdict() or found["table"] not in SMALL):
                yield rule
        added = re.match(ADDED + ".*NOT NULL", line, re.IGNORECASE | re.DOTALL)
        if added and added.group("table", "column") in undone:
            yield "missed"


def _by_operations(migration: Any) -> Iterator[str]:
    """Django's RunPython says nothing of what it does."""
    operations, repeatable = migration.operations, (ChangeRows, AddIndexConcurrently)
    runs = [operation for operation in operations if isinstance(operation, RunPython)]
    if any(migration.atomic or not isinstance(operation, ChangeRows) for operation in runs):
        yield "data"
    if runs and len(runs) < len(operations):
        yield "mixed"
    if not migration.atomic and not all(isinstance(operation, repeatable) for operation in operations):
        yield "again"


def _early(reason: str) -> bool:
    """Whether it names no release that used this last, with another one after it."""
    released = [_number(found) for found in re.findall(r"^## \[(\d+\.\d+\.\d+)\]", CHANGELOG.read_text(), re.MULTILINE)]
    named = [_number(found) for found in re.findall(r"\d+\.\d+\.\d+", reason)]
    return not (named and released) or max(named) >= max(released)


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
