"""
Sources, their precedence, and all problems in one go.
"""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from twisted_llama.errors import StartupError
from twisted_llama.settings import (
    LoadedSettings,
    Problem,
    Settings,
    SettingsError,
    describe_settings,
    effective,
)
from twisted_llama.settings.schema import default_instance_id


def nowhere(path: Path) -> bool:
    """
    A platform that has none of the known directories.
    """
    return False


def load(
    environ: dict[str, str] | None = None,
    config_path: Path | None = None,
    overrides: dict[str, object] | None = None,
) -> LoadedSettings:
    """
    Load on a platform without known directories.
    """
    path = None if config_path is None else str(config_path)
    return Settings.load(environ or {}, path, overrides, exists=nowhere)


def refused(
    environ: dict[str, str] | None = None,
    config_path: Path | None = None,
    overrides: dict[str, object] | None = None,
) -> SettingsError:
    """
    The error of a load that must fail.
    """
    with pytest.raises(SettingsError) as caught:
        load(environ, config_path, overrides)
    return caught.value


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """
    Writes a YAML file and returns its path.
    """

    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write


# -- defaults ------------------------------------------------------------------


def test_defaults() -> None:
    """Without any source everything has its documented default."""
    loaded = load()
    settings = loaded.settings
    assert (settings.port, settings.port_health, settings.port_backend) == (8000, 8001, 8080)
    assert settings.auth_enabled is True
    assert settings.auth_keys_file == Path("/data/api_keys.txt")
    assert settings.models_dir == Path("/data/models")
    assert settings.log_dir == Path("/data/logs")
    assert (settings.ngl, settings.ctx, settings.threads) == (99, 16384, 0)
    assert settings.max_concurrent_requests is None
    assert settings.engine == "auto"
    assert settings.relay_buffer_bytes == 262144
    assert settings.max_request_body_size == 10485760
    assert set(loaded.sources) == set(Settings.model_fields)
    assert set(loaded.sources.values()) == {"default"}
    assert loaded.warnings == ()


def test_frozen_and_hermetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings cannot be changed, and the constructor does not look at the environment."""
    monkeypatch.setitem(os.environ, "PORT", "1")
    settings = Settings()
    assert settings.port == 8000
    with pytest.raises(ValidationError):
        settings.port = 5


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        ({"/runpod-volume", "/workspace"}, "/runpod-volume"),
        ({"/workspace"}, "/workspace"),
        (set(), "/data"),
    ],
)
def test_platform(existing: set[str], expected: str) -> None:
    """The platform decides about the data directory, and nothing else."""
    loaded = Settings.load({}, exists=lambda path: str(path) in existing)
    assert loaded.settings.data_dir == Path(expected)
    assert loaded.settings.models_dir == Path(expected, "models")
    assert loaded.sources["data_dir"] == "default"
    explicit = Settings.load({"DATA_DIR": "/mnt/x"}, exists=lambda path: True)
    assert explicit.settings.log_dir == Path("/mnt/x/logs")


def test_each_derived_path_can_be_set() -> None:
    """A derived default gives way to an explicit path."""
    settings = load({"MODELS_DIR": "/m", "DATA_DIR": "/d"}).settings
    assert settings.models_dir == Path("/m")
    assert settings.auth_keys_file == Path("/d/api_keys.txt")


def test_instance_id() -> None:
    """The host's name is the default, made safe; a given one is made safe too."""
    assert load({"HOSTNAME": "pod/../1"}).settings.instance_id == "pod-.-1"
    assert load({"HOSTNAME": "h", "INSTANCE_ID": "a b"}).settings.instance_id == "a-b"
    assert load().settings.instance_id == default_instance_id()
    assert default_instance_id("///") == "gateway"


def test_names_are_sanitised() -> None:
    """Names that become directories cannot leave their place."""
    settings = load({"LOG_NAME": "../../x", "WORKER_TYPE": "../y"}).settings
    assert (settings.log_name, settings.worker_type) == ("x", "y")
    assert load({"WORKER_TYPE": ".."}).settings.worker_type == ""
    assert "nothing is left" in str(refused({"LOG_NAME": "../.."}))


# -- precedence ----------------------------------------------------------------


def test_precedence(config: Any) -> None:
    """Command line, environment, file, default, in this order; each value knows its source."""
    path = config("port: 1\nport_health: 2\nctx: 3\n")
    loaded = load({"PORT": "10", "PORT_HEALTH": "20"}, path, {"port": 100})
    settings = loaded.settings
    assert (settings.port, settings.port_health, settings.ctx, settings.ngl) == (100, 20, 3, 99)
    assert loaded.sources["port"] == "command line"
    assert loaded.sources["port_health"] == "environment"
    assert loaded.sources["ctx"] == f"file {path}: ctx"
    assert loaded.sources["ngl"] == "default"


@given(st.integers(0, 65535), st.booleans(), st.text(alphabet="abc/.-", min_size=1))
def test_same_value_from_every_source(
    tmp_path_factory: pytest.TempPathFactory, port: int, flag: bool, text: str
) -> None:
    """One schema: a value means the same wherever it is written."""
    path = tmp_path_factory.mktemp("config") / "c.yaml"
    path.write_text(f"port_backend: {port}\nport: 0\nport_health: 0\nauth_enabled: {flag}\n"
                    f"model_name: '{text}'\n")  # fmt: skip
    values = {"port_backend": port, "port": 0, "port_health": 0, "auth_enabled": flag,
              "model_name": text}  # fmt: skip
    environ = {name.upper(): str(value) for name, value in values.items()}
    from_file = load({"HOSTNAME": "h"}, path).settings
    assert from_file == load({"HOSTNAME": "h", **environ}).settings
    assert from_file == load({"HOSTNAME": "h"}, None, dict(values)).settings
    assert from_file.port_backend == port
    assert from_file.auth_enabled is flag


def test_empty_variables_are_unset(config: Any) -> None:
    """Empty means not set, also for what must not be switched off by accident."""
    empty = {each.name: " " for each in describe_settings()} | {"GATEWAY_CONFIG": ""}
    assert load({**empty, "HOSTNAME": "h"}).settings == load({"HOSTNAME": "h"}).settings
    path = config("auth_enabled: false\nport:\nctx: ~\nngl: ''\n")
    loaded = load({"AUTH_ENABLED": ""}, path, {"port": None})
    assert loaded.settings.auth_enabled is False
    assert (loaded.settings.port, loaded.settings.ctx, loaded.settings.ngl) == (8000, 16384, 99)


def test_config_file_is_named_by_variable_or_argument(config: Any, tmp_path: Path) -> None:
    """GATEWAY_CONFIG names a file; the command line's wins."""
    path = config("port: 5\n")
    assert load({"GATEWAY_CONFIG": str(path)}).settings.port == 5
    other = tmp_path / "other.yaml"
    other.write_text("port: 6\n")
    assert load({"GATEWAY_CONFIG": str(path)}, other).settings.port == 6


# -- YAML ----------------------------------------------------------------------


def test_yaml_scalars_are_literal_text(config: Any) -> None:
    """YAML's own ideas about 'no' and dates do not get in the way."""
    settings = load(
        {}, config("worker_type: no\nlog_name: 2024-01-01\nqueue_timeout: 5\nport: '90'\n")
    ).settings
    assert (settings.worker_type, settings.log_name) == ("no", "2024-01-01")
    assert (settings.queue_timeout, settings.port) == (5.0, 90)


def test_yaml_lists(config: Any) -> None:
    """Lists may be lists or text with commas."""
    path = config(
        "cors_origins: ['https://a', 'https://b']\ntrusted_proxies: 10.0.0.0/8, ::1\n"
        "extra_args:\n  - --alias\n  - my model\n  - -b\n  - 512\nproxy_extra_paths: []\n"
    )
    settings = load({}, path).settings
    assert settings.cors_origins == ("https://a", "https://b")
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert settings.extra_args == ("--alias", "my model", "-b", "512")
    assert settings.proxy_extra_paths == ()


def test_empty_file(config: Any) -> None:
    """A file of comments sets nothing."""
    assert set(load({}, config("# nothing\n")).sources.values()) == {"default"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("port: 1\nport: 2\n", "set again in line 2"),
        ("prot: 1\n", "Did you mean port?"),
        ("PORT: 1\n", "Did you mean port?"),
        ("zzzzz: 1\n", "config docs"),
        ("? [a]\n: 1\n", "no such setting"),
        ("host: {a: hush}\n", "mapping"),
        ("port: [1, 2]\n", "not a whole number"),
        ("host: [a, b]\n", "Give a single value"),
        ("cors_origins: [[hush]]\n", "nested"),
        ("redis_url: !hush hush\n", "tag"),
        ("redis_url: *hush\n", "not valid YAML in line 1, column 12"),
        ("- hush\n", "does not hold settings"),
        ("hush", "does not hold settings"),
        ("redis_url: 'hush\n", "not valid YAML"),
        ("port: 1\n---\nport: 2\n", "not valid YAML"),
        ("a: \x01\n", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_yaml_problems(config: Any, text: str, expected: str) -> None:
    """What is wrong in a file is said with its place, and without its values."""
    path = config(text)
    error = refused({}, path)
    assert expected in str(error)
    assert str(path) in str(error)
    assert "hush" not in str(error).replace(str(path), "")


def test_unreadable_files(tmp_path: Path) -> None:
    """A file that is missing, a directory or not text is reported under what named it."""
    missing = refused({"GATEWAY_CONFIG": str(tmp_path / "no.yaml")})
    assert str(missing).startswith("GATEWAY_CONFIG (environment): ")
    assert "No such file" in str(missing)
    assert "--config (command line): " in str(refused({}, tmp_path))
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\xff")
    assert "UTF-8" in str(refused({}, binary))


# -- problems ------------------------------------------------------------------


def test_all_problems_together(config: Any) -> None:
    """Everything that is wrong, wherever it stands, is in one error."""
    path = config("unknown_key: 1\nqueue_timeout: soon\nport_health: 8080\n")
    error = refused(
        {"AUTH_ENABLED": "ture", "MAX_QUEUE_SIZE": "-1", "REDIS_URL": "ftp://hush"},
        path,
        {"ngl": "many", "nonsense": 1},
    )
    assert isinstance(error, StartupError)
    found = {(each.name, each.origin) for each in error.problems}
    assert found == {
        ("unknown_key", f"file {path}, line 1"),
        ("QUEUE_TIMEOUT", f"file {path}: queue_timeout"),
        ("AUTH_ENABLED", "environment"),
        ("MAX_QUEUE_SIZE", "environment"),
        ("REDIS_URL", "environment"),
        ("NGL", "command line"),
        ("nonsense", "command line"),
        ("PORT_HEALTH, PORT_BACKEND", f"file {path}: port_health, default"),
    }
    assert str(error).startswith("8 problems in the configuration:\n  ")
    assert "hush" not in str(error)


def test_a_single_problem_is_one_line() -> None:
    """One problem needs no heading."""
    assert str(refused({"CTX": "1e3"})) == (
        "CTX (environment): '1e3' is not a whole number. Write it in decimal digits only."
    )


def test_a_bad_data_dir_is_one_problem() -> None:
    """What follows from a refused value is not reported as well."""
    assert [each.name for each in refused({"DATA_DIR": "/a\x01"}).problems] == ["DATA_DIR"]


@pytest.mark.parametrize(
    ("variable", "low", "high"),
    [
        ("PORT", 0, 65535),
        ("PORT_HEALTH", 0, 65535),
        ("PORT_BACKEND", 0, 65535),
        ("MAX_CONCURRENT_REQUESTS", 1, None),
        ("MAX_REQUESTS_PER_MINUTE", 1, None),
        ("MAX_QUEUE_SIZE", 0, None),
        ("MAX_RESTARTS", 0, None),
        ("MAX_REQUEST_BODY_SIZE", 1, None),
        ("MAX_HEADERS", 1, None),
        ("RELAY_BUFFER_BYTES", 65536, None),
        ("NGL", -1, None),
        ("CTX", 0, None),
        ("THREADS", 0, None),
        ("LOG_KEEP", 1, None),
    ],
)
def test_bounds_of_whole_numbers(variable: str, low: int, high: int | None) -> None:
    """The last allowed number is taken, the next one is not."""
    assert getattr(load({variable: str(low)}).settings, variable.lower()) == low
    assert f"at least {low}" in str(refused({variable: str(low - 1)}))
    if high is not None:
        assert getattr(load({variable: str(high)}).settings, variable.lower()) == high
        assert f"at most {high}" in str(refused({variable: str(high + 1)}))


@pytest.mark.parametrize(
    "variable", [each.name for each in describe_settings() if each.type_text == "seconds"]
)
@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e300", "soon"])
def test_bounds_of_seconds(variable: str, text: str) -> None:
    """Every period is a positive, finite number."""
    assert refused({variable: text}).problems[0].name == variable
    assert getattr(load({variable: "0.5"}).settings, variable.lower()) == 0.5


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_no_text_breaks_the_loading(text: str) -> None:
    """Any text in every variable gives settings or a complete SettingsError, nothing else."""
    environ = {each.name: text for each in describe_settings()}
    problems: tuple[Problem, ...] = ()
    try:
        load(environ)
    except SettingsError as error:
        problems = error.problems
    assert all(each.wrong and each.cure.endswith((".", "?")) for each in problems)


def test_wrong_types_from_python() -> None:
    """A value of a wrong type is a problem too, not a traceback."""
    error = refused({}, None, {"host": 5, "auth": 7, "port": True, "engine": [1]})
    assert {each.name for each in error.problems} == {"HOST", "AUTH", "PORT", "ENGINE"}
    assert "it is not of the right kind" in str(error)


# -- settings that depend on each other ----------------------------------------


def test_ports_must_differ() -> None:
    """Two listeners cannot share a port; port 0 is never the same."""
    error = refused({"PORT": "9000", "PORT_HEALTH": "9000", "PORT_BACKEND": "9000"})
    assert [each.name for each in error.problems] == ["PORT, PORT_HEALTH, PORT_BACKEND"]
    load({"PORT": "0", "PORT_HEALTH": "0", "PORT_BACKEND": "0"})


def test_no_clash_with_the_default_of_a_refused_port() -> None:
    """A port that is refused anyway does not clash with anything."""
    error = refused({"PORT": "8001", "PORT_HEALTH": "x"})
    assert [each.name for each in error.problems] == ["PORT_HEALTH"]


def test_ports_that_are_not_opened_here_do_not_clash() -> None:
    """An endpoint replaces a port; an external engine's port is on another machine."""
    load({"GATEWAY_ENDPOINT": "unix:/run/x", "PORT_HEALTH": "8000"})
    load({"HEALTH_ENDPOINT": "tcp:9", "PORT_HEALTH": "8000"})
    load({"ENGINE": "external", "BACKEND_HOST": "10.0.0.5", "PORT_BACKEND": "8000"})
    assert "used twice" in str(refused({"ENGINE": "external", "PORT_BACKEND": "8000"}))


def test_external_engine_needs_a_port() -> None:
    """Nobody can choose a free port for an engine elsewhere."""
    error = refused({"ENGINE": "external", "PORT_BACKEND": "0"})
    assert error.problems[0].name == "ENGINE, PORT_BACKEND"


def test_mock_backend() -> None:
    """MOCK_BACKEND=true is the engine "mock"."""
    loaded = load({"MOCK_BACKEND": "true"})
    assert loaded.settings.engine == "mock"
    assert loaded.sources["engine"] == "environment"
    assert load({"MOCK_BACKEND": "on", "ENGINE": "MOCK"}).settings.engine == "mock"
    assert load({"MOCK_BACKEND": "false"}).settings.engine == "auto"
    assert "contradicts" in str(refused({"MOCK_BACKEND": "1", "ENGINE": "embedded"}))


# -- warnings ------------------------------------------------------------------


def test_deprecated_name(config: Any) -> None:
    """BACKEND_PORT still works, with a warning; PORT_BACKEND wins wherever it stands."""
    loaded = load({"BACKEND_PORT": "9000"})
    assert loaded.settings.port_backend == 9000
    assert "BACKEND_PORT (environment) is deprecated" in loaded.warnings[0]
    both = load({"BACKEND_PORT": "9000"}, config("port_backend: 9001\n"))
    assert both.settings.port_backend == 9001
    assert "ignored" in both.warnings[0]
    assert load({}, config("backend_port: 9002\n")).settings.port_backend == 9002
    assert refused({"BACKEND_PORT": "x"}).problems[0].name == "BACKEND_PORT"


def test_kubernetes_links_are_not_ours() -> None:
    """What Kubernetes sets for a service named "backend" is left alone."""
    loaded = load({"BACKEND_PORT": "tcp://10.0.0.1:80"})
    assert (loaded.settings.port_backend, loaded.warnings) == (8080, ())


def test_misspelt_variables() -> None:
    """A near miss is pointed at without its value; other variables are not our business."""
    loaded = load({"MAX_QUEUE_SIZES": "hush", "PATH": "/bin", "MAX_FOO": "1", "LANG": "C"})
    assert len(loaded.warnings) == 1
    assert "Did you mean MAX_QUEUE_SIZE?" in loaded.warnings[0]
    assert "hush" not in loaded.warnings[0]


def test_backend_host_without_external_engine() -> None:
    """A host that is not used is mentioned."""
    assert "BACKEND_HOST" in load({"BACKEND_HOST": "10.0.0.5"}).warnings[0]
    environ = {"BACKEND_HOST": "10.0.0.5", "ENGINE": "external", "BACKEND_API_KEY": "sk-x"}
    loaded = load(environ)
    assert loaded.warnings == ()
    assert loaded.settings.backend_api_key == SecretStr("sk-x")


# -- secrets -------------------------------------------------------------------


@given(st.text(alphabet="hush0123", min_size=9, max_size=20), st.booleans())
def test_secrets_are_never_shown(secret: str, well_formed: bool) -> None:
    """No secret is in what is shown, warned of or refused."""
    environ = {
        "BACKEND_API_KEY": secret if well_formed else f"{secret} {secret}",
        "REDIS_URL": f"redis://:{secret}@h/0" if well_formed else secret,
        "AUTH": f"memory:alice:{secret}",
        "EXTRA_ARGS": f"--hf-token {secret}" + ("" if well_formed else f" --api-key={secret}"),
        "MAX_QUEUE_SIZES": secret,
    }
    try:
        loaded = load(environ)
        said = repr((effective(loaded), loaded.warnings, loaded.settings.redis_url))
    except SettingsError as error:
        said = str(error) + repr(error)
    assert secret not in said
