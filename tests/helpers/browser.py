"""Headless Chromium over chromedriver, as plain requests of the W3C's WebDriver protocol."""

import base64
import json
import re
import subprocess
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to an element


class Browser:
    def __init__(self, width, height):
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        port = next(filter(None, (re.search(r"successfully on port (\d+)", line) for line in self.driver.stdout)))[1]
        self.address = f"http://127.0.0.1:{port}/session"
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"]
        options = {"args": [*arguments, f"--window-size={width},{height}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self.send("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self.address += f"/{session['sessionId']}"

    def send(self, method, path, content=None):
        """One command; returns its value."""
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.address + path, body, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["value"]

    def open(self, address):
        self.send("POST", "/url", {"url": address})

    def run(self, script):
        """What a function of this body returns."""
        return self.send("POST", "/execute/sync", {"script": script, "args": []})

    def find(self, selector):
        found = self.send("POST", "/element", {"using": "css selector", "value": selector})
        return f"/element/{found[ELEMENT]}"

    def text(self, selector):
        return self.send("GET", f"{self.find(selector)}/text")

    def click(self, selector):
        self.send("POST", f"{self.find(selector)}/click", {})

    def keys(self, selector, text):
        self.send("POST", f"{self.find(selector)}/value", {"text": text})

    def screenshot(self, selector=None):
        """Of an element or of the window; PNG."""
        return base64.b64decode(self.send("GET", f"{self.find(selector) if selector else ''}/screenshot"))

    def messages(self):
        """What the page and its loading had to say on the console."""
        return [entry["message"] for entry in self.send("POST", "/se/log", {"type": "browser"})]

    def close(self):
        try:
            self.send("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait()
            self.driver.stdout.close()
