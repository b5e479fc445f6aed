"""Mutants of what is done with sagas that another version of the code, or a lost past of this one, has left."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_SAGA = "sagajobs/saga"
_VERSIONS = "tests/saga/test_versions.py"
_REFUSED = "test_a_version_that_cannot_finish_it_touches_nothing_and_says_why"
_RECORDED = "tests/recorded/test_recorded.py::test_each_prefix_is_finished"

VERSIONS = (
    Mutant(
        "definition-unchecked",
        "G4: a saga goes on by the steps of a version that has them in another order, or not at all",
        f"{_SAGA}/executor.py",
        "            kind.definition.check(look.saga)\n",
        "",
        (f"{_VERSIONS}::{_REFUSED}[reordered-1]",),
    ),
    Mutant(
        "undo-gone-unnoticed",
        "G4: a saga is finished by code that can undo less than it was begun with",
        f"{_SAGA}/traits.py",
        "if was and not trait.of(step):",
        "if was and not trait.may_come and not trait.of(step):",
        (f"{_VERSIONS}::{_REFUSED}[an undo removed-2]",),
    ),
    Mutant(
        "undone-by-any-version",
        "G4: a saga that has turned round is undone by a version that lacks an undo of it, and called compensated",
        f"{_SAGA}/executor.py",
        "        kind.definition.check(record)\n",
        "",
        (f"{_VERSIONS}::test_what_is_being_undone_is_not_undone_by_a_version_that_cannot[an undo removed]",),
    ),
    Mutant(
        "former-version-ignored",
        "a former version that is kept beside the new one is never asked, and its sagas wait for a person",
        f"{_SAGA}/definition.py",
        "return (*same, *able, *cls.versions)[0]",
        "return cls.versions[0]",
        (f"{_VERSIONS}::test_a_former_version_that_is_kept_finishes_what_it_began",),
    ),
    Mutant(
        "paused-not-in-flight",
        "a deployment is called safe that strands the sagas which are paused",
        f"{_SAGA}/inflight.py",
        "'compensating', 'paused', ",
        "'compensating', ",
        (f"{_VERSIONS}::test_a_kind_that_nobody_knows_and_what_has_ended",),
    ),
    Mutant(
        "undo-not-hinted-at",
        "G1: a saga that is being undone stands still for ever if its message is lost",
        f"{_SAGA}/sweep.py",
        "        publisher.compensation(kind, saga_id)\n",
        "        pass\n",
        (f"{_RECORDED}[creation-undone-v1]",),
    ),
)
