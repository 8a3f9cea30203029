"""Staff for the tests: signed in with their second step."""

import re
import time
from typing import Any

from allauth.account.authentication import AUTHENTICATION_METHODS_SESSION_KEY
from django.conf import settings
from django.contrib.auth.models import Group
from django.test import Client

from tenants.models import User


def signed_in(user: User, **options: Any) -> Client:
    """A browser in which they took their second step."""
    client = Client(**options)
    client.force_login(user)
    session = client.session
    session[AUTHENTICATION_METHODS_SESSION_KEY] = [{"method": "mfa", "at": time.time(), "type": "totp"}]
    session[f"{AUTHENTICATION_METHODS_SESSION_KEY}_user"] = str(user.pk)
    session.save()
    return client


def session(user: User) -> str:
    """The key of such a session, for `browser.tab`."""
    return signed_in(user).cookies[settings.SESSION_COOKIE_NAME].value


def confirmed(client: Client, address: str, action: str, *rows: Any, reason: str = "they asked", **answers: str) -> str:
    """What the list at `address` says after the action, which was asked for and confirmed."""
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    asked = client.post(address, data, follow=True).content.decode()
    once = re.search(r'name="once" value="(\w+)"', asked)
    if once is None:
        return asked
    answer = {"confirmed": "yes", "once": once[1], "reason": reason, **answers}
    return client.post(address, data | answer, follow=True).content.decode()


def member_of(*groups: str, email: str = "staff@example.com", **fields: Any) -> User:
    """Somebody of the staff, in these groups."""
    user = User.objects.create_user(email, is_staff=True, **fields)
    user.groups.set(Group.objects.filter(name__in=groups))
    assert user.groups.count() == len(groups)
    return user
