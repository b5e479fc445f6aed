"""The units for systemd: what they name exists, they are hardened, and systemd reads them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sagajobs.runtime.settings import BY_FILE, variable_of
from tests.deploy.files import UNITS, unit

EACH = pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)

HARDENED = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "RestrictNamespaces": "yes",
    "SystemCallFilter": "@system-service",
}


@EACH
def test_its_secrets_are_handed_over_by_file(path):
    said = unit(path)
    handed = {value.partition(":")[0] for key, value in said if key == "LoadCredential"}
    named = dict(value.split("=") for key, value in said if key == "Environment")
    assert named == {f"{variable_of(name)}_FILE": f"%d/{name}" for name in handed}
    assert handed <= set(BY_FILE)
    assert {"database_url", "broker_url", "redis_url", "calcom_api_key"} <= handed
    assert ("flower_login" in handed) is ("flower" in path.name)
    assert not re.search(r"PASS|SECRET=|KEY=", path.read_text())


@EACH
def test_it_is_no_root_may_little_and_is_started_again(path):
    said = dict(unit(path))
    assert said["User"] == "sagajobs"
    assert HARDENED.items() <= said.items()
    assert {"MemoryMax", "TasksMax"} <= set(said)
    assert (said["Restart"], said["StartLimitIntervalSec"]) == ("always", "0")
    assert (said["KillMode"], said["KillSignal"]) == ("mixed", "SIGTERM")  # to the main process of a worker alone


ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(ANALYZE is None, reason="no systemd on this machine")
def test_systemd_reads_them(tmp_path):
    for path in UNITS:
        # A program has to be where its unit says.
        text = path.read_text().replace("/opt/sagajobs/bin", str(Path(sys.executable).parent))
        (tmp_path / path.name.replace("@", "@1")).write_text(text)
    done = subprocess.run(
        [ANALYZE, "verify", "--man=no", *sorted(map(str, tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SYSTEMD_LOG_COLOR": "0"},
    )
    ours = [line for line in done.stderr.splitlines() if "sagajobs" in line]
    assert (done.returncode, ours) == (0, [])
