"""The receiver of webhooks within `up`: where it listens, with which secret, and where the simulator sends."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
from pydantic import SecretStr

from sagajobs.calcom.webhooks import Trigger
from sagajobs.cli import application
from sagajobs.cli.stack import LOOPBACK, port_for

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

PORT = 8080
"""The port that is taken unless one is asked for, or the next free one above it."""

_PATIENCE = 5.0
_UNKNOWN_HERE = (Trigger.REASSIGNED,)
"""Triggers that are newer than the version of the payloads which the simulator speaks."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver of webhooks on loopback, as whoever reaches it from outside is to come by HTTPS.

    Attributes:
        port: where it listens.
        secret: what webhooks are signed with.
        simulated: Cal.com is the embedded simulator, which has to be told where to send them.
    """

    port: int
    secret: SecretStr
    simulated: bool

    @classmethod
    def planned(cls, port: int | None) -> Receiver | None:
        """Return the receiver that the settings ask for, None if webhooks could not be told from forged ones.

        The embedded simulator is sent a secret of this run's own, where none is set.

        Args:
            port: where it is to listen, as `port_for` takes it.

        Raises:
            ConfigurationError: none is free.
        """
        settings = application.settings()
        secret = settings.calcom_webhook_secret
        if secret is None and settings.uses_simulator:
            secret = SecretStr(secrets.token_urlsafe(32))
        if secret is None:
            return None
        return cls(port_for(port, PORT, "the receiver of webhooks"), secret, settings.uses_simulator)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{LOOPBACK}:{self.port}/"

    def subscribe(self, url: str) -> None:
        """Have the embedded simulator send its webhooks to `url`, unless it does; it forgets that when it dies.

        One at that address with another secret is left from an earlier run. Should the simulator not answer, that is
        said in the log: webhooks are hints, and reconciling finds what they would have told.
        """
        try:
            self._subscribe(url)
        except requests.RequestException as error:
            log.warning("the simulator was not told where webhooks go: %s", type(error).__name__)

    def _subscribe(self, url: str) -> None:
        secret = self.secret.get_secret_value()
        for known in self._call("GET").get("data", []):
            if known["subscriberUrl"] == url and known.get("secret") == secret:
                return
            if known["subscriberUrl"] == url:
                self._call("DELETE", f"/{known['id']}")
        triggers = [str(trigger) for trigger in Trigger if trigger not in _UNKNOWN_HERE]
        self._call("POST", body={"subscriberUrl": url, "active": True, "triggers": triggers, "secret": secret})

    def _call(self, method: str, path: str = "", *, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        servers = application.servers()
        reply = requests.request(
            method,
            f"{servers.calcom}/v2/webhooks{path}",
            json=body,
            headers={"Authorization": f"Bearer {servers.calcom_api_key.get_secret_value()}"},
            timeout=_PATIENCE,
        )
        reply.raise_for_status()
        answered: dict[str, Any] = reply.json()
        return answered
