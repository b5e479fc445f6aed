"""What the children of `up` are told by their environment."""

from __future__ import annotations

from pydantic import SecretStr

from sagajobs.cli.stack import Stack


def test_nothing_is_told_twice_by_value_and_by_file(app_engine, simulator, monkeypatch, tmp_path):
    for name in ("DATABASE_URL", "CALCOM_WEBHOOK_SECRET", "SENTRY_DSN"):
        monkeypatch.setenv(f"SAGAJOBS_{name}_FILE", "/run/secrets/x")
    monkeypatch.delenv("SAGAJOBS_CALCOM_WEBHOOK_SECRET")
    stack = Stack(tmp_path)
    receiver = stack.webhooks(4711, SecretStr("known there"))

    by_file = {name for name in stack.environment if name.startswith("SAGAJOBS_") and name.endswith("_FILE")}
    assert by_file == {"SAGAJOBS_CALCOM_WEBHOOK_SECRET_FILE", "SAGAJOBS_SENTRY_DSN_FILE"}
    assert stack.environment["SAGAJOBS_DATABASE_URL"].startswith("postgresql")
    assert "SAGAJOBS_CALCOM_WEBHOOK_SECRET_FILE" not in receiver.env
    assert receiver.env["SAGAJOBS_CALCOM_WEBHOOK_SECRET"] == "known there"  # noqa: S105 - this test's own
    assert receiver.env["SAGAJOBS_SENTRY_DSN_FILE"] == "/run/secrets/x"
