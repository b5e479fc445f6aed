"""The chaos harness (`make chaos`): a steady load on the real stack, and everything that can go wrong with it.

```
load ──▶ sagas of all kinds, so many a second, each with a key of its own
siege ─▶ by a seeded dice: kills children and whole workers, freezes workers past their leases, restarts and kills
         PostgreSQL and Redis, wipes the broker, lets Cal.com book and time out, lag, throttle, fail, go away
calm ──▶ faults off, whoever is frozen wakes; everything comes to rest
verdict  each start accounted for, ledger = table, invariants, nothing twice, no lock left, no case without a reason
report   how many of what, how long until what was hit went on, and a picture of it
```

The same seed deals the same blows at the same times; what they hit depends on the machine.
"""
