"""How people sign in, as django-allauth asks: by e-mail address, invited; and our words for what it says."""

import logging
import struct
from contextlib import suppress
from typing import Any

from allauth.account import forms as account_forms
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.core.internal import ratelimit
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.base import forms as mfa_forms
from allauth.mfa.totp import forms as totp_forms
from allauth.mfa.webauthn import forms as webauthn_forms
from django import forms
from django.http import HttpRequest

from tenants import factors, sealed
from tenants.errors import Refused

log = logging.getLogger(__name__)

MAILS = "30/h/user"  # that a person has sent to addresses of their choice
WAIT = "Too many wrong attempts for this account, or from your network. Wait five minutes, then try again."
UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error)
METHODS = {
    "mfa_reauthenticate": "Use a code of your app",
    "mfa_reauthenticate:webauthn": "Use a passkey or security key",
}
LABELS = {
    "login": "E-mail address",
    "email": "E-mail address",
    "password": "Password",
    "oldpassword": "Your password now",
    "password1": "New password",
    "password2": "New password, once more",
    "name": "Name, to know it by",
    "passwordless": "Passkey: signs in without the password",
}
HELP = {
    "password1": "At least 8 characters, and none of the passwords that everybody has.",
    "passwordless": "It asks for your finger, face or PIN then. Without it, it is a second step after the password.",
}


class Adapter(DefaultAccountAdapter):  # type: ignore[misc]  # it carries no types
    """Nobody signs up: an account comes from the operator, or by an invitation."""

    error_messages = DefaultAccountAdapter.error_messages | {
        "account_inactive": "This account is closed. The operator of this service can open it again.",
        "email_password_mismatch": "The e-mail address or the password is not correct.",
        "enter_current_password": "This is not your password.",
        "incorrect_password": "This is not your password.",
        "incorrect_code": "This is not the code. Each works once, and for half a minute.",
        "too_many_login_attempts": WAIT,
        "rate_limited": WAIT,
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return "/account/"

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        """The same, in our words."""
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        return [method | {"description": METHODS.get(method["id"], method["description"])} for method in methods]

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """Attempts are counted by account; allauth adds the Host header, whose port is the client's to choose."""
        return str(credentials.get("email", "")).lower()

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Raises Refused 503 where no mail can be sent."""
        try:
            super().send_mail(template_prefix, email, context)
        except OSError as error:  # SMTP's own errors are such, too
            log.error("no mail could be sent: %s", type(error).__name__)
            message = "No mail can be sent now. Try again later, or tell the operator of this service."
            raise Refused(503, "mail_unavailable", message) from None

    def send_password_reset_mail(self, user: Any, email: str, context: dict[str, Any]) -> None:
        """A stranger asks: the answer is the same where there is no such account, so also where no mail can go out."""
        with suppress(Refused):  # logged where it was raised
            super().send_password_reset_mail(user, email, context)

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """What was changed is changed, whether or not a mail can tell of it."""
        with suppress(Refused):  # logged where it was raised
            super().send_notification_mail(*args, **kwargs)


class MFAAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # it carries no types
    """The same words for the second step."""

    error_messages = DefaultMFAAdapter.error_messages | {
        "incorrect_code": Adapter.error_messages["incorrect_code"],
        "cannot_generate_recovery_codes": "Recovery codes come with an app or a key: add one first.",
    }

    def generate_authenticator_name(self, user: Any, type: Any) -> str:  # noqa: A002 - allauth's name
        return "My key"

    def encrypt(self, text: str) -> str:
        return sealed.seal(factors.SEALED, text)

    def decrypt(self, encrypted_text: str) -> str:
        """Raises Unopened: a page says so."""
        return sealed.Sealed(factors.SEALED, encrypted_text).open()


def mailed_too_often(request: HttpRequest) -> bool:
    """Counts one of MAILS; whether it is too many."""
    taken = ratelimit.consume(request, app="tenants", action="mail", config={"mail": MAILS})
    return taken is None


def send(template: str, email: str, values: dict[str, Any]) -> None:
    """Mail templates/mail/<template>_*.txt. Raises Refused 503."""
    Adapter(context.request).send_mail(f"mail/{template}", email, values)


class _Ours:
    """allauth's fields with our labels and help, and without placeholders that repeat them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fields: dict[str, Any] = self.fields  # type: ignore[attr-defined]  # of the form that it is mixed into
        for name, field in fields.items():
            field.label = LABELS.get(name, field.label)
            field.help_text = HELP.get(name, "")
            field.widget.attrs.pop("placeholder", None)


class _Answer(forms.JSONField):
    """What a browser says of a key; never shown again."""

    def bound_data(self, data: Any, initial: Any) -> Any:
        return None

    def prepare_value(self, value: Any) -> str:
        return ""


class _WithKey(_Ours):
    """What a browser says of a key comes from outside: allauth and fido2 throw at much of what it can be."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fields: dict[str, Any] = self.fields  # type: ignore[attr-defined]  # of the form that it is mixed into
        fields["credential"] = _Answer(widget=forms.HiddenInput)

    def full_clean(self) -> None:
        try:
            super().full_clean()  # type: ignore[misc]  # of the form that it is mixed into
        except UNREADABLE:
            self.add_error("credential", "The browser's answer can't be read. Try again.")  # type: ignore[attr-defined]


class Login(_Ours, account_forms.LoginForm):  # type: ignore[misc]
    """E-mail address and password."""


class ChangePassword(_Ours, account_forms.ChangePasswordForm):  # type: ignore[misc]
    """The old and the new one."""


class ResetPassword(_Ours, account_forms.ResetPasswordForm):  # type: ignore[misc]
    """To which address."""


class ResetPasswordKey(_Ours, account_forms.ResetPasswordKeyForm):  # type: ignore[misc]
    """The new password."""


class Reauthenticate(_Ours, account_forms.ReauthenticateForm):  # type: ignore[misc]
    """The password. Who has a second step and has not taken it in this session takes that: a password would open the
    pages that show recovery codes, add a key, or remove one."""

    def clean_password(self) -> str:
        password: str = super().clean_password()
        if factors.is_set_up(self.user) and not factors.is_taken(context.request):
            raise forms.ValidationError("This account has a second step: a password alone is not enough. Use that.")
        return password


class Authenticate(_Ours, mfa_forms.AuthenticateForm):  # type: ignore[misc]
    """A code of the app, or a recovery code."""


class ReauthenticateByCode(_Ours, mfa_forms.ReauthenticateForm):  # type: ignore[misc]
    """The same."""


class ActivateTOTP(_Ours, totp_forms.ActivateTOTPForm):  # type: ignore[misc]
    """The first code."""


class AddWebAuthn(_WithKey, webauthn_forms.AddWebAuthnForm):  # type: ignore[misc]
    """A key's name, and whether it signs in alone, as most people expect."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["passwordless"].initial = True


class LoginWebAuthn(_WithKey, webauthn_forms.LoginWebAuthnForm):  # type: ignore[misc]
    """A passkey's answer, in place of a password."""


class AuthenticateWebAuthn(_WithKey, webauthn_forms.AuthenticateWebAuthnForm):  # type: ignore[misc]
    """A key's answer, after the password."""


class ReauthenticateWebAuthn(_WithKey, webauthn_forms.ReauthenticateWebAuthnForm):  # type: ignore[misc]
    """The same, of somebody who is signed in."""


class EditWebAuthn(_Ours, webauthn_forms.EditWebAuthnForm):  # type: ignore[misc]
    """A key's name."""
