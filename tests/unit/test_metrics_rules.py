"""The alert rules: accepted and tested by promtool, told in the docs, made of metrics that exist."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "config" / "deployment" / "prometheus-rules.yml"
TESTS = ROOT / "tests" / "unit" / "prometheus_rules_test.yml"
DOCS = (ROOT / "docs" / "operations" / "metrics.md").read_text()
ALERTS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
DOCUMENTED = set(re.findall(r"^\| `(wallet_\w+)", DOCS, re.MULTILINE))


@pytest.mark.parametrize("command", [("check", "rules", str(RULES)), ("test", "rules", str(TESTS))])
def test_promtool_accepts_them(command: tuple[str, ...]) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian: the package prometheus)")
    done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_is_made_of_documented_metrics(alert: dict[str, Any]) -> None:
    used = set(re.findall(r"wallet_\w+", alert["expr"]))
    assert used <= DOCUMENTED


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_is_documented_and_has_a_test_in_which_it_comes(alert: dict[str, Any]) -> None:
    assert f"`{alert['alert']}`" in DOCS
    assert re.search(rf"alertname: {alert['alert']}\n\s+exp_alerts:", TESTS.read_text())
