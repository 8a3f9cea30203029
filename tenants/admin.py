"""Tenants, people, keys and the trail, for staff: a room for each reason."""

from tenants.console import keys, people, places, trail

__all__ = ["keys", "people", "places", "trail"]
