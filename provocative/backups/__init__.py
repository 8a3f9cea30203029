"""Copies of the database and of files, and back again: `manage.py backup`, `manage.py restore`."""
