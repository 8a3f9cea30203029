"""`manage.py secrets check | rotate`. No secret is printed; keys are named by their ids."""

import sys
from collections import Counter

from tenants import resealing, sealed
from tenants.management.console import VerbCommand

NAMED = 20  # values that can't be opened


class Command(VerbCommand):
    help = "Secrets that are sealed in the database: under which SECRET_KEY they are."

    def add_verbs(self) -> None:
        self.verb("check", self.count, "Count them by key; fails unless each is sealed with SECRET_KEY itself.")
        self.verb("rotate", self.rotate, "Seal with SECRET_KEY what SECRET_KEY_FALLBACKS opens. The service may run.")

    def count(self) -> None:
        secrets, opened = sealed.keys(), Counter[int]()
        lost = 0
        for found in resealing.check():
            if found.key is not None:
                opened[found.key] += 1
                continue
            lost += 1
            if lost <= NAMED:
                self.stderr.write(f"{found.where}: {found.cure}.")
        under = [
            {"key": f"SECRET_KEY_FALLBACKS {place}" if place else "SECRET_KEY", "id": sealed.key_id(secret)}
            | {"values": opened[place]}
            for place, secret in enumerate(secrets)
        ]
        total = opened.total() + lost
        self.say({"sealed": total, "under": under, "unopened": lost})
        if opened[0] < total:
            sys.exit(1)

    def rotate(self) -> None:
        done = resealing.rotate()
        names = (resealing.MOVED, resealing.CURRENT, resealing.LEFT, resealing.LOST)
        self.say({"sealed": done.total()} | {name: done[name] for name in names})
        if done[resealing.LOST]:
            self.stderr.write("Some can't be opened: `manage.py secrets check` names them, with the cure.")
            sys.exit(1)
