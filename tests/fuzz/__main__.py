"""Fuzz by atheris: `python -m tests.fuzz --minutes 4` all targets, `python -m tests.fuzz TARGET …` one, with libFuzzer's
arguments. Of each: runs, edges of the product's code that were reached, findings; exit 1 for any.

What was found and learned stays in var/fuzz/TARGET: inputs that broke something as `crash-…`, others in `corpus`.
"""

import argparse
import inspect
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz import TARGETS, target

MEMORY = Path("/dev/shm")  # noqa: S108 - files of an input each, thousands a second
FOLDER = Path("var/fuzz").resolve()
OURS = ["batches", "tenants"]  # of Django its form parser, too: to take all of it would cost most of the time
KEPT = ("crash-*", "timeout-*", "oom-*", "leak-*")


def fuzz(name: str, arguments: list[str]) -> None:
    """Run one target for as long as libFuzzer's arguments say; does not return."""
    import atheris

    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as home:
        os.environ |= {"PROVOCATIVE_HOME": home, "TMPDIR": home, "SECRET_KEY": "x" * 50, "LOG_LEVEL": "CRITICAL"}
        os.environ["DJANGO_SETTINGS_MODULE"] = "provocative.settings"
        tempfile.tempdir = home
        with atheris.instrument_imports(include=OURS):
            import django
            from django.http import multipartparser

            django.setup()
            found = target(name)
        for part in vars(multipartparser).values():
            for function in (
                vars(part).values() if inspect.isclass(part) and part.__module__ == multipartparser.__name__ else ()
            ):
                if inspect.isfunction(function):
                    atheris.instrument_func(function)
        grown, words = FOLDER / name / "corpus", FOLDER / name / "words"
        grown.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(found.seeds.values()):
            (grown / f"seed-{number}").write_bytes(seed)
        words.write_text("".join(map(_word, found.tokens)))
        limits = ["-max_len=2048", "-len_control=0", "-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1"]
        places = [f"-dict={words}", f"-artifact_prefix={FOLDER / name}/", str(grown)]
        atheris.Setup([sys.argv[0], *limits, *arguments, *places], found.check)
        atheris.Fuzz()


def _word(token: bytes) -> str:
    """A line of libFuzzer's dictionary."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n'


def all_of_them(minutes: float) -> bool:
    """Each target for its share of the time; whether nothing was found."""
    well = True
    print(f"{'target':12}{'runs':>12}{'edges':>8}{'inputs':>8}  findings")
    for name in TARGETS:
        seconds = max(1, int(minutes * 60 / len(TARGETS)))
        command = [sys.executable, "-m", "tests.fuzz", name, f"-max_total_time={seconds}"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds + 300)
        findings = [str(path) for kind in KEPT for path in sorted((FOLDER / name).glob(kind))]
        seen = re.findall(r"cov: (\d+) ft: \d+ corp: (\d+)/", done.stderr) or [("?", "?")]
        runs = re.findall(r"number_of_executed_units: (\d+)", done.stderr) or re.findall(
            r"^#(\d+)", done.stderr, re.MULTILINE
        )
        print(
            f"{name:12}{runs[-1] if runs else '?':>12}{seen[-1][0]:>8}{seen[-1][1]:>8}  {', '.join(findings) or 'none'}"
        )
        if findings or done.returncode:
            print(done.stdout[-3000:], done.stderr[-3000:], sep="\n", flush=True)
            well = False
    return well


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in TARGETS:
        fuzz(sys.argv[1], sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=4, help="shared among the targets")
    sys.exit(not all_of_them(parser.parse_args().minutes))
