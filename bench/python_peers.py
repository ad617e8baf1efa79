"""
Gateways written in Python, each from a virtual environment of its own under
C{bench/.venvs}, so that their dependencies meet nobody else's.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from peers import (
    KEY_TEMPLATE,
    Caddy,
    HAProxy,
    Nginx,
    Peer,
    Place,
    Variant,
    clean_environ,
    first_line,
)
from programs import HERE, Program

VENVS = HERE / ".venvs"
_ADMIN_KEY = "bench-admin"


def _version_of(python: Path, package: str) -> str | None:
    if not python.exists():
        return None
    code = f"from importlib.metadata import version; print({package!r}, version({package!r}))"
    return first_line([str(python), "-c", code])


class LiteLLM(Peer):
    """
    The LiteLLM proxy, from a virtual environment of its own.
    """

    name = "litellm"
    notes = "1 worker; master key checked; no database; its own log at ERROR"
    ready_path = "/health/liveliness"
    start_seconds = 120.0

    def _program(self) -> Path:
        return VENVS / "litellm" / "bin" / "litellm"

    def version(self) -> str | None:
        return _version_of(VENVS / "litellm" / "bin" / "python", "litellm")

    def missing(self) -> str:
        return "not installed (see bench/README.md)"

    def launch(self, place: Place, variant: Variant) -> tuple[list[str], dict[str, str]]:
        (place.directory / "litellm.yaml").write_text(f"""
model_list:
  - model_name: bench.gguf
    litellm_params:
      model: openai/bench.gguf
      api_base: http://127.0.0.1:{place.engine_port}/v1
      api_key: none
general_settings:
  master_key: {KEY_TEMPLATE.format(0)}
litellm_settings:
  telemetry: false
""")
        argv = [str(self._program()), "--config", str(place.directory / "litellm.yaml")]
        argv += ["--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1"]
        return argv, clean_environ(
            place.directory,
            LITELLM_LOG="ERROR",
            LITELLM_LOCAL_MODEL_COST_MAP="True",
            NO_DOCS="True",
        )


class Smol(Peer):
    """
    smol-llm-proxy: FastAPI and httpx.
    """

    name = "smol"
    notes = "1 worker; API key checked; limits and usage in SQLite; uvicorn's access log on"
    start_seconds = 30.0

    def version(self) -> str | None:
        return _version_of(VENVS / "smol" / "bin" / "python", "smol-llm-proxy")

    def missing(self) -> str:
        return "not installed (see bench/README.md)"

    def launch(self, place: Place, variant: Variant) -> tuple[list[str], dict[str, str]]:
        configuration = place.directory / "config.yaml"
        configuration.write_text(f"""
servers:
  - name: engine
    url: http://127.0.0.1:{place.engine_port}
    models: [bench.gguf]
""")
        return [str(VENVS / "smol" / "bin" / "smol-llm-proxy")], clean_environ(
            place.directory,
            ADMIN_KEY=_ADMIN_KEY,
            PROXY_HOST="127.0.0.1",
            PROXY_PORT=str(place.port),
            PROXY_MAX_CONNECTIONS="1024",
            PROXY_MAX_KEEPALIVE="1024",
            DB_PATH=str(place.directory / "proxy.db"),
            CONFIG_PATH=str(configuration),
        )

    def keys_for(self, program: Program, place: Place, variant: Variant) -> Path:
        made = _ask(program.port, "POST", "/admin/keys", {"name": "bench"})
        limits = {"rpm_limit": 100_000_000, "tpm_limit": 1_000_000_000}
        _ask(program.port, "PUT", f"/admin/keys/{made['id']}/limits", limits)
        keys = place.directory / "bare.txt"
        keys.write_text(f"{made['key']}\n")
        return keys


def _ask(port: int, method: str, path: str, body: Mapping[str, object]) -> dict[str, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {_ADMIN_KEY}", "Content-Type": "application/json"}
    connection.request(method, path, json.dumps(body), headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return cast("dict[str, object]", answer)


ALL_PEERS: dict[str, type[Peer]] = {
    kind.name: kind for kind in (Nginx, HAProxy, Caddy, LiteLLM, Smol)
}
