"""Where a siege takes place: servers and settings of its own, set before the application reads the environment."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

IMPATIENT = {
    "CALCOM_CONNECT_TIMEOUT": "0.5",
    "CALCOM_READ_TIMEOUT": "1",
    "CALCOM_CIRCUIT_RESET": "2",
    "CALCOM_QUOTA": "6000",
    "STALL_AFTER": "5",
    "SWEEP_INTERVAL": "0.5",
    "RECONCILE_INTERVAL": "86400",  # a booking whose saga is still under way is no difference to be told of
    "LOG_LEVEL": "WARNING",
}
"""Settings: the same machinery with less patience, so that ten minutes hold more of what happens."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a siege is given.

    Attributes:
        seconds: how long it lasts, before the calm.
        seed: of the dice.
        rate: sagas started a second, at most; fewer while too many are under way.
        broker: URL of a broker; None is Redis, embedded, which then is restarted and killed, too.
        report: folder that the report goes to.
        home: folder of the embedded servers and the workers' logs.
    """

    seconds: float
    seed: int
    rate: float
    broker: str | None
    report: Path
    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="sagajobs-chaos-")))

    @property
    def broker_name(self) -> str:
        """What kind of broker it is, for the report."""
        return "RabbitMQ" if (self.broker or "").startswith("amqp") else "Redis"

    def prepare(self) -> None:
        """Have this process, and its children, mean the siege's own servers and nobody else's."""
        self.home.chmod(0o755)  # as root, the database server runs as another user and must get in
        for name in [name for name in os.environ if name.startswith("SAGAJOBS_")]:
            del os.environ[name]
        os.environ["SAGAJOBS_HOME"] = str(self.home)
        os.environ.update({f"SAGAJOBS_{name}": value for name, value in IMPATIENT.items()})
        if self.broker is not None:
            os.environ["SAGAJOBS_BROKER_URL"] = self.broker
            os.environ["SAGAJOBS_QUEUE_PREFIX"] = f"sagajobs-chaos-{os.getpid()}."

    def clear(self) -> None:
        """Remove what the embedded servers have left."""
        shutil.rmtree(self.home, ignore_errors=True)
