"""The pure core, by examples and by properties: no database, no clock, no network."""

from hypothesis import settings

searched = settings(max_examples=40, deadline=None)
