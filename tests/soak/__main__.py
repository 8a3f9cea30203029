"""`python -m tests.soak --minutes M --seed N`: prints what happens, and a closing table; writes var/soak/seed-N.json.

Exits with 1 when anything is not as it must be, naming the seed.
"""

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

os.environ["TEST_DATABASE"] = "postgres"

from tests import environment
from tests.soak import table
from tests.soak.clients import Client
from tests.soak.faults import Faults, wake
from tests.soak.sdk_client import SDKClient
from tests.soak.watching import Watch
from tests.soak.world import PRICES, TENANTS, World

FOLDER = Path("var/soak").resolve()
PACE = 30.0  # seconds between two submissions of a tenant, in the mean
DRAIN = 900.0  # seconds for clients to see the end of what they sent


def soak(world: World, minutes: float, seed: int, pace: float) -> list[str]:
    """Everything at once for so long, then the books; what is wrong."""
    seconds = minutes * 60
    address = world.start()
    clients = [
        (SDKClient if tenant.sdk else Client)(
            tenant, address, world.keys[tenant.name], random.Random(f"{tenant.name} {seed}"), PRICES, pace
        )
        for tenant in TENANTS
    ]
    hooked = [hook(client, world) for client in clients[:-2]]
    faults, watch = Faults(world, seed, seconds), Watch(world)
    threads = [*clients, faults.thread, watch.thread]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    closing(world, clients, faults)
    watch.stop.set()
    for thread in threads:
        thread.join(60)
    return table.close(world, clients, hooked, faults, watch, FOLDER / f"seed-{seed}.json")


def hook(client: Client, world: World) -> str:
    """Have the ends of its batches told; its tenant's name."""
    answer = client.request("hook", "POST", "/v1/webhook_endpoints", json={"url": world.receiver.url})
    assert answer.status_code == 200, answer.text
    return client.name


def closing(world: World, clients: list[Client], faults: Faults) -> None:
    """No fault any more, nothing new; everyone sees the end of what was sent."""
    faults.stop.set()
    faults.thread.join(300)
    wake(world)
    world.revive()
    for name, witness in world.witnesses.items():
        quiet = {kind: rate for kind, rate in world.rates.get(name, {}).items() if kind != "drip"}
        witness.configure(down=True, fault_rates=quiet)  # what drips, at a byte a second, begins anew
        witness.configure(down=False)
    for client in clients:
        client.stop.set()
    end = time.monotonic() + DRAIN
    while time.monotonic() < end and any(client.is_alive() for client in clients):
        time.sleep(1)
    for client in clients:
        client.give_up.set()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="of load and faults; the end takes a few more")
    parser.add_argument("--seed", type=int, default=None, help="absent: a new one")
    parser.add_argument("--pace", type=float, default=PACE, help="seconds between two batches of a tenant, in the mean")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before its time"))  # with all that it started
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}, {options.minutes:g} minutes", flush=True)
    world = World(seed)
    try:
        findings = soak(world, options.minutes, seed, options.pace)
    finally:
        world.remove(FOLDER / f"seed-{seed}")
    if findings:
        sys.exit(
            f"{len(findings)} things are wrong; again: python -m tests.soak --minutes {options.minutes:g} --seed {seed}"
        )


if __name__ == "__main__":
    try:
        main()
    finally:
        environment.remove()
