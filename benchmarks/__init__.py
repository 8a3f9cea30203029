"""Measurements. Only what drives a service imports `tests`: that makes a home of its own, and perhaps a PostgreSQL."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
