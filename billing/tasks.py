"""What is done for money in the background. As batches/tasks.py: hints, that import nothing of the product up here."""

from django_q.tasks import async_task

CHORES = "chores"
SENDING, REFRESHING = 300, 600  # seconds: well below a chore's timeout


def close_months() -> None:
    """Make the invoices of the months that have ended."""
    from billing import invoicing
    from tenants import holding

    if not holding.held():
        invoicing.close_all()


def send_invoices() -> None:
    """Send to Stripe what is due."""
    from billing.stripe import sending

    sending.send_due(SENDING)


def refresh_invoices() -> None:
    """Ask Stripe what became of what is open."""
    from billing.stripe import client, settling
    from tenants import holding

    if client.configured() and not holding.held():
        settling.refresh(REFRESHING)


def ring_send_invoices() -> None:
    """In the caller's transaction: the row and the invoice it announces land together."""
    async_task("billing.tasks.send_invoices", q_options={"cluster": CHORES})
