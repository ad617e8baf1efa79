"""
Every setting: name, type, default, bounds and what it is for.

A field's name is its key in the YAML file and, in upper case, its environment
variable.  The table in the documentation is made from this file too.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from twisted_llama.settings import reading

if TYPE_CHECKING:
    from twisted_llama.settings.loading import LoadedSettings

PLATFORM_DATA_DIRS = (Path("/runpod-volume"), Path("/workspace"))
LAST_DATA_DIR = Path("/data")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_YEAR_SECONDS = 31_536_000

Flag = Annotated[bool, BeforeValidator(reading.read_flag)]
Whole = Annotated[int, BeforeValidator(reading.read_whole)]
Port = Annotated[Whole, Field(ge=0, le=65535)]
Count = Annotated[Whole, Field(ge=1)]
Amount = Annotated[Whole, Field(ge=0)]
Seconds = Annotated[float, BeforeValidator(reading.read_seconds), Field(gt=0, le=_YEAR_SECONDS)]
Text = Annotated[str, BeforeValidator(reading.read_text)]
Name = Annotated[str, BeforeValidator(reading.read_name)]
NonEmptyName = Annotated[Name, AfterValidator(reading.needs_content)]
Place = Annotated[Path, BeforeValidator(reading.read_text)]
Origins = Annotated[tuple[str, ...], BeforeValidator(reading.read_origins)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(reading.read_networks)]
Prefixes = Annotated[tuple[str, ...], BeforeValidator(reading.read_prefixes)]
Arguments = Annotated[tuple[str, ...], BeforeValidator(reading.read_arguments)]
Endpoint = Annotated[str, BeforeValidator(reading.read_endpoint)]
HeaderSecret = Annotated[SecretStr, BeforeValidator(reading.read_header_secret)]
RedisUrl = Annotated[SecretStr, BeforeValidator(reading.read_redis_url)]
Engine = Annotated[
    Literal["auto", "llama-server", "embedded", "external", "mock"],
    BeforeValidator(reading.read_choice),
]
LogFormat = Annotated[Literal["text", "json"], BeforeValidator(reading.read_choice)]
LogLevel = Annotated[
    Literal["debug", "info", "warn", "error"], BeforeValidator(reading.read_choice)
]


def platform_data_dir(exists: Callable[[Path], bool] = Path.exists) -> Path:
    """
    The data directory of the platform that this runs on.
    """
    return next((path for path in PLATFORM_DATA_DIRS if exists(path)), LAST_DATA_DIR)


def default_instance_id(hostname: str | None = None) -> str:
    """
    What tells this process' files from those of others in the same directory.
    """
    return reading.safe_name(hostname or socket.gethostname()) or "gateway"


def _setting(default: object, doc: str) -> Any:
    return Field(default, description=doc)


def _derived(default: Callable[..., object], default_text: str, doc: str) -> Any:
    return Field(
        default_factory=default,
        description=doc,
        json_schema_extra={"default_text": default_text},
    )


def _in_data_dir(name: str, doc: str) -> Any:
    def path(earlier: dict[str, Any]) -> Path:
        # A data_dir that was refused is missing here, and reported elsewhere.
        data_dir: Path = earlier.get("data_dir", LAST_DATA_DIR)
        return data_dir / name

    return _derived(path, f"$DATA_DIR/{name}", doc)


class Settings(BaseModel):
    """
    The effective settings.  L{Settings.load} is how they are made; the constructor
    takes nothing from the environment.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        protected_namespaces=(),
        validate_default=True,
    )

    # -- listeners
    port: Port = _setting(8000, "Port of the gateway; 0: a free one.")
    # Every request needs a key, so that all addresses are the default.
    host: Text = _setting("0.0.0.0", "Address that the gateway listens on.")  # nosec B104  # meant
    port_health: Port = _setting(8001, "Port of the health listener, without keys; 0: a free one.")
    gateway_endpoint: Endpoint | None = _setting(
        None, "Twisted endpoint description used instead of HOST and PORT."
    )
    health_endpoint: Endpoint | None = _setting(
        None, "Twisted endpoint description used instead of PORT_HEALTH."
    )
    cors_origins: Origins = _setting(
        (), "Web origins whose pages may call the gateway, or *; none: CORS is off."
    )
    trusted_proxies: Networks = _setting((), "Proxies whose X-Forwarded-For is believed.")
    proxy_extra_paths: Prefixes = _setting((), "Prefixes of further paths that are relayed.")

    # -- files
    data_dir: Place = _derived(
        platform_data_dir,
        "/runpod-volume or /workspace where that exists, else /data",
        "Where models, logs and keys are.",
    )
    models_dir: Place = _in_data_dir("models", "Where MODEL_NAME is looked for.")
    log_dir: Place = _in_data_dir("logs", "Where log files are written.")

    # -- keys
    auth_enabled: Flag = _setting(True, "Whether protected paths need an API key.")
    auth_keys_file: Place = _in_data_dir("api_keys.txt", "The file of API keys.")
    auth: Text | None = _setting(
        None, "Checker of keys, such as keyfile:PATH, used instead of AUTH_KEYS_FILE."
    )
    metrics_auth_enabled: Flag = _setting(False, "Whether /metrics needs an API key.")

    # -- limits and queue
    max_requests_per_minute: Count = _setting(
        100, "Accepted requests of a key in 60 s, unless its line says another number."
    )
    redis_url: RedisUrl | None = _setting(None, "Redis where several gateways share their limits.")
    max_concurrent_requests: Count | None = _setting(
        None, "Requests relayed at once; unset: as many as the engine has slots."
    )
    max_queue_size: Amount = _setting(0, "Requests that may wait for a slot; 0: no bound.")
    queue_timeout: Seconds = _setting(300.0, "How long a request may wait for a slot.")
    max_connections: Count = _setting(10_000, "Open client connections.")
    max_connections_per_ip: Count = _setting(1000, "Open client connections of one address.")

    # -- sizes
    max_request_body_size: Count = _setting(10_485_760, "Largest request body, in bytes.")
    max_headers: Count = _setting(64, "Most header fields of a request.")
    max_header_line_size: Count = _setting(8192, "Longest header line, in bytes without CRLF.")
    max_request_line_size: Count = _setting(8192, "Longest request line, in bytes without CRLF.")
    relay_buffer_bytes: Annotated[Whole, Field(ge=65_536)] = _setting(
        262_144, "Most bytes of a response that are held for a client that reads slowly."
    )

    # -- patience
    client_header_timeout: Seconds = _setting(30.0, "How long a request's head may take to come.")
    client_body_timeout: Seconds = _setting(60.0, "Longest pause while a request's body comes.")
    client_write_timeout: Seconds = _setting(60.0, "Longest pause of a client that should read.")
    keepalive_timeout: Seconds = _setting(75.0, "How long an idle client connection is kept.")
    request_timeout: Seconds = _setting(300.0, "Longest silence of the engine in a request.")
    backend_connect_timeout: Seconds = _setting(10.0, "How long connecting to the engine may take.")
    health_timeout: Seconds = _setting(2.0, "How long the engine's /health may take to answer.")
    load_timeout: Seconds = _setting(600.0, "How long the engine may take to load its model.")
    drain_timeout: Seconds = _setting(30.0, "How long running requests may go on at shutdown.")

    # -- engine (mock_backend before engine, which depends on it)
    mock_backend: Flag = _setting(False, "The same as ENGINE=mock.")
    engine: Engine = _setting(
        "auto", "What answers requests; auto: llama-server, else embedded, as installed."
    )
    llama_server_bin: Place | None = _setting(
        None, "The llama-server to run; unset: /app/llama-server, else the one on PATH."
    )
    model_name: Text | None = _setting(None, "File name of the model in MODELS_DIR.")
    model_path: Place | None = _setting(None, "Path of the model; wins over MODEL_NAME.")
    backend_host: Text = _setting("127.0.0.1", "Host of an external engine (ENGINE=external).")
    port_backend: Port = _setting(8080, "Port of the engine; 0: a free one.")
    backend_api_key: HeaderSecret | None = _setting(None, "Key of an external engine.")
    ngl: Annotated[Whole, Field(ge=-1)] = _setting(99, "Layers put on the GPU; 0: none.")
    ctx: Amount = _setting(16384, "Context length in tokens; 0: the model's own.")
    threads: Amount = _setting(0, "CPU threads of the engine; 0: its own choice.")
    extra_args: Arguments = _setting(
        (), "Further arguments of llama-server, quoted as in a shell; not its host, port or keys."
    )
    max_restarts: Amount = _setting(5, "Restarts in a row after crashes; 0: none.")

    # -- logs
    log_name: NonEmptyName = _setting("llama", "Directory of the engine's logs in LOG_DIR.")
    worker_type: Name = _setting("", "Appended to LOG_NAME after a hyphen.")
    instance_id: NonEmptyName = _derived(
        default_instance_id, "the host's name", "Tells this process' log files from others'."
    )
    log_max_bytes: Count = _setting(10_485_760, "Size at which a log file is rotated, in bytes.")
    log_keep: Count = _setting(10, "Log files of each kind that are kept.")
    log_format: LogFormat = _setting("text", "Form of the access log.")
    log_level: LogLevel = _setting("info", "Least important level that is logged.")
    debug_shell: Flag = _setting(False, "Print the environment, masked, and wait; no engine.")

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str],
        config_path: str | None = None,
        overrides: Mapping[str, object] | None = None,
        *,
        exists: Callable[[Path], bool] = Path.exists,
    ) -> LoadedSettings:
        """
        Put the settings together: overrides win over the environment, that over the
        file, and that over the defaults.

        @param environ: environment variables; an empty one counts as not set.
        @param config_path: a YAML file given on the command line, used instead of the
            one that C{GATEWAY_CONFIG} names.
        @param overrides: values from the command line, by field name; C{None} is not set.
        @param exists: whether a path exists, asked to recognise the platform.
        @raise SettingsError: with everything that is wrong, in one go.
        """
        # Not at the top: loading needs this class.
        from twisted_llama.settings.loading import load

        return load(environ, config_path, overrides or {}, exists)

    @field_validator("engine")
    @classmethod
    def _mock_backend_is_an_engine(cls, engine: str, info: ValidationInfo) -> str:
        if not info.data.get("mock_backend"):
            return engine
        if engine not in ("auto", "mock"):
            raise reading.refusal(
                f"{engine} contradicts MOCK_BACKEND=true", "Remove one of the two."
            )
        return "mock"

    @model_validator(mode="after")
    def _ports_agree(self) -> Self:
        external = self.engine == "external"
        if external and self.port_backend == 0:
            raise reading.disagreement(
                ["engine", "port_backend"],
                "an external engine has no port that could be chosen",
                "Set PORT_BACKEND to the port it listens on.",
            )
        here = {
            "port": self.gateway_endpoint is None,
            "port_health": self.health_endpoint is None,
            "port_backend": not external or self.backend_host in _LOOPBACK,
        }
        users = defaultdict(list)
        for name, is_bound_here in here.items():
            if is_bound_here:
                users[getattr(self, name)].append(name)
        for port, names in users.items():
            if port and len(names) > 1:
                raise reading.disagreement(
                    names, f"port {port} is used twice", "Give each listener a port of its own."
                )
        return self
