#!/usr/bin/env python
"""The operator's command line: `python manage.py help` lists every command."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "provocative.settings")
    from django.core.management import execute_from_command_line

    from tenants import scope

    with scope.every():  # the operator's commands, and the workers that one of them forks
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
