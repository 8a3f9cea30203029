#!/usr/bin/env python
"""The operator's command line: `python manage.py help` lists every command."""

import os
import sys
from importlib import import_module


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "provocative.settings")
    if sys.argv[1:] in (["version"], ["--version"]):  # Django's own would name Django
        from provocative import __version__

        sys.stdout.write(f"{__version__}\n")
        return
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        import_module(os.environ["DJANGO_SETTINGS_MODULE"])  # first, so that a wrong variable is told alone
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    from tenants import scope

    with scope.every():  # the operator's commands, and the workers that one of them forks
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
