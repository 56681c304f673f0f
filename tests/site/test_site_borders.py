"""What the site uses of MkDocs beyond its hooks: where it is gone, a test says its name."""

from __future__ import annotations

import logging

import pytest
from golden import Told
from kb.site import plugin
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure import pages
from mkdocs.structure.pages import Page


@pytest.mark.parametrize(
    ("owner", "name"), plugin._USED, ids=[f"{o.__name__}.{n}" for o, n in plugin._USED]
)
def test_mkdocs_has(owner: type, name: str, monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    assert hasattr(owner, name)
    monkeypatch.delattr(owner, name)
    monkeypatch.setattr(plugin, "version", lambda _: "1.2.3")
    with told.raises(PluginError):
        plugin.SitePlugin().on_config(MkDocsConfig())


def test_mkdocs_warns_of_a_page_under_its_modules_name() -> None:
    """A page with a warning is not kept, so that the next build warns again."""
    assert pages.log is logging.getLogger(Page.__module__)
