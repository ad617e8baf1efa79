"""
How Twisted finds the gateway: the plugin and the .tac file.
"""

from __future__ import annotations

import runpy

import pytest
from twisted.application.service import IService, IServiceMaker
from twisted.plugin import IPlugin
from zope.interface.verify import verifyObject

from tests.house.tree import ROOT


def service_maker() -> object:
    return runpy.run_path(str(ROOT / "twisted" / "plugins" / "llama_gateway.py"))["LlamaGateway"]


def test_the_plugin_makes_a_service() -> None:
    maker = service_maker()
    assert verifyObject(IServiceMaker, maker)
    assert verifyObject(IPlugin, maker)
    assert maker.tapname == "llama-gateway"
    assert "\n" not in maker.description


def test_the_plugin_names_the_module_of_options_and_make_service() -> None:
    maker = service_maker()
    assert maker.module == "twisted_llama.tap"
    assert callable(maker.options)
    assert callable(maker.makeService)


def test_the_tac_file_makes_an_application(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """
    With nothing but environment variables.
    """
    monkeypatch.setenv("ENGINE", "mock")
    monkeypatch.setenv("AUTH_ENABLED", "false")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    for name in ("PORT", "PORT_HEALTH", "PORT_BACKEND"):
        monkeypatch.setenv(name, "0")
    application = runpy.run_path(str(ROOT / "tac" / "llama_gateway.tac"))["application"]
    assert len(list(IService(application))) == 1
