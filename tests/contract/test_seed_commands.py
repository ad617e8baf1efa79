"""
The commands that the users of llama-gguf-inference know, as its documents have them, do here
what they do there.  Only the port is another, and a placeholder of a key has become a key.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import Require
from tests.gateway.running import Gateway, running, until
from tests.tiny_model import tiny_model

WITH_A_KEY = """
curl -H "Authorization: Bearer your-api-key" \\
  http://localhost:8000/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "any",
    "messages": [{"role": "user", "content": "Hello!"}]
  }'
"""
WITHOUT_A_KEY = """
curl http://localhost:8000/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "any",
    "messages": [{"role": "user", "content": "Hello!"}]
  }'
"""
WITH_THE_KEY_OF_THE_EXAMPLE = """
curl -H "Authorization: Bearer sk-prod-abc123def456" \\
  http://localhost:8000/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "any",
    "messages": [{"role": "user", "content": "Hello!"}]
  }'
"""
HEALTH = """
curl http://localhost:8000/ping    # Always works
curl http://localhost:8000/health  # Always works
"""
MAKE_KEYS = """
# Create data directory
mkdir -p ./data/models
cp your-model.gguf ./data/models/

# Create API keys file
cat > ./data/api_keys.txt << EOF
production:sk-prod-$(openssl rand -hex 32)
EOF
chmod 600 ./data/api_keys.txt
"""
LOOK_FOR_THE_MODEL = """
# Check model path
ls -la $DATA_DIR/models/
# Verify MODEL_NAME matches exactly (case-sensitive)
"""
EXAMPLE_KEY = "sk-prod-abc123def456"
#: So that a command as it stands neither shows its progress nor takes an error for an answer.
CURLRC = "silent\nshow-error\nfail-with-body\nmax-time = 30\n"
#: What its documents let one set, with values for a small machine.
ENVIRONMENT = {
    "MODEL_NAME": "your-model.gguf",
    "NGL": "0",
    "CTX": "256",
    "THREADS": "1",
    "MAX_REQUESTS_PER_MINUTE": "100",
    "MAX_CONCURRENT_REQUESTS": "1",
    "MAX_QUEUE_SIZE": "0",
    "MAX_REQUEST_BODY_SIZE": "10485760",
    "MAX_HEADERS": "64",
    "MAX_HEADER_LINE_SIZE": "8192",
    "LOG_NAME": "llama",
    "WORKER_TYPE": "instruct",
    "DEBUG_SHELL": "false",
    "CORS_ORIGINS": "",
    "EXTRA_ARGS": "",
}


def shell(
    directory: Path, script: str, port: int = 8000, **environment: str
) -> subprocess.CompletedProcess[str]:
    """
    Run commands, on another port than their own.
    """
    (directory / ".curlrc").write_text(CURLRC)
    return subprocess.run(
        ["bash", "-euc", script.replace("localhost:8000", f"localhost:{port}")],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": str(directory), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def is_chat(output: str) -> bool:
    """
    Whether that is a whole answer of OpenAI's shape.
    """
    answer = json.loads(output)
    message = answer["choices"][0]["message"]
    return bool(answer["object"] == "chat.completion" and message["role"] == "assistant")


class Prepared(Gateway):
    """
    A gateway whose key file was made by the commands under test.
    """

    def write_keys(self, *lines: str) -> None:
        """
        Leave it as it is.
        """


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Path:
    """
    A directory with a model, as the documents tell one to make it.
    """
    require(find_spec("xllamacpp"), "the embedded engine is missing: pip install xllamacpp")
    for name in ("bash", "curl", "openssl"):
        require(shutil.which(name), f"{name} is missing: apt-get install {name}")
    directory = tmp_path_factory.mktemp("seed")
    shutil.copy(tiny_model(), directory / "your-model.gguf")
    done = shell(directory, MAKE_KEYS)
    assert done.returncode == 0, done
    return directory


@pytest.fixture(scope="module")
def with_keys(place: Path) -> Iterator[Gateway]:
    """
    A gateway with C{AUTH_ENABLED=true} and the keys that the commands have made.
    """
    keys = place / "data" / "api_keys.txt"
    made = keys.read_text().strip().partition(":")[2]
    with keys.open("a") as file:
        file.write(f"example:{EXAMPLE_KEY}\n")
    settings = {**ENVIRONMENT, "AUTH_ENABLED": "true", "AUTH_KEYS_FILE": str(keys)}
    with running(Prepared(place / "data", settings, {"production": made})) as gateway:
        gateway.secrets.add(EXAMPLE_KEY)
        yield gateway


def test_a_request_with_a_key(with_keys: Gateway, place: Path) -> None:
    """The key made by C{openssl rand}, and the one of the example."""
    mine = WITH_A_KEY.replace("your-api-key", with_keys.key)
    for script in (mine, WITH_THE_KEY_OF_THE_EXAMPLE):
        done = shell(place, script, with_keys.port)
        assert done.returncode == 0, done.stdout
        assert is_chat(done.stdout)


def test_a_request_without_its_key(with_keys: Gateway, place: Path) -> None:
    """It is refused: with the placeholder as it stands, and with no key at all."""
    for script in (WITH_A_KEY, WITHOUT_A_KEY):
        done = shell(place, script, with_keys.port)
        assert done.returncode == 22, "curl's status for an answer of 400 and more"
        assert json.loads(done.stdout)["error"]["code"] == "invalid_api_key"


def test_health_without_a_key(with_keys: Gateway, place: Path) -> None:
    """Both always work."""
    done = shell(place, HEALTH, with_keys.port)
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["status"] == "ok"


def test_the_model_and_the_logs_are_where_they_were(with_keys: Gateway, place: Path) -> None:
    """The directories of C{DATA_DIR}."""
    done = shell(place, LOOK_FOR_THE_MODEL, DATA_DIR=str(with_keys.data_dir))
    assert "your-model.gguf" in done.stdout
    logs = with_keys.data_dir / "logs"
    for name in ("_boot", "llama-instruct"):
        latest = logs / name / "latest.txt"
        until(latest.exists, f"the log in {name}")
        assert latest.resolve().parent == logs / name


def test_without_authentication(place: Path, tmp_path: Path) -> None:
    """C{AUTH_ENABLED=false}, for testing."""
    (tmp_path / "models").mkdir()
    shutil.copy(place / "your-model.gguf", tmp_path / "models")
    gateway = Gateway(tmp_path, {**ENVIRONMENT, "AUTH_ENABLED": "false"}, {})
    with running(gateway):
        done = shell(tmp_path, WITHOUT_A_KEY, gateway.port)
        assert done.returncode == 0, done
        assert is_chat(done.stdout)
        assert gateway.health()["authentication"]["enabled"] is False
