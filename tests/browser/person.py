"""What a person does at a browser, and what they wait for."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.waiting import eventually

PATIENCE = 30
MOST_STOPS = 60


class Person:
    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver = driver
        self.address = address

    def show_pass(self, session: str) -> None:
        """Be logged in already."""
        self.tell_browser("Network.clearBrowserCookies")
        self.tell_browser("Network.setCookie", name="sessionid", value=session, url=self.address)

    def open(self, path: str) -> "Person":
        self.driver.get(self.address + path)
        return self

    def find(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def click(self, css: str) -> "Person":
        self.find(css).click()
        return self

    def press(self, words: str) -> "Person":
        """Click the button or link that says so."""
        path = f"//*[self::a or self::button or self::summary][starts-with(normalize-space(.), '{words}')]"
        self.waits(lambda: self._shown(path), f"{words!r} to press").click()
        return self

    def _shown(self, path: str) -> WebElement | None:
        return next((each for each in self.driver.find_elements(By.XPATH, path) if each.is_displayed()), None)

    def write(self, css: str, text: str) -> "Person":
        field = self.find(css)
        field.clear()
        field.send_keys(text)
        return self

    def sees(self, words: str, *, css: str = "body", within: float = PATIENCE) -> None:
        """Wait until the page, or a part of it, says so."""
        try:
            eventually(lambda: words in self.text(css), within=within, what=f"{words!r} to appear")
        except AssertionError as error:
            raise AssertionError(f"{error}; it says: {self.text(css)[:1500]}") from None

    def text(self, css: str = "body") -> str:
        try:
            return self.find(css).text
        except (NoSuchElementException, StaleElementReferenceException):
            return ""

    def waits(self, condition: Callable[[], Any], what: str, *, within: float = PATIENCE) -> Any:
        return eventually(condition, within=within, what=what)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def tell_browser(self, command: str, **values: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, values)

    def prefers(self, scheme: str, *, media: str = "") -> "Person":
        """Have the browser ask for light or dark pages, also of the one that is open; on paper, if media is print."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.tell_browser("Emulation.setEmulatedMedia", media=media, features=features)
        return self

    def is_as_big_as(self, width: int, height: int = 1000) -> "Person":
        """Give the window a size, in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.tell_browser("Emulation.setDeviceMetricsOverride", **size)
        self.waits(lambda: self.run("return [innerWidth, innerHeight]") == [width, height], "the new size")
        return self

    def strike(self, *keys: str) -> "Person":
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()
        return self

    def tab_to(self, words: str) -> "Person":
        """Press Tab until what has the focus, and shows it, says so."""
        passed = []
        for _ in range(MOST_STOPS):
            self.strike(Keys.TAB)
            passed.append(self.driver.switch_to.active_element.text)
            if passed[-1].startswith(words):
                assert self.run("return getComputedStyle(document.activeElement).outlineStyle") != "none", words
                return self
        raise AssertionError(f"no way by Tab to {words!r}: {passed}")

    def complaints(self) -> list[str]:
        """What the console holds against the page since it was last read."""
        entries = [entry for entry in self.driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    def asked_hosts(self) -> set[str]:
        """The hosts that requests since the last look went to."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        return {urlsplit(url).netloc for url in sent if urlsplit(url).scheme in ("http", "https", "ws", "wss")}
