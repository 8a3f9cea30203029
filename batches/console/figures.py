"""What the home is made of."""

from datetime import datetime
from typing import NamedTuple

from batches.console.doing import Doing
from batches.console.load import Lane
from batches.console.promises import Promises
from batches.console.runners import Host, Queue
from batches.console.takings import Dues, Takings
from batches.console.troubles import Troubles
from batches.console.use import Use
from tenants.holding import Held


class Figures(NamedTuple):
    """Of one moment, by the database's clock. None: not for whom they are read."""

    now: datetime
    promises: Promises | None
    lanes: list[Lane]
    doing: list[Doing]
    hosts: list[Host]
    queue: Queue | None
    troubles: Troubles
    use: Use | None
    takings: Takings | None
    dues: Dues | None
    held: Held | None  # the service sends, charges and deletes nothing
