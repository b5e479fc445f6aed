"""The mutants: each breaks one guarantee by one exact change of the code, and names the tests that must notice it.

A test is named as pytest does, without its parameters where any of its cases may notice; the fastest that does not
depend on chance. `why` is what is lost, with the name of the guarantee (docs/design.md) if it has one.
"""

from __future__ import annotations

from tests.mutants import sagas, steps, telling, versions

MUTANTS = (
    *steps.CLAIMS,
    *steps.ATTEMPTS,
    *steps.DOUBT,
    *steps.UNDO,
    *sagas.LOCKING,
    *sagas.TOGETHER,
    *sagas.SWEEPS,
    *versions.VERSIONS,
    *sagas.CALCOM,
    *telling.TELLING,
)
