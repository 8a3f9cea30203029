"""The django-q2 tasks of the money: idempotent, harmless to lose, repeat or delay. As in batches/tasks.py nothing of
the product is imported at its top."""


def close_months() -> None:
    """Make the invoices of the months that have ended."""
    from billing import invoicing

    invoicing.close_all()
