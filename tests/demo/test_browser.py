"""The demo in headless Chromium: choose, open, read, accept, fire again; by keyboard, and narrow.

Needs ``chromium`` and ``chromedriver`` (Debian: packages chromium and chromium-driver). Where they
are missing the tests are skipped, except in CI (``CI=true``), where that is a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from cds_service.demo.app import create_demo
from tests.support.processes import free_port, running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER) and os.environ.get("CI") != "true",
        reason="chromium and chromedriver are not installed",
    ),
]
PICTURES = os.environ.get("PICTURES")  # a directory for screenshots


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    port = free_port()
    with running(create_demo(f"http://127.0.0.1:{port}"), port) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    assert CHROMIUM, "chromium is not installed"
    assert DRIVER, "chromedriver is not installed"
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


def show(browser: webdriver.Chrome, width: int, height: int, name: str) -> None:
    """Set the window, and keep a picture if asked to."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )
    if PICTURES:
        browser.save_screenshot(str(Path(PICTURES) / f"{name}.png"))


def headline(browser: webdriver.Chrome, card: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, f"#{card} h2").text


def leave(browser: webdriver.Chrome, act: Callable[[], None]) -> None:
    """Do what leads to another page, and wait until that one is there."""
    browser.execute_script("window.isLeft = false")
    act()
    arrived = "return window.isLeft === undefined && document.readyState === 'complete'"
    wait = WebDriverWait(browser, 10, 0.02, ignored_exceptions=[WebDriverException])
    wait.until(lambda _: browser.execute_script(arrived))


def press(browser: webdriver.Chrome, label: str) -> None:
    leave(browser, browser.find_element(By.XPATH, f"//button[normalize-space()='{label}']").click)


def test_choose_open_read_accept_and_fire_again(browser: webdriver.Chrome, demo: str) -> None:
    browser.get(demo)
    show(browser, 1000, 1300, "choose")
    smoker = browser.find_element(By.LINK_TEXT, "Inhibited letdown, a smoker, with a pacifier")
    leave(browser, smoker.click)
    assert browser.find_elements(By.CSS_SELECTOR, "svg .bar")
    show(browser, 1000, 1300, "chart")

    leave(browser, browser.find_element(By.ID, "open-encounter").click)
    assert "Inhibited letdown likely: 62 mL" in headline(browser, "inhibited-letdown")
    detail = browser.find_element(By.CSS_SELECTOR, "#inhibited-letdown .detail")
    first, *_ = detail.find_elements(By.TAG_NAME, "ul")  # her numbers
    assert "Longest gap: 7 h 40 min (usual 3 h)" in first.text
    indicator = browser.find_element(By.CSS_SELECTOR, "#inhibited-letdown .indicator")
    assert indicator.text.lower() == "warning"
    show(browser, 1000, 1400, "cards")

    press(browser, "Order a lactation consultation")
    notice = browser.find_element(By.CSS_SELECTOR, ".notice").text
    assert "Written to her record: ServiceRequest/" in notice
    assert (
        "Order a lactation consultation"
        not in browser.find_element(By.ID, "inhibited-letdown").text
    )

    leave(browser, browser.find_element(By.LINK_TEXT, "Her chart").click)
    assert "Ask for a lactation consultant" in browser.find_element(By.TAG_NAME, "main").text


def test_the_keyboard_is_enough(browser: webdriver.Chrome, demo: str) -> None:
    browser.get(f"{demo}/mothers/data-missing")

    def tab_to(text: str) -> None:
        for _ in range(40):
            browser.switch_to.active_element.send_keys(Keys.TAB)
            if browser.switch_to.active_element.text.strip() == text:
                return
        raise AssertionError(f"{text} cannot be reached by the keyboard")

    tab_to("Open her encounter")
    leave(browser, lambda: browser.switch_to.active_element.send_keys(Keys.ENTER))
    tab_to("Order a lactation consultation")
    leave(browser, lambda: browser.switch_to.active_element.send_keys(Keys.ENTER))
    assert "Written to her record" in browser.find_element(By.CSS_SELECTOR, ".notice").text


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/mothers/inhibited-letdown-smoker",
        "/mothers/inhibited-letdown-smoker/encounter",
        "/mothers/medicines/encounter",
        "/handouts/",
        "/handouts/hands-on-pumping+skin-to-skin-watched",
    ],
)
def test_nothing_sticks_out_at_390_pixels(browser: webdriver.Chrome, demo: str, path: str) -> None:
    browser.get(demo + path)
    show(browser, 390, 1600, "narrow" + path.replace("/", "-"))
    assert browser.find_element(By.TAG_NAME, "h1").text
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= 390
    show(browser, 1000, 1000, "wide" + path.replace("/", "-"))


@pytest.mark.parametrize(
    "path", ["/mothers/inhibited-letdown-smoker/encounter", "/handouts/relaxation"]
)
def test_no_error_reaches_the_console(browser: webdriver.Chrome, demo: str, path: str) -> None:
    browser.get(demo + path)
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
