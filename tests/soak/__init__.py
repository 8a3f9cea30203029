"""An hour of everything at once: `python -m tests.soak --minutes 60 --seed 1`.

One `web` and two `worker` hosts on a PostgreSQL, tenants of all plans that send batches of every kind to upstreams that
fail in their ways, and faults by a schedule: killed hosts, runners and chores, restarts, a queue that is emptied, a
database that crashes, processes that sleep beyond their leases. In the end all is held against each other: what the
upstreams answered, what is stored and was served, what was charged; and nothing may be left over or have grown.

A seed gives the same batches, the same faults at the same moments, and other races.
"""
