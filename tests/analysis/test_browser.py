"""The pages in a real browser, of a study whose every name tries to inject something."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import alert_is_present

import analysis.notebook
import analysis.trial

if TYPE_CHECKING:
    from conftest import StudyFolder

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,2400",
)


@pytest.fixture(scope="module")
def pages(hostile_study: StudyFolder) -> Path:
    """The folder of study.html and trial-00000.html."""
    assert analysis.notebook.main([str(hostile_study.path)]) == 0
    assert analysis.trial.main([str(hostile_study.path), "0"]) == 0
    return hostile_study.path / "report"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    browser, service = next(filter(None, map(shutil.which, BROWSERS)), None), shutil.which("chromedriver")
    if browser is None or service is None:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    yield started
    started.quit()


def requests(driver: webdriver.Chrome) -> set[str]:
    """What the browser has fetched since this was last asked, but for pictures in the page itself."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]
    return {url for url in sent if not url.startswith("data:")}


@pytest.mark.parametrize("name", ["study.html", "trial-00000.html"])
def test_nothing_is_injected_fetched_or_complained_of(driver: webdriver.Chrome, pages: Path, name: str) -> None:
    requests(driver)
    driver.get((pages / name).as_uri())
    assert not alert_is_present()(driver)
    assert requests(driver) == {(pages / name).as_uri()}
    assert driver.get_log("browser") == []
    text = driver.find_element(By.TAG_NAME, "body").text
    assert "<script>alert(1)</script></script>]]><img" in text
    assert r"$\input{}$ [a](http://x.invalid/2)" in text
    assert "{{ 7*7 }}" in text
    assert driver.find_elements(By.CSS_SELECTOR, "[src*='x.invalid'], [href*='x.invalid'], [onerror]") == []
    pictures = driver.find_elements(By.TAG_NAME, "img")
    assert pictures
    assert all(picture.get_attribute("alt") is not None for picture in pictures)
    assert all(int(picture.get_property("naturalWidth")) > 0 for picture in pictures)  # all are decoded
    fetched = re.findall(
        r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=[\"']?([^\"'>]{5})", (pages / name).read_text()
    )
    assert set(fetched) <= {"data:"}


def test_the_policy_lets_no_other_script_run_and_nothing_be_fetched(
    driver: webdriver.Chrome, pages: Path, tmp_path: Path
) -> None:
    content = (pages / "study.html").read_text(encoding="utf-8")
    leak = '<script>document.title = "ran"</script><img src="http://127.0.0.1:9/leak.png" onerror="document.title = 1">'
    (tmp_path / "leaky.html").write_text(content.replace("</main>", f"{leak}</main>"), encoding="utf-8")
    driver.get((tmp_path / "leaky.html").as_uri())
    assert driver.title not in ("ran", "1")
    said = " ".join(entry["message"] for entry in driver.get_log("browser"))
    assert "script-src" in said
    assert "img-src" in said
    assert driver.find_elements(By.CSS_SELECTOR, ".pd-explorer[data-ready]")  # its own script still runs


@pytest.fixture
def explorer(driver: webdriver.Chrome, pages: Path) -> WebElement:
    driver.get((pages / "study.html").as_uri())
    found = driver.find_element(By.CLASS_NAME, "pd-explorer")
    driver.execute_script("arguments[0].scrollIntoView()", found)
    return found


def mark(explorer: WebElement, trial: int) -> WebElement:
    return explorer.find_element(By.CSS_SELECTOR, f"[data-trial='{trial}'] > path:last-child")


def said(explorer: WebElement, name: str) -> str:
    return str(explorer.find_element(By.CLASS_NAME, name).get_property("textContent"))


def test_hovering_over_a_trial_shows_its_recipe_and_scores(driver: webdriver.Chrome, explorer: WebElement) -> None:
    tip = explorer.find_element(By.CLASS_NAME, "tip")
    assert not tip.is_displayed()
    ActionChains(driver).move_to_element(mark(explorer, 0)).perform()
    assert tip.is_displayed()
    assert "Trial 0 · FD · Pareto front" in tip.text
    assert "Retrieval mAP (%): 40\n" in tip.text
    assert "Feature distillation (FD)." in tip.text
    ActionChains(driver).move_to_element(mark(explorer, 6)).perform()
    assert "Trial 6 · <script>alert(1)</script>" in tip.text
    ActionChains(driver).move_to_element(explorer.find_element(By.CLASS_NAME, "panel")).perform()
    assert not tip.is_displayed()
    assert driver.get_log("browser") == []


def test_a_click_shows_the_languages_of_a_recipe(driver: webdriver.Chrome, explorer: WebElement) -> None:
    ActionChains(driver).move_to_element(mark(explorer, 0)).click().perform()
    panel = explorer.find_element(By.CLASS_NAME, "panel")
    assert panel.find_element(By.TAG_NAME, "h3").text == "Trial 0 · FD · Pareto front"
    scores, languages = panel.find_elements(By.TAG_NAME, "table")
    assert scores.find_elements(By.TAG_NAME, "tr")[1].text == "Retrieval mAP (%) 40 38 60"  # validation, test, teacher
    rows = languages.find_elements(By.CSS_SELECTOR, "tbody tr")
    assert [row.find_element(By.TAG_NAME, "th").text[:8] for row in rows] == ["en", r"$\input{", "<script>"]
    assert all("40 / 60" in row.text for row in rows)
    bar, track = (rows[0].find_element(By.CLASS_NAME, name).size["width"] for name in ("fill", "track"))
    assert bar == pytest.approx(track * 40 / 60, abs=1)
    assert driver.get_log("browser") == []


def test_keys_step_through_the_trials_and_open_one(driver: webdriver.Chrome, explorer: WebElement) -> None:
    plot = explorer.find_element(By.CSS_SELECTOR, ".plot > svg")
    plot.send_keys(Keys.HOME)
    seen = [said(explorer, "live")]
    for _ in range(5):
        plot.send_keys(Keys.ARROW_RIGHT)
        seen.append(said(explorer, "live"))
    # By retrieval: trials 6, 3, 2, 1, 0, and at the end it stays.
    assert [text.split(" · ")[0] for text in seen] == [f"Trial {number}" for number in (6, 3, 2, 1, 0, 0)]
    assert "English-control distillation" in seen[3]
    plot.send_keys(Keys.ARROW_DOWN)  # the next more even one
    assert said(explorer, "live").startswith("Trial 6")
    plot.send_keys(Keys.END, Keys.ENTER)
    assert explorer.find_element(By.CSS_SELECTOR, ".panel h3").text == "Trial 0 · FD · Pareto front"
    assert said(explorer, "live") == "Opened trial 0."


def test_a_strategy_can_be_left_out(driver: webdriver.Chrome, explorer: WebElement) -> None:
    box = explorer.find_element(By.CSS_SELECTOR, "input[value='fd']")
    box.click()
    assert {number: mark(explorer, number).is_displayed() for number in (0, 1, 2, 3, 6)} == {
        0: False,
        1: True,
        2: True,
        3: False,
        6: True,
    }
    plot = explorer.find_element(By.CSS_SELECTOR, ".plot > svg")
    plot.send_keys(Keys.END)
    assert said(explorer, "live").startswith("Trial 1 ·")
    box.click()
    explorer.find_element(By.CSS_SELECTOR, "input[value='stopped']").click()
    assert mark(explorer, 0).is_displayed()
    assert not mark(explorer, 3).is_displayed()
