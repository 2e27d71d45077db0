"""The page on endpoints against the code."""

import re
from pathlib import Path

from aftertune.models.endpoint import http, model
from aftertune.models.endpoint.budget import read_prices
from aftertune.models.endpoint.providers import PROVIDERS, SERVER

PAGE = (Path(__file__).parents[2] / "docs" / "endpoints.md").read_text(encoding="utf-8")


def test_the_table_of_providers_is_the_codes():
    rows = {
        name: re.findall(r"`([^`]+)`", rest)
        for name, rest in re.findall(r"^\| `(\w+):[A-Z]+` \|(.*)\|$", PAGE, re.MULTILINE)
    }
    assert set(rows) == set(PROVIDERS)
    for name, provider in PROVIDERS.items():
        parts = [provider.url, provider.url_variable, provider.path, *provider.keys]
        assert sorted(rows[name]) == sorted(filter(None, parts))
    assert f"`{SERVER.keys[0]}`" in PAGE


def test_the_figures_of_the_page_are_the_codes():
    assert model._HOPELESS == 8
    assert "the first eight calls" in PAGE
    assert http.MOST == 256
    assert "up to `engine.connections` (256)" in PAGE


def test_the_price_file_of_the_page_can_be_read(tmp_path):
    text = re.search(r"```yaml file=prices.yaml\n(currency.*?)```", PAGE, re.DOTALL)[1]
    (tmp_path / "prices.yaml").write_text(text)
    assert len(read_prices(tmp_path / "prices.yaml").models) == 2
