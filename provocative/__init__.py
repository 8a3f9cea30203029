"""The project: settings, addresses, what an operator runs."""

__version__ = "0.9.0"  # as semantic versions go; docs/upgrading.md says what is promised between two
