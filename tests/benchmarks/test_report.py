"""The page that benchmark.py --html writes, opened in a real browser."""

import io
import json
import re
import shutil
import time

import numpy as np
import pytest
from helpers.browser import ELEMENT, Browser
from PIL import Image

import benchmark
from vfi import pictures
from vfi.benchmarks import methods, report
from vfi.benchmarks.own import OWN
from vfi.benchmarks.results import Settings
from vfi.benchmarks.triplets import Triplet

NAMES = ("apple", "<b>pear<b> & 'plum'", "quince")  # the second contains HTML
HEIGHT, WIDTH = 60, 80
EDGE = 5  # pixels on each side that the line between the two pictures, with its shadow, may cover


@pytest.fixture(scope="session")
def triplets(noise, tmp_path_factory):
    folder = tmp_path_factory.mktemp("triplets")
    for seed, name in enumerate(NAMES):
        still = np.rint(255 * noise(HEIGHT, WIDTH + 8, seed=seed)).astype(np.uint8)
        (folder / name).mkdir()
        for number, start in ((1, 0), (2, 4), (3, 8)):
            path = folder / name / f"im{number}.png"
            pictures.write(path, pictures.Picture(still[:, start : start + WIDTH]))
    return folder


@pytest.fixture(scope="session")
def made(triplets, tmp_path_factory):
    """A page with both baselines; returns its folder."""
    folder = tmp_path_factory.mktemp("report") / "page"
    words = ["--triplets", str(triplets), "--method", "average", "minterpolate", "--html", str(folder), "--quiet"]
    assert benchmark.main(words) == 0
    return folder


@pytest.fixture(scope="session")
def expected(triplets):
    """For each scene, what the page must show: the average, minterpolate's result, and the truth."""
    scenes = []
    for triplet in OWN.find(triplets):
        one, two, truth = triplet.read()
        made = [methods.to_8_bits(method(one, two)) for method in (methods.average, methods.minterpolate)]
        scenes.append((*made, truth))
    return scenes


@pytest.fixture(scope="session")
def chromium():
    if not (shutil.which("chromedriver") and (shutil.which("chromium") or shutil.which("google-chrome"))):
        pytest.skip("needs Chromium and chromedriver (on Debian: apt-get install chromium chromium-driver)")
    browser = Browser(1000, 1200)
    yield browser
    browser.close()


@pytest.fixture
def page(chromium, made):
    chromium.open((made / "index.html").as_uri())
    return chromium


def shown(page):
    """Waits until the images are loaded; returns the pixels of the picture on the page."""
    for _ in range(100):
        if page.run("return [...document.querySelectorAll('#stage img')].every((image) => image.complete)"):
            break
        time.sleep(0.02)
    return np.asarray(Image.open(io.BytesIO(page.screenshot("#stage"))).convert("RGB"))


def test_page_needs_no_network(page, made):
    content = (made / "index.html").read_text()
    assert not re.search(
        r"https?:|//", re.sub(r"<script id=\"data\".*?</script>|^ *// .*$", "", content, flags=re.M | re.S)
    )
    shown(page)
    assert page.messages() == []
    assert page.run("return performance.getEntriesByType('resource').every(({name}) => name.startsWith('file:'))")


def test_tables(page):
    text = page.text("#tables")
    assert "own triplets, 3 scenes" in text
    for line in ("PSNR dB SSIM uniform SSIM Gaussian SSIM MATLAB IE RMS IE mean", r"average( -?[\d.]+){6}"):
        assert re.search(f"^{line}$", text, re.M)


def test_html_in_scene_names_is_escaped(page):
    names = [page.text(f"#scenes li:nth-child({number}) span") for number in (1, 2, 3)]
    assert sorted(names) == sorted(name for name in NAMES)


def wipe_to(page, percent):
    """Moves the slider by keys, as a user does: to its start, then to the right in steps of one."""
    page.keys("#wipe", "\ue011" + percent * "\ue014")  # home, right
    assert page.run("return document.getElementById('wipe').value") == str(percent)


def test_slider(page, expected):
    average, _, truth = expected[0]
    wipe_to(page, 0)
    assert np.array_equal(shown(page)[:, EDGE:], truth[:, EDGE:])
    wipe_to(page, 25)
    picture, edge = shown(page), WIDTH // 4
    assert np.array_equal(picture[:, : edge - EDGE], average[:, : edge - EDGE])
    assert np.array_equal(picture[:, edge + EDGE :], truth[:, edge + EDGE :])
    assert (picture[:, edge - 1 : edge + 1] == 255).all()
    page.keys("#wipe", "\ue010")  # end
    assert np.array_equal(shown(page)[:, :-EDGE], average[:, :-EDGE])


def test_dragging_in_the_picture_moves_the_slider(page, expected):
    average = expected[0][0]
    element = page.find("#stage").rpartition("/")[2]
    origin = {ELEMENT: element}
    moves = [
        {"type": "pointerMove", "origin": origin, "x": 0, "y": 0},
        {"type": "pointerDown", "button": 0},
        {"type": "pointerMove", "origin": origin, "x": WIDTH // 4, "y": 5},
        {"type": "pointerUp", "button": 0},
    ]
    page.send("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": moves}]})
    assert page.run("return document.getElementById('wipe').value") == "75"
    assert np.array_equal(shown(page)[:, : WIDTH // 2], average[:, : WIDTH // 2])


def test_blink(page, expected):
    """Blinking shows the two pictures in turn, each as a whole. Afterwards, the slider is where it was."""
    average, _, truth = expected[0]
    before = shown(page)
    page.click("#blink")
    assert page.run("return document.getElementById('blink').getAttribute('aria-pressed')") == "true"
    seen = set()
    deadline = time.monotonic() + 30
    while len(seen) < 2:
        assert time.monotonic() < deadline
        page.run("document.getElementById('side').style.visibility = 'hidden'")  # this label covers a corner
        picture = shown(page)
        seen |= {name for name, whole in (("ours", average), ("truth", truth)) if np.array_equal(picture, whole)}
    page.click("#blink")
    assert np.array_equal(shown(page), before)


def test_error_map(page, expected):
    average, _, truth = expected[0]
    page.click("#map")
    assert np.array_equal(shown(page), report.error_map(average, truth))
    assert "64 levels or more" in page.text("#scale")
    assert page.run("return document.getElementById('wipe').disabled")  # the error map has no slider
    page.click("#blink")  # blinking turns the error map off
    assert page.run("return document.getElementById('map').getAttribute('aria-pressed')") == "false"
    page.click("#blink")
    assert page.run("return !document.getElementById('wipe').disabled")


def test_error_map_colours():
    truth = np.zeros((1, 3, 3), np.uint8)
    picture = np.uint8([[[0, 0, 0], [0, 48, 0], [255, 255, 255]]])
    assert report.error_map(picture, truth).tolist() == [[[0, 0, 0], [60, 15, 110], [252, 255, 190]]]


def test_page_works_with_the_keyboard_alone(page, expected):
    """Every scene and every view can be reached without a pointer."""
    names = [page.text(f"#scenes li:nth-child({number}) span") for number in (1, 2, 3)]
    seen = []
    for _ in range(3):
        seen.append(page.text("#scene"))
        page.keys("body", "n")
    assert seen == names
    assert page.text("#scene") == names[0]  # after the last scene comes the first
    page.keys("body", "p")
    assert page.text("#scene") == names[-1]
    page.keys("body", "e")
    assert np.array_equal(shown(page), report.error_map(expected[-1][0], expected[-1][2]))
    page.keys("body", "e")
    page.keys("#method", "m")  # selects minterpolate in the list by its first letter
    page.keys("#wipe", "\ue010")
    assert np.array_equal(shown(page)[:, :-EDGE], expected[-1][1][:, :-EDGE])
    page.keys("#scenes li:first-child button", "\ue007")  # return
    assert page.text("#scene") == names[0]


def test_readable_on_a_phone(page):
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.send("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": size})
    try:
        width, smallest = page.run(
            """const text = [...document.querySelectorAll("p, td, th, label, button, h1, h2")];
               return [document.documentElement.scrollWidth,
                       Math.min(...text.map((element) => parseFloat(getComputedStyle(element).fontSize)))]"""
        )
        targets = page.run(
            """return [...document.querySelectorAll("button, select, input")].map((element) =>
                      element.getBoundingClientRect().height)"""
        )
    finally:
        page.send("POST", "/goog/cdp/execute", {"cmd": "Emulation.clearDeviceMetricsOverride", "params": {}})
    assert width == 360  # the page itself does not scroll sideways; only wide parts do
    assert smallest >= 14
    assert min(targets) >= 44  # pixels, large enough for a finger


def test_large_benchmarks_show_evenly_spaced_scenes(triplets, tmp_path):
    many = [Triplet(str(number), *(tmp_path,) * 3) for number in range(3782)]
    page = report.Page(tmp_path / "page", Settings("many", "", False, [], {}, []), many)
    assert len(page.numbers) == report.SCENES_ON_PAGE
    shown = [int(scene) for _, scene in page.numbers]
    assert shown[0] == 0
    assert set(np.diff(shown)) == {78, 79}


def test_pictures_of_other_settings_are_not_reused(triplets, made, tmp_path):
    """Each set of methods has its own folder of pictures. A resumed run makes the pictures that a new page lacks."""
    words = ["--triplets", str(triplets), "--method", "average", "--json", str(tmp_path / "a.json"), "--quiet"]
    assert benchmark.main([*words, "--html", str(made)]) == 0
    folders = sorted(made.glob("pictures-*"))
    assert len(folders) == 2
    assert [len(list(folder.iterdir())) for folder in folders] in ([3 * 4, 3 * 6], [3 * 6, 3 * 4])
    data = json.loads(re.search(r"<script id=\"data\".*?>(.*?)</script>", (made / "index.html").read_text(), re.S)[1])
    assert all((made / name).exists() for scene in data["scenes"] for name in scene["files"]["results"])
    assert benchmark.main([*words, "--resume", "--html", str(tmp_path / "page")]) == 0
    assert len(list((tmp_path / "page").rglob("*-small.jpg"))) == 3
