"""Which servers to use: those that the settings name, else the embedded ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr

from sagajobs.errors import ConfigurationError
from sagajobs.runtime import embedded
from sagajobs.runtime.urls import as_broker, as_database, as_redis

if TYPE_CHECKING:
    from sagajobs.runtime.settings import Settings

SIMULATOR_API_KEY = "cal_test_simulator"
"""The key that the Cal.com simulator takes."""


@dataclass(frozen=True)
class ServerUrls:
    """The URL of each server, written as its client wants it.

    A server that no setting names is started when its URL is first asked for, so ask only for what you use;
    ask again rather than keep the answer: it is cheap, and revives an embedded server that was killed. Each
    property raises `ConfigurationError` if an embedded server cannot run here.
    """

    settings: Settings

    @property
    def database(self) -> str:
        """PostgreSQL, for SQLAlchemy: ``postgresql+psycopg2://…``."""
        return as_database(self.settings.database_url or embedded.acquire("postgres", self.settings.home))

    @property
    def database_if_running(self) -> str | None:
        """As `database`, but an embedded one that does not run is not started: None."""
        url = self.settings.database_url or embedded.seen("postgres", self.settings.home)
        return None if url is None else as_database(url)

    @property
    def broker(self) -> str:
        """The broker, for Celery and Flower: ``redis…``, ``redis+socket://…`` or ``amqp…``."""
        return as_broker(self.settings.broker_url or f"{self._embedded_redis()}?db=0")

    @property
    def redis(self) -> str:
        """Redis or Valkey, for redis-py: ``redis…`` or ``unix://…``."""
        # Not the broker's database number: a worker puts back every unacknowledged message that it finds in
        # its own.
        return as_redis(self.settings.redis_url or f"{self._embedded_redis()}?db=1")

    @property
    def calcom(self) -> str:
        """Cal.com's API, without a slash at its end.

        Raises:
            ConfigurationError: no URL is set though a database is (see `Settings.uses_simulator`).
        """
        if self.settings.calcom_url:
            return self.settings.calcom_url.rstrip("/")
        if not self.settings.uses_simulator:
            raise ConfigurationError(
                "SAGAJOBS_CALCOM_URL: is missing while SAGAJOBS_DATABASE_URL is set; set it to Cal.com's API "
                "(https://api.cal.com), or to a simulator's address to book into that"
            )
        return embedded.acquire("simulator", self.settings.home)

    @property
    def calcom_api_key(self) -> SecretStr:
        """The key for the API at `calcom`.

        Raises:
            ConfigurationError: none is set and the simulator is not meant.
        """
        if self.settings.calcom_api_key:
            return self.settings.calcom_api_key
        if not self.settings.uses_simulator:
            raise ConfigurationError("SAGAJOBS_CALCOM_API_KEY: is missing; set it to the API key")
        return SecretStr(SIMULATOR_API_KEY)

    def _embedded_redis(self) -> str:
        return embedded.acquire("redis", self.settings.home)


def resolve(settings: Settings) -> ServerUrls:
    """Return the servers that `settings` mean; starts none until its URL is asked for."""
    return ServerUrls(settings)
