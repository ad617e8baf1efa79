"""
C{llama-gateway doctor}: everything a bug report needs, and not one secret.
"""

import argparse
import io
import os
import stat
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.cli import doctor
from twisted_llama.cli.doctor_masking import Masking, environment_secrets, keyfile_secrets
from twisted_llama.cli.doctor_sections import Findings, get, last_lines, run_command, sections
from twisted_llama.settings import Settings

MARK = "sk-MARKED_0123456789abcdefghijklmnopqrstuvwxyzABCD"
PASSWORD = "hunter2-marked"
FOREIGN = "not_of_our_shape_marked_0123456789"


class Gateway(BaseHTTPRequestHandler):
    """Answers like a running gateway, and says a secret as none should."""

    def do_GET(self) -> None:
        """Whatever is asked."""
        body = f"{self.path} {self.headers.get('Accept')} {MARK}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def gateway() -> int:
    """The port of a running gateway."""
    server = HTTPServer(("127.0.0.1", 0), Gateway)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def installation(tmp_path: Path, gateway: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    A directory as a gateway leaves it, with secrets wherever they might be.
    """
    home = tmp_path / "home"
    logs, models = home / "logs", home / "models"
    for folder in (logs / "_boot", logs / "llama", models):
        folder.mkdir(parents=True)
    keys = home / "api_keys.txt"
    keys.write_text(
        f"# people\nalice:{MARK}:60\nbob:{FOREIGN}\n{FOREIGN}x:wrong order\n"
        f"old:{MARK}2::2001-01-01\n"
    )
    keys.chmod(0o600)
    (logs / "api_access.log").write_text(f"2026 | alice | POST /x | 200 | Bearer {MARK}\n")
    (logs / "_boot" / "20260101_000000_boot_a.log").write_text(f"started with {FOREIGN}\n")
    (logs / "_boot" / "latest.txt").symlink_to("20260101_000000_boot_a.log")
    (logs / "llama" / "20260101_000000_server_a.log").write_text(f"redis://u:{PASSWORD}@h\n")
    (models / "m.gguf").write_bytes(b"GGUF" + bytes(60))
    engine = home / "llama-server"
    engine.write_text(f"#!/bin/sh\necho version: 42 {MARK}\n")
    engine.chmod(0o755)
    for name in list(os.environ):
        if name in {field.upper() for field in Settings.model_fields}:
            monkeypatch.delenv(name)
    settings = {
        "DATA_DIR": home,
        "PORT": gateway,
        "PORT_HEALTH": gateway,
        "PORT_BACKEND": 1,
        "MODEL_NAME": "m.gguf",
        "LLAMA_SERVER_BIN": engine,
        "BACKEND_API_KEY": FOREIGN + "backend",
        "REDIS_URL": f"redis://u:{PASSWORD}@h/0",
        "AWS_SECRET_ACCESS_KEY": FOREIGN + "aws",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    # Settings that clash with each other are another test's.
    monkeypatch.setenv("PORT_HEALTH", "8001")
    monkeypatch.chdir(tmp_path)
    return home


def collect(*arguments: str) -> tuple[int, str, str]:
    """Run it as the console script does."""
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    out, err = io.StringIO(), io.StringIO()
    status = doctor.run(parser.parse_args(arguments), out, err)
    return status, out.getvalue(), err.getvalue()


def unpacked(archive: Path) -> dict[str, str]:
    """The files of an archive, without their common directory."""
    with tarfile.open(archive) as tar:
        return {
            member.name.partition("/")[2]: tar.extractfile(member).read().decode()
            for member in tar.getmembers()
        }


def test_everything_is_in_it_and_no_secret(installation: Path) -> None:
    """
    Marked secrets in the key file, the settings, the logs, the engine's words
    and the gateway's answers: none comes through, by any way.
    """
    status, out, err = collect()
    assert (status, err) == (0, "")
    assert out.count("\n") == 1
    (archive,) = Path.cwd().glob("llama-gateway-doctor-*.tar.gz")
    assert str(archive) in out
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    files = unpacked(archive)
    for secret in (MARK, PASSWORD, FOREIGN):
        for name, text in files.items():
            assert secret not in text, name
        assert secret not in out
    assert "PORT=" in files["settings.txt"]
    assert "(environment)" in files["settings.txt"]
    assert files["problems.txt"] == "none\n"
    assert "keys: 3, of these 1 expired" in files["keyfile.txt"]
    assert "-rw-------" in files["keyfile.txt"]
    assert "line 4:" in files["keyfile.txt"]
    assert "m.gguf: GGUF, 64 bytes" in files["model.txt"]
    assert "version: 42" in files["engine.txt"]
    assert "started with ***" in files["logs/boot.txt"]
    assert "redis://***@h" in files["logs/engine.txt"]
    assert "alice | POST /x | 200" in files["logs/access.txt"]
    assert files["gateway/health.txt"].startswith("200 OK")
    assert "/metrics text/plain" in files["gateway/prometheus.txt"]
    assert "Python" in files["versions.txt"]
    assert "cores:" in files["platform.txt"]
    assert "bytes free" in files["disk.txt"]


def test_nothing_at_hand_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    No keys, no model, no logs, no gateway: each section says so.
    """
    for name in list(os.environ):
        if name in {field.upper() for field in Settings.model_fields}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("PORT", "1")
    status, _, _ = collect("--output", str(tmp_path))
    assert status == 0
    (archive,) = tmp_path.glob("*.tar.gz")
    files = unpacked(archive)
    assert "could not be collected: FileNotFoundError" in files["keyfile.txt"]
    assert "no model is named" in files["model.txt"]
    assert "no such directory" in files["disk.txt"]
    assert "nothing in" in files["logs/boot.txt"]
    assert "no answer from port 1" in files["gateway/health.txt"]
    assert files["logs/access.txt"].startswith("no ")


def test_refused_settings_are_reported_and_the_rest_is_used(
    installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very thing that a report may be about."""
    monkeypatch.setenv("MAX_QUEUE_SIZE", "-3")
    status, _, _ = collect("--output", "report.tgz")
    assert status == 0
    files = unpacked(Path("report.tgz"))
    assert "MAX_QUEUE_SIZE" in files["problems.txt"]
    assert "m.gguf: GGUF" in files["model.txt"]


def test_a_broken_configuration_file_is_reported(installation: Path) -> None:
    """The environment still counts."""
    Path("bad.yaml").write_text("port: [\n")
    status, _, _ = collect("--config", "bad.yaml", "--output", "report.tgz")
    assert status == 0
    files = unpacked(Path("report.tgz"))
    assert "bad.yaml" in files["problems.txt"]
    assert "m.gguf: GGUF" in files["model.txt"]


def test_an_archive_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """In one line that names the option, and nothing is left behind."""
    status, out, err = collect("--output", str(tmp_path / "no" / "where.tgz"))
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "--output" in err
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_packing_leaves_no_half_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the archive nor its draft."""

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(OSError, match="No space"):
        doctor.write_archive(tmp_path / "a.tgz", "a", {"x": "y"})
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_is_a_link_to_elsewhere_is_not_read(installation: Path) -> None:
    """Whoever may write into the logs must not choose what is sent away."""
    private = installation / "private"
    private.write_text("confidential")
    latest = installation / "logs" / "_boot" / "latest.txt"
    latest.unlink()
    latest.symlink_to(private)
    texts = dict(sections(Findings(Settings.load(os.environ, None, None), "")))
    assert "confidential" not in texts["logs/boot.txt"]
    assert "leads out" in texts["logs/boot.txt"]


def test_endpoints_are_not_guessed_at(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an endpoint in place of a port nobody is asked."""
    monkeypatch.setenv("GATEWAY_ENDPOINT", "unix:/run/gateway.sock")
    monkeypatch.setenv("HEALTH_ENDPOINT", "unix:/run/health.sock")
    texts = dict(sections(Findings(Settings.load(os.environ, None, None), "")))
    assert texts["gateway/health.txt"].startswith("not asked")
    assert texts["gateway/health_port.txt"].startswith("not asked")


@given(st.text(), st.text())
def test_a_known_secret_is_masked_wherever_it_stands(before: str, after: str) -> None:
    """Whatever is around it, though it looks like nothing in particular."""
    assert FOREIGN not in Masking([FOREIGN])(before + FOREIGN + after)


def test_a_million_keys_are_masked_word_by_word() -> None:
    """Many secrets, one pass."""
    secrets = [f"secret-number-{number:06d}" for number in range(5000)]
    masked = Masking(secrets)(f"a {secrets[77]}, 'b' {secrets[4999]}\nsecret-number-none-of-them")
    assert "000077" not in masked
    assert "004999" not in masked
    assert "secret-number-none-of-them" in masked


def test_short_secrets_do_not_tear_words_apart() -> None:
    """A password "a" would leave nothing readable."""
    assert Masking(["a", ""])("banana") == "banana"


def test_secrets_of_the_environment_are_found_by_name() -> None:
    """Paths and numbers with such names are none."""
    found = set(
        environment_secrets(
            {
                "HF_TOKEN": "hf_abcdef",
                "REDIS_URL": "redis://me:pass-word@h",
                "AUTH_KEYS_FILE": "/data/api_keys.txt",
                "PATH": "/bin",
            }
        )
    )
    assert found == {"hf_abcdef", "redis://me:pass-word@h", "pass-word"}


def test_secrets_of_bad_lines_count_too() -> None:
    """Fields in the wrong order, a forgotten name, a commented-out key."""
    text = f"{MARK}\n{MARK}1:alice\nx:60:{MARK}2\n#gone:{MARK}3\nh:sha256={'a' * 64}\n"
    found = set(keyfile_secrets(text))
    assert {MARK, f"{MARK}2", f"{MARK}3", "a" * 64} <= found


def test_last_lines_begin_with_a_whole_line(tmp_path: Path) -> None:
    """However long the file is."""
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(20000)))
    tail = last_lines(log).splitlines()
    assert tail[-1] == "line 19999"
    assert tail[0].startswith("line ")
    assert len(tail) < 20000


def test_commands_that_fail_say_how() -> None:
    """A missing program, and one that ends with a status."""
    assert "No such file" in run_command(["/nonexistent/program"])
    failing = run_command([sys.executable, "-c", "print('oops'); raise SystemExit(3)"])
    assert "oops" in failing
    assert "exit status 3" in failing


def test_a_command_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that waits for input is none of ours."""
    monkeypatch.setattr("twisted_llama.cli.doctor_sections._COMMAND_SECONDS", 0.05)
    assert "no answer within" in run_command(["/bin/sh", "-c", "exec sleep 30"])


def test_the_wildcard_address_is_asked_on_loopback(gateway: int) -> None:
    """0.0.0.0 is where it listens, not where it is."""
    assert get("0.0.0.0", gateway, "/health", {}).startswith("200")
