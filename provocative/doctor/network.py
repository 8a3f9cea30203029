"""How the service is reached, and what it reaches besides upstreams: mail, Stripe, Redis."""

from collections.abc import Callable, Iterator
from email.utils import parseaddr
from smtplib import SMTPException
from urllib.parse import urlsplit

from django.conf import settings
from django.core import mail
from django.http.request import validate_host
from redis import Redis, RedisError

from billing.stripe import client as stripe
from provocative.doctor.findings import Finding, error, ok, warning
from provocative.doctor.running import reason

OURS = {"localhost", "127.0.0.1", "[::1]"}
SUBJECT, TEXT = "Provocative Batch: a mail of `manage.py doctor`", "Mail of the service arrives here."
REDIS_SECONDS = 5.0


def addresses() -> Iterator[Finding]:
    found = [*_names(), *_encryption(), *_origins()]
    names = [name for name in settings.ALLOWED_HOSTS if name not in OURS]
    yield from found or [ok(f"Reached by https as {', '.join(names[:3])}.")]


def _names() -> Iterator[Finding]:
    if "*" in settings.ALLOWED_HOSTS:
        yield warning("ALLOWED_HOSTS takes any name: links in mails name whatever host was asked.", "Name your hosts.")
    elif not set(settings.ALLOWED_HOSTS) - OURS:
        yield warning("It is reached as localhost alone: any other name is refused.", "Set ALLOWED_HOSTS.")


def _encryption() -> Iterator[Finding]:
    if not settings.HTTPS:
        cure = "Put a proxy with TLS in front (deploy/nginx), and set HTTPS=1."
        yield warning("HTTPS is 0: keys and passwords come in the clear.", cure)


def _origins() -> Iterator[Finding]:
    for origin in settings.CSRF_TRUSTED_ORIGINS:
        parts = urlsplit(origin)
        host = (parts.hostname or "").replace("*", "any", 1)
        if settings.HTTPS and parts.scheme != "https":
            yield warning(
                f"CSRF_TRUSTED_ORIGINS trusts {origin}, which is not https.", f"Write https://{parts.netloc}."
            )
        elif not validate_host(host, settings.ALLOWED_HOSTS):
            yield warning(f"CSRF_TRUSTED_ORIGINS trusts {origin}, which is no name of ours.", "Take it out.")


def mail_server() -> Iterator[Finding]:
    """Greeted, signed in, and left: no mail is sent."""
    if not settings.EMAIL_BACKEND.endswith("smtp.EmailBackend"):
        yield warning(f"Mail is a file in {settings.EMAIL_FILE_PATH}, for you to hand on.", "Set EMAIL_URL.")
        return
    where = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    try:
        with mail.get_connection():
            pass
    except (OSError, SMTPException) as fault:
        yield error(f"{where}: {reason(fault)}", "Correct EMAIL_URL, or let this host reach it.")
        return
    sender = parseaddr(settings.DEFAULT_FROM_EMAIL)[1]
    if sender.endswith("@localhost"):
        yield warning(f"Mail would come from {sender}, which most servers refuse.", "Set EMAIL_FROM.")
    else:
        yield ok(f"{where} takes our mail.")


def mail_to(address: str) -> Callable[[], Iterator[Finding]]:
    """The check of the mail server that also sends a mail there."""

    def sent() -> Iterator[Finding]:
        yield from mail_server()
        try:
            mail.send_mail(SUBJECT, TEXT, None, [address])
        except (OSError, SMTPException, ValueError) as fault:
            yield error(f"No mail to {address}. {reason(fault)}", "Correct EMAIL_URL and EMAIL_FROM.")
        else:
            yield ok(f"A mail to {address} is on its way.")

    return sent


def payments() -> Iterator[Finding]:
    """Stripe: the shapes of its secrets, and whether it takes the key."""
    if not stripe.configured():
        yield ok("Stripe is not used: invoices are statements.")
        return
    if not settings.STRIPE_API_KEY.startswith(("sk_", "rk_")):
        yield error("STRIPE_API_KEY is no secret key.", "Take the one that begins with sk_ (or rk_), not pk_.")
        return
    if settings.STRIPE_WEBHOOK_SECRET and not settings.STRIPE_WEBHOOK_SECRET.startswith("whsec_"):
        yield error("STRIPE_WEBHOOK_SECRET is no signing secret.", "Take the endpoint's, which begins with whsec_.")
        return
    try:
        stripe.call(lambda v1: v1.customers.list(params={"limit": 1}))
    except stripe.Failed as fault:
        cure = (
            "Correct STRIPE_API_KEY." if fault.status in (401, 403) else "Let this host reach api.stripe.com by https."
        )
        yield error(f"Stripe: {fault}.", cure)
    else:
        yield ok(f"Stripe takes the key ({'live' if stripe.is_live() else 'test'} mode).")


def redis() -> Iterator[Finding]:
    if not settings.REDIS_URL:
        yield ok("Redis is not used.")
        return
    try:
        with Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=REDIS_SECONDS, socket_timeout=REDIS_SECONDS
        ) as asked:
            asked.ping()
    except (RedisError, OSError, ValueError) as fault:
        yield error(f"Redis: {type(fault).__name__}.", "Start it, or correct REDIS_URL.")
    else:
        yield ok("Redis answers.")
