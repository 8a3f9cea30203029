"""Told when a tenant's retention was changed: the rooms that keep files of it are further up."""

from django.dispatch import Signal

changed = Signal()  # `tenant`: its row as it is now, locked; in the transaction of the change
