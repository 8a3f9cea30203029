"""`Authorization: Bearer pk-prov-…` for DRF, how often a key may come, and the scope check behind it."""

from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from tenants import keys, observed, scope, strangers, throttling
from tenants.buckets import Allowance
from tenants.errors import Refused
from tenants.models import ApiKey, Tenant

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="provocative"'}


class BearerKey(BaseAuthentication):
    """Sets request.user to the Tenant and request.auth to the ApiKey. Raises Refused 401, 403 or 429."""

    def authenticate(self, request: Request) -> tuple[Tenant, ApiKey]:
        scheme, _, key = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            cure = "Send your key in the header Authorization: Bearer pk-prov-…."
            raise strangers.counted(request._request, Refused(401, "missing_api_key", cure, headers=CHALLENGE))
        with scope.every():
            row = keys.find(key.strip())
        if row is None:
            fault = "This API key is malformed, unknown, revoked or expired."
            raise strangers.counted(request._request, Refused(401, "invalid_api_key", fault, headers=CHALLENGE))
        scope.settle(row.tenant_id)
        observed.note(tenant=row.tenant.public_id)
        allowance = throttling.count(row.pk, row.tenant.request_limit)
        request._request.allowance = allowance  # type: ignore[attr-defined]  # its headers: provocative/middleware.py
        throttling.check(allowance)
        if row.tenant.suspended:
            raise Refused(403, "tenant_suspended", "This tenant is suspended. Ask the operator of this service.")
        keys.touch(row)
        return row.tenant, row

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE["WWW-Authenticate"]


def tenant_of(request: Request) -> Tenant:
    """The tenant whose key the request carries."""
    tenant: Any = request.user
    assert isinstance(tenant, Tenant)
    return tenant


def key_of(request: Request) -> ApiKey:
    """The key the request carries."""
    key: Any = request.auth
    assert isinstance(key, ApiKey)
    return key


def allowance_of(request: Request) -> Allowance:
    """What this request left of its key's rate."""
    allowance: Any = request._request.allowance  # type: ignore[attr-defined]
    assert isinstance(allowance, Allowance)
    return allowance


class HasScope(BasePermission):
    """Reading needs batch:read, anything else batch:write."""

    def has_permission(self, request: Request, view: Any) -> bool:
        auth: Any = request.auth
        needed = "batch:read" if request.method in SAFE_METHODS else "batch:write"
        if not isinstance(auth, ApiKey) or needed not in auth.scopes.split():
            raise Refused(403, "insufficient_scope", f"This API key lacks the scope {needed}.")
        return True
