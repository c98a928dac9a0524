"""Settings of the service: the environment (``EXPUNGE_SERVICE_*``) or the options of a command.

Where the ledger is, with PostgreSQL and a bucket where it has them, is said by the URL of the
ledger (``EXPUNGE_LEDGER``) and not here.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from expunge.errors import ExpungeError
from expunge.service.passwords import Argon2

PREFIX = "EXPUNGE_SERVICE_"
MEBIBYTE = 2**20
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """How the service listens, whom it trusts, and where its limits are.

    Lists are written with commas: ``EXPUNGE_SERVICE_TRUSTED_HOSTS=forget.example.org,10.0.0.7``.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8000, description="Port to listen on; 0 takes a free one."
    )
    tls_cert: Path | None = Field(default=None, description="Certificate of the server (PEM).")
    tls_key: Path | None = Field(default=None, description="Its private key (PEM).")
    behind_proxy: bool = Field(
        default=False, description="A reverse proxy that ends TLS stands before the service."
    )
    proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("127.0.0.1",),
        description="Addresses of proxies whose X-Forwarded-For and -Proto are believed.",
    )
    trusted_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Names that the service may be asked by (Host), beside this machine's.",
    )
    run_files: Path | None = Field(
        default=None, description="Folder of run files that models may be registered from."
    )
    worker: bool = Field(default=True, description="Start a worker beside the server.")

    body_limit: Count = Field(default=4 * MEBIBYTE, description="Bytes of a body.")
    certificate_limit: Count = Field(default=MEBIBYTE, description="Bytes of a certificate.")
    upload_limit: Count = Field(default=4096 * MEBIBYTE, description="Bytes of uploaded weights.")
    threads: Annotated[int, Field(ge=1, le=12)] = Field(
        default=10, description="Calls of the ledger at once; each holds a connection."
    )
    computing: Count = Field(default=1, description="Previews, answers and checks at once.")
    open_models: Count = Field(default=2, description="Models kept in memory.")

    poll: Seconds = Field(default=0.5, description="Seconds between looks at a request's progress.")
    heartbeat: Seconds = Field(default=15.0, description="Seconds between signs of life.")
    stream_time: Seconds = Field(
        default=300.0,
        description="Seconds after which a stream ends, so that who listens is asked anew.",
    )
    streams: Count = Field(default=200, description="Streams of progress at once.")
    patience: Seconds = Field(
        default=20.0, description="Seconds that calls have to end in when the service is stopped."
    )

    argon2: Argon2 = Field(default=Argon2(), description="What the hash of a password costs.")
    session_idle: Seconds = Field(default=1800.0, description="Seconds until an idle one ends.")
    session_longest: Seconds = Field(default=43200.0, description="Seconds until any one ends.")

    @field_validator("proxies", "trusted_hosts", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        if isinstance(given, str):
            return tuple(part.strip() for part in given.split(",") if part.strip())
        return given

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        """Refuse what would send passwords and names over a network unencrypted."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together; give both, or none")
        if not (self.loopback or self.secure):
            raise ValueError(
                f"the host {self.host} is reached from other machines, and nothing would be "
                "encrypted; give --tls-cert and --tls-key, or --behind-proxy where a reverse "
                "proxy ends TLS"
            )
        return self

    @property
    def loopback(self) -> bool:
        """Whether this machine alone can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def secure(self) -> bool:
        """Whether browsers reach the service over TLS, so that cookies say so."""
        return self.behind_proxy or self.tls_cert is not None

    @property
    def hosts(self) -> frozenset[str]:
        """Names by which the service may be asked, without ports."""
        own = () if self.host in ("0.0.0.0", "::") else (self.host,)
        return frozenset({*self.trusted_hosts, "127.0.0.1", "localhost", "::1", *own})


def settings_of(**given: Any) -> Settings:
    """The settings of the environment, with what is given in their place; None is not given.

    Raises:
        ExpungeError: a value cannot be used; the sentence names the setting.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"][:1])
        said = first["msg"].removeprefix("Value error, ")
        named = f"The setting {where} ({PREFIX}{where.upper()}) cannot be used: " if where else ""
        raise ExpungeError(f"{named}{said}.") from None
