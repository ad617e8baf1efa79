"""
C{llama-gateway keys}.
"""

from __future__ import annotations

import argparse
import io
import re
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from attrs import frozen

from twisted_llama.auth.keyfile import KeyEntry, parse_keyfile
from twisted_llama.cli import keys

NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
KEY = re.compile(r"sk-[A-Za-z0-9_-]{43}")


@frozen
class Done:
    """What a run left behind."""

    status: int
    out: str
    err: str


class Shop:
    """A key file and the command that works on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {"AUTH_KEYS_FILE": str(path)}

    def run(self, *argv: str) -> Done:
        """Run C{llama-gateway keys} with these arguments."""
        parser = argparse.ArgumentParser()
        keys.add_arguments(parser)
        out, err = io.StringIO(), io.StringIO()
        try:
            args = parser.parse_args(argv)
        except SystemExit as ended:
            return Done(int(ended.code or 0), "", "")
        status = keys.run(args, out, err, environ=self.environ, wall_clock=lambda: NOW)
        return Done(status, out.getvalue(), err.getvalue())

    def entries(self) -> list[KeyEntry]:
        """What the file says."""
        return list(parse_keyfile(self.path.read_text()).entries)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """No key yet."""
    return Shop(tmp_path / "data" / "api_keys.txt")


def test_generate_shows_the_key_once(shop: Shop) -> None:
    """The file then lets this very key in, for its owner's eyes only."""
    done = shop.run("generate", "--name", "alice", "--rate-limit", "60", "--expires", "30d")
    assert (done.status, done.err) == (0, "")
    (secret,) = KEY.findall(done.out)
    assert "alice" in done.out
    assert str(shop.path) in done.out
    (entry,) = shop.entries()
    assert entry.digest == sha256(secret.encode()).digest()
    assert (entry.key_id, entry.requests_per_minute) == ("alice", 60)
    assert entry.expires == NOW + 30 * 86400
    assert shop.path.stat().st_mode & 0o777 == 0o600


def test_quiet_prints_the_key_alone(shop: Shop) -> None:
    """For C{KEY=$(llama-gateway keys generate --quiet)}."""
    done = shop.run("generate", "--quiet")
    assert KEY.fullmatch(done.out.removesuffix("\n"))
    assert [entry.key_id for entry in shop.entries()] == ["default"]


def test_two_keys_differ(shop: Shop) -> None:
    """They are random."""
    assert shop.run("generate", "a", "--quiet").out != shop.run("generate", "b", "--quiet").out


def test_hashed_keeps_the_secret_out_of_the_file(shop: Shop) -> None:
    """Only its digest is written, also when rotated."""
    for command in ("generate", "rotate"):
        secret = shop.run(command, "alice", "--quiet", "--hashed").out.strip()
        assert secret not in shop.path.read_text()
        assert shop.entries()[0].digest == sha256(secret.encode()).digest()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        ["--quiet", "--name", "alice", "--rate-limit", "7", "--expires", "12h"],
        ["--expires=2026-06-01T12:00:00+00:00", "--name=alice", "--rate-limit=7", "--quiet"],
    ],
)
def test_options_work_before_and_after_the_command(
    shop: Shop, options: list[str], before: bool, tmp_path: Path
) -> None:
    """C{--file} too."""
    shop.path = tmp_path / "other.txt"
    options = [*options, "--file", str(shop.path)]
    argv = [*options, "generate"] if before else ["generate", *options]
    assert KEY.fullmatch(shop.run(*argv).out.strip())
    (entry,) = shop.entries()
    assert (entry.key_id, entry.requests_per_minute) == ("alice", 7)
    assert entry.expires == NOW + 12 * 3600


def test_options_on_both_sides_add_up(shop: Shop) -> None:
    """None is lost to a default of the other side."""
    assert shop.run("--rate-limit", "7", "generate", "--name", "alice").status == 0
    assert shop.run("--name", "bob", "generate", "--rate-limit", "8").status == 0
    assert [entry.requests_per_minute for entry in shop.entries()] == [7, 8]


def test_generate_refuses_an_id_that_is_there(shop: Shop) -> None:
    """And names rotate; the file stays."""
    shop.run("generate", "alice")
    before = shop.path.read_bytes()
    done = shop.run("generate", "alice")
    assert (done.status, done.out) == (1, "")
    assert "rotate alice" in done.err
    assert done.err.count("\n") == 1
    assert shop.path.read_bytes() == before


def test_list_is_a_table_without_secrets(shop: Shop) -> None:
    """With rate, expiry and whether it has passed."""
    shop.path.parent.mkdir()
    shop.path.write_text(
        "# team\nalice:sk-0123456789abcdef:60:2026-05-31\n"
        "bob-the-builder:sk-fedcba9876543210\nbad:line\ncarol:sk-ccccccccccccccccc::2027-01-01\n"
    )
    done = shop.run("list")
    assert done.status == 0
    assert [line.split() for line in done.out.splitlines()] == [
        ["KEY", "ID", "RATE/MIN", "EXPIRES", "STATUS"],
        ["alice", "60", "2026-05-31T00:00:00Z", "expired"],
        ["bob-the-builder", "default", "never", "active"],
        ["carol", "default", "2027-01-01T00:00:00Z", "active"],
        ["3", "key(s)", "configured"],
    ]
    assert "sk-" not in done.out + done.err
    assert "line 4: the api key" in done.err
    assert "1 key(s) configured" in shop.run("list", "--name", "carol").out


def test_list_without_a_file(shop: Shop) -> None:
    """No keys, and how to get one."""
    done = shop.run("list")
    assert (done.status, done.out) == (0, "0 key(s) configured\n")
    assert "keys generate" in done.err


def test_rotate_keeps_rate_and_expiry(shop: Shop) -> None:
    """The old key ends at once, comments stay."""
    shop.path.parent.mkdir()
    shop.path.write_text("# team\nalice:sk-0123456789abcdef:60:2027-01-01\n# end\n")
    secret = shop.run("--quiet", "rotate", "alice").out.strip()
    assert shop.path.read_text() == f"# team\nalice:{secret}:60:2027-01-01\n# end\n"


@pytest.mark.parametrize(("options", "seconds"), [([], 24 * 3600), (["30m"], 1800)])
def test_rotate_with_overlap(shop: Shop, options: list[str], seconds: int) -> None:
    """The old key stays valid for a while."""
    shop.run("generate", "alice", "--rate-limit", "5")
    shop.run("rotate", "alice", "--keep-old", *options)
    old, new = shop.entries()
    assert (old.key_id, old.expires) == ("alice", NOW + seconds)
    assert (new.key_id, new.expires) == ("alice", None)
    assert old.requests_per_minute == new.requests_per_minute == 5


def test_rotating_an_expired_key_says_so(shop: Shop) -> None:
    """Its expiry stays unless another is given."""
    shop.path.parent.mkdir()
    shop.path.write_text("alice:sk-0123456789abcdef::2026-01-01\n")
    done = shop.run("rotate", "alice")
    assert done.status == 0
    assert "--expires" in done.err
    done = shop.run("rotate", "alice", "--expires", "1d")
    assert (done.status, done.err) == (0, "")
    assert shop.entries()[0].expires == NOW + 86400


def test_remove(shop: Shop) -> None:
    """By option or by place; quietly if asked."""
    for name in ("alice", "bob", "carol"):
        shop.run("generate", name)
    assert "alice" in shop.run("remove", "alice").out
    assert shop.run("--quiet", "--name", "bob", "remove") == Done(0, "", "")
    assert [entry.key_id for entry in shop.entries()] == ["carol"]


@pytest.mark.parametrize("command", ["rotate", "remove"])
def test_a_key_that_is_not_there(shop: Shop, command: str) -> None:
    """Refused, with the command that shows those that are."""
    done = shop.run(command, "nobody")
    assert (done.status, done.out) == (1, "")
    assert "keys list" in done.err


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["explode"],
        ["rotate"],
        ["remove"],
        ["generate", "--unknown"],
        ["generate", "alice", "--name", "bob"],
        ["list", "--rate-limit", "5"],
        ["--expires", "5d", "remove", "alice"],
    ],
)
def test_wrong_usage_is_2(shop: Shop, argv: list[str]) -> None:
    """And changes nothing."""
    assert shop.run(*argv).status == 2
    assert not shop.path.exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--name", "al ice"], "A name is"),
        (["--name", ""], "A name is"),
        (["--rate-limit", "0"], "at least 1"),
        (["--rate-limit", "many"], "at least 1"),
        (["--expires", "soon"], "30d, 12h"),
        (["--expires", "0d"], "30d, 12h"),
        (["--expires", "2026-05-31"], "has passed"),
        (["--expires", "99999999w"], "too long"),
        (["--file", ""], "--file is empty"),
    ],
)
def test_a_bad_value_is_1(shop: Shop, argv: list[str], words: str) -> None:
    """With one line that says what to do."""
    done = shop.run("generate", *argv)
    assert (done.status, done.out) == (1, "")
    assert words in done.err
    assert done.err.count("\n") == 1
    assert not shop.path.exists()


def test_a_bad_overlap_is_1(shop: Shop) -> None:
    """Such as a name in its place."""
    shop.run("generate", "alice")
    done = shop.run("rotate", "--name", "alice", "--keep-old", "bob")
    assert done.status == 1
    assert "--keep-old takes a duration" in done.err


def test_a_file_that_cannot_be_written_is_1(shop: Shop) -> None:
    """One line, no traceback."""
    shop.path.mkdir(parents=True)
    done = shop.run("generate")
    assert done.status == 1
    assert "not a regular file" in done.err
    assert done.err.count("\n") == 1


def test_the_file_of_the_settings(shop: Shop, tmp_path: Path) -> None:
    """C{$DATA_DIR/api_keys.txt} where nothing names another."""
    shop.environ = {"DATA_DIR": str(tmp_path)}
    assert shop.run("generate", "--quiet").status == 0
    assert (tmp_path / "api_keys.txt").exists()


def test_settings_that_are_wrong_elsewhere(shop: Shop, tmp_path: Path) -> None:
    """They matter only where they are asked for the file."""
    shop.environ = {"PORT": "many", "AUTH_KEYS_FILE": str(shop.path)}
    assert shop.run("generate").status == 0
    shop.environ = {"PORT": "many", "DATA_DIR": str(tmp_path)}
    done = shop.run("generate")
    assert done.status == 1
    assert "--file" in done.err
    assert done.err.count("\n") == 1


def test_the_process_environment_is_the_default(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As C{main} calls it."""
    monkeypatch.setenv("AUTH_KEYS_FILE", str(shop.path))
    parser = argparse.ArgumentParser()
    keys.add_arguments(parser)
    out = io.StringIO()
    assert keys.run(parser.parse_args(["generate", "--quiet"]), out, io.StringIO()) == 0
    assert len(shop.entries()) == 1
