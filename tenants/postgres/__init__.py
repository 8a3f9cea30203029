"""A database backend: Django's own for PostgreSQL, whose statements say for which tenant they work (base.py)."""
