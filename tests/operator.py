"""An operator's commands, one after the other in one process: to start Django for each takes half a second of a processor.

`python -m tests.operator` reads the words of a command as a line of JSON, and answers [exit code, output, errors].
"""

import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

from django.core.management import execute_from_command_line

from tenants import scope


def run(words: list[str]) -> tuple[int, str, str]:
    """As `manage.py` does, which closes its connections."""
    out, err, code = StringIO(), StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err), scope.every():
        try:
            execute_from_command_line(["manage.py", *words])
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "provocative.settings")
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
