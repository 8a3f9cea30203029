"""Who: tenants with a plan, the people who belong to them or are invited, the API keys that act for them, and the
trail of what was done."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants.identifiers import public_id
from tenants.owned import Itself, Owned

SHARED_BATCH_LIMIT = 10
REQUESTS_PER_MINUTE = 1200  # of a key
RETENTION_DAYS, LONGEST_RETENTION = 30, 3650
STORAGE_LIMIT = 100 * 2**30  # bytes


def tenant_id() -> str:
    return public_id("ten_")


class UserManager(BaseUserManager["User"]):
    """Users are found by e-mail; there are no user names."""

    def create_user(self, email: str, password: str | None = None, **extra: Any) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=(username or "").lower())

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(AbstractUser):
    """A person who signs in with an e-mail address: a member of tenants, or staff."""

    username = None  # type: ignore[assignment]
    email = models.EmailField("e-mail address", unique=True)
    USERNAME_FIELD, REQUIRED_FIELDS = "email", []
    objects = UserManager()  # type: ignore[assignment,misc]


class Tenant(models.Model):
    """A customer: owns files, batches, keys and what they cost."""

    class Plan(models.TextChoices):
        SHARED = "shared"  # 10 active batches
        RESERVED = "reserved"  # no limit, slots reserved for it
        DEDICATED = "dedicated"  # no limit, upstreams of its own

    public_id = models.CharField(max_length=40, unique=True, default=tenant_id, help_text="In the pages' addresses.")
    name = models.CharField(max_length=200, unique=True)
    plan = models.CharField(max_length=16, choices=Plan.choices, default=Plan.SHARED)
    batch_limit = models.PositiveIntegerField(null=True, blank=True, help_text="Overrides the plan's limit.")
    enqueued_token_limit = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Estimated tokens of its running batches that are not done; blank: no limit."
    )
    requests_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=f"Of each of its keys, at each web process; blank: {REQUESTS_PER_MINUTE:,}.",
    )
    retention_days = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(LONGEST_RETENTION)],
        help_text=f"How long its files are kept; blank: {RETENTION_DAYS} days. Fewer days: older files go at once.",
    )
    storage_limit = models.PositiveBigIntegerField(
        null=True, blank=True, help_text=f"Bytes of its files; blank: {STORAGE_LIMIT:,} (100 GiB)."
    )
    weight = models.PositiveIntegerField(default=1, help_text="Share of the service beside other tenants.")
    reserved_slots = models.PositiveIntegerField(default=0, help_text="In-flight requests kept for this tenant.")
    suspended = models.BooleanField(default=False, help_text="Keys answer 403, batches wait.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = Itself()

    class Meta:
        permissions = [("erase_tenant", "Can delete all data of tenants, for good")]

    def __str__(self) -> str:
        return self.name

    @property
    def active_batch_limit(self) -> int | None:
        """How many batches may be active at once; None is no limit."""
        if self.batch_limit is not None:
            return self.batch_limit
        return SHARED_BATCH_LIMIT if self.plan == self.Plan.SHARED else None

    @property
    def request_limit(self) -> int:
        """Requests a minute of each of its keys."""
        return self.requests_per_minute or REQUESTS_PER_MINUTE

    @property
    def retention(self) -> timedelta:
        """How long its files are kept."""
        return timedelta(days=self.retention_days or RETENTION_DAYS)

    @property
    def stored_limit(self) -> int:
        """How many bytes of files it may store."""
        return STORAGE_LIMIT if self.storage_limit is None else self.storage_limit


class Membership(models.Model):
    """A person's role in a tenant."""

    class Role(models.TextChoices):
        OWNER = "owner"
        MEMBER = "member"
        READER = "reader"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.MEMBER)

    objects = Owned()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_role_per_tenant")]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant} ({self.role})"


class Invitation(models.Model):
    """A place in a tenant, kept for whoever reads the mail at an address. The link's secret is mailed, never stored."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField("e-mail address")
    role = models.CharField(max_length=16, choices=Membership.Role.choices, default=Membership.Role.MEMBER)
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the link's secret, hex.")
    invited_by = models.EmailField(help_text="Who did it.")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True, help_text="When it was accepted, or taken back.")
    accepted = models.BooleanField(default=False)

    objects = Owned()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "email"], condition=Q(closed_at=None), name="one_open_invitation")
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.tenant} ({self.role})"


class AuditEvent(models.Model):
    """Who did what in a tenant, or in the service. The database itself refuses to change or remove a row."""

    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        db_index=False,
        help_text="Null: for staff alone.",
    )
    actor = models.CharField(max_length=254, help_text="An e-mail address, a key's prefix, or the operator.")
    action = models.CharField(max_length=40, help_text="What was done, such as key.created.")
    target = models.CharField(max_length=254, help_text="To what: an id, a prefix, an e-mail address.")
    details = models.JSONField(default=dict, help_text="Before and after; never a secret or a prompt.")
    created_at = models.DateTimeField(default=timezone.now)

    objects = Owned()

    class Meta:
        indexes = [
            models.Index(fields=["tenant", "-id"], name="audit_of_tenant"),
            models.Index(fields=["target", "-id"], name="audit_of_target"),
            models.Index(fields=["actor", "-id"], name="audit_of_actor"),
            models.Index(fields=["action", "-id"], name="audit_of_action"),
            models.Index(fields=["created_at"], name="audit_age"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target} by {self.actor}"


class Mark(models.Model):
    """One row: how far this database has come, by a number that the storage has too; and whether the service holds.

    tenants/holding.py, batches/marks.py
    """

    class Why(models.TextChoices):
        DATABASE_OLDER = "database_older"  # the storage has been marked by a later state of it
        DATABASE_FORKED = "database_forked"  # another database marks the same storage
        STORAGE_OLDER = "storage_older"  # it lacks a mark that it had
        RESTORED = "restored"
        OPERATOR = "operator"

    number = models.BigIntegerField(default=0, help_text="Grows at each charge, and once a minute.")
    token = models.CharField(max_length=32, default="", help_text="Of that number: a copy of the database has another.")
    anchor = models.BigIntegerField(default=0, help_text="A number that the storage surely has.")
    moved_at = models.DateTimeField(null=True)
    held_at = models.DateTimeField(null=True, help_text="Null: it works.")
    held_by = models.CharField(max_length=254, default="")
    held_why = models.CharField(max_length=20, default="", choices=Why.choices)
    held_note = models.CharField(max_length=300, default="")
    gap_from = models.DateTimeField(null=True, help_text="What this database does not know of: from here")
    gap_until = models.DateTimeField(null=True, help_text="to here. Objects of that time are kept for long.")

    def __str__(self) -> str:
        return f"mark {self.number}"


class ApiKey(models.Model):
    """A key's digest and what it may do. The key itself is shown once and never stored."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="keys")
    name = models.CharField(max_length=100, default="default")
    prefix = models.CharField(max_length=24, db_index=True, help_text="The key's first characters, to tell keys apart.")
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the key, hex.")
    scopes = models.CharField(max_length=200, default="batch:read batch:write")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    rotated_at = models.DateTimeField(null=True, blank=True, help_text="When a successor was made.")
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="Written at most once a minute.")
    once = models.UUIDField(null=True, editable=False, help_text="Of the form that made it: sent twice, it makes one.")

    objects = Owned()

    class Meta:
        verbose_name = "API key"
        constraints = [models.UniqueConstraint(fields=["tenant", "once"], name="key_once_a_form")]

    def __str__(self) -> str:
        return f"{self.prefix}… of {self.tenant}"
