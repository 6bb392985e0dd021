"""benchmark.py --download, from a local HTTP server with small archives like those of Middlebury's site."""

import http.server
import io
import re
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

import benchmark
from vfi import download
from vfi.benchmarks import middlebury
from vfi.benchmarks.triplets import rgb_sum


def png(pixels):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="session")
def frames(noise):
    """The frames of twelve tiny scenes: a dict from names such as Venus/frame10.png to RGB pixels."""
    return {
        f"{scene}/{name}": np.rint(255 * noise(24, 28, seed=3 * number + index)).astype(np.uint8)
        for number, scene in enumerate(middlebury.SCENES)
        for index, name in enumerate(middlebury.FRAMES)
    }


@pytest.fixture(scope="session")
def archives(frames):
    """The contents of the site's two archives, by file name.

    Like the real ones, they also hold files that are not needed; and one file has a path outside the target folder.
    """
    made = {}
    for tree, archive in middlebury.ARCHIVES.items():
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as target:
            target.writestr(f"{tree}/", "")
            for name, pixels in frames.items():
                if middlebury.FRAMES[name.partition("/")[2]] == tree:
                    target.writestr(f"{tree}/{name}", png(pixels))
            target.writestr(f"{tree}/README.txt", "more")
            target.writestr("../evil.png", "out of the folder")
        made[archive] = data.getvalue()
    return made


@pytest.fixture
def site(archives, frames, tmp_path, monkeypatch):
    """A local server in place of Middlebury's site.

    Its attributes: `files`, which it serves; `cuts`, the number of bytes after which each response breaks off;
    `requests`, which it received; and `ranges`, whether it supports range requests.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append((self.path[1:], self.headers.get("Range")))
            body = server.files.get(self.path[1:])
            if body is None:
                self.send_error(404)
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
            if start and not server.ranges:
                start = 0
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            cut = server.cuts.pop(0) if server.cuts else len(body)
            self.wfile.write(body[start : start + cut])

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.cuts, server.requests, server.ranges = dict(archives), [], [], True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sums = tmp_path / "sums"
    sums.write_text("".join(f"{rgb_sum(pixels)}  {name}\n" for name, pixels in frames.items()))
    monkeypatch.setattr(middlebury, "SUMS", sums)
    monkeypatch.setattr(middlebury, "SITE", f"http://127.0.0.1:{server.server_port}/")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(tmp_path, capsys):
    """Runs benchmark.py with --download; returns the exit status and standard error."""

    def fetch():
        status = benchmark.main(["--data", str(tmp_path / "data" / "middlebury"), "--download", "--method", "average"])
        return status, capsys.readouterr().err

    return fetch


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


COLOUR, TRUTH = middlebury.ARCHIVES.values()


def test_download(site, fetch, frames, tmp_path):
    assert fetch() == (0, "")
    assert site.requests == [(COLOUR, None), (TRUTH, None)]
    assert listing(tmp_path / "data") == sorted(f"middlebury/{name}" for name in frames)  # no archive, no path outside
    assert fetch() == (0, "")
    assert len(site.requests) == 2  # nothing is requested again


def test_missing_and_broken_frames_are_downloaded(site, fetch, frames, tmp_path):
    fetch()
    folder = tmp_path / "data" / "middlebury"
    (folder / "Venus" / "frame10i11.png").write_bytes(b"broken")
    (folder / "Urban2" / "frame10i11.png").unlink()
    (folder / "Urban3" / "frame10i11.png").write_bytes(png(255 - frames["Urban3/frame10i11.png"]))
    kept = (folder / "Grove2" / "frame10i11.png").stat().st_mtime_ns
    del site.requests[:]
    assert fetch() == (0, "")
    assert site.requests == [(TRUTH, None)]
    assert (folder / "Grove2" / "frame10i11.png").stat().st_mtime_ns == kept


def test_frames_go_into_the_folders_of_unpacked_archives(site, fetch, frames, tmp_path):
    for tree in middlebury.ARCHIVES:
        (tmp_path / "data" / "middlebury" / tree).mkdir(parents=True)
    assert fetch() == (0, "")
    expected = sorted(f"middlebury/{middlebury.FRAMES[name.partition('/')[2]]}/{name}" for name in frames)
    assert listing(tmp_path / "data") == expected


def test_download_resumes_after_a_broken_connection(site, fetch, archives):
    site.cuts = [1000, 2000]
    assert fetch() == (0, "")
    assert site.requests == [(COLOUR, None), (COLOUR, "bytes=1000-"), (COLOUR, "bytes=3000-"), (TRUTH, None)]


def test_next_run_resumes_a_failed_download(site, fetch, archives, tmp_path):
    site.cuts = [1000, 0]
    status, err = fetch()
    part = tmp_path / "data" / "middlebury" / f"{COLOUR}.part"
    assert status == 1
    assert err == (
        f"error: {middlebury.SITE}{COLOUR} cannot be downloaded: the connection broke off after 1000 of "
        f"{len(archives[COLOUR])} bytes; {part} is kept, and the next download goes on with it\n"
    )
    assert part.read_bytes() == archives[COLOUR][:1000]
    del site.requests[:]
    assert fetch() == (0, "")
    assert site.requests == [(COLOUR, "bytes=1000-"), (TRUTH, None)]
    assert not part.exists()


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("there", ["all", "more"])
def test_partial_files_that_cannot_be_resumed(there, ranges, site, fetch, archives, tmp_path):
    """The partial file is already complete or longer than the archive, with and without support for range requests."""
    site.ranges = ranges
    part = tmp_path / "data" / "middlebury" / f"{COLOUR}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(archives[COLOUR] if there == "all" else archives[COLOUR] + b"more")
    assert fetch() == (0, "")


def test_a_partial_file_of_another_archive_is_removed(site, fetch, tmp_path):
    part = tmp_path / "data" / "middlebury" / f"{COLOUR}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"<html>log in first</html>" * 200)
    status, err = fetch()
    assert status == 1
    assert err.endswith(f"/{COLOUR}: the file is not the benchmark's archive, or is damaged; it was removed\n")
    assert fetch() == (0, "")


NO_ARCHIVE = "the file is not the benchmark's archive, or is damaged; it was removed"


def zipped(**members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return data.getvalue()


def damaged(data):
    middle = len(data) // 2
    return data[: middle - 50] + bytes(100) + data[middle + 50 :]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda data: b"<html>log in first</html>", NO_ARCHIVE),
        (damaged, f"{NO_ARCHIVE}|.* is not the frame that it should be; it was removed"),
        (lambda data: zipped(other=b""), NO_ARCHIVE),
        (
            lambda data: zipped(**{"other-data/Beanbags/frame10.png": png(np.zeros((24, 28, 3), np.uint8))}),
            "other-data/Beanbags/frame10.png is not the frame that it should be; it was removed",
        ),
        (
            lambda data: zipped(**{"other-data/Beanbags/frame10.png": bytes(2**25)}),
            "other-data/Beanbags/frame10.png has more than 8388608 bytes; it was removed",
        ),
    ],
)
def test_wrong_or_damaged_archives_are_removed(make, reason, site, fetch, archives, tmp_path):
    site.files[COLOUR] = make(archives[COLOUR])
    status, err = fetch()
    assert status == 1
    assert re.fullmatch(f"error: {middlebury.SITE}{COLOUR}: ({reason})\n", err)
    assert not [name for name in listing(tmp_path / "data") if name.endswith(".part")]
    known = {f"middlebury/{scene}/{name}" for scene in middlebury.SCENES for name in middlebury.FRAMES}
    assert set(listing(tmp_path / "data")) <= known  # only whole frames remain


def test_archive_over_the_size_limit_is_refused(site, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(middlebury, "LARGEST_ARCHIVE", 5000)
    monkeypatch.setattr(download, "BLOCK", 1000)
    status, err = fetch()
    assert status == 1
    assert err.endswith("cannot be downloaded: the download has more than 5000 bytes\n")
    assert listing(tmp_path / "data") == []


def test_missing_archive_and_unreachable_site(site, fetch):
    del site.files[COLOUR]
    assert fetch() == (1, f"error: {middlebury.SITE}{COLOUR} cannot be downloaded: Not Found\n")
    site.shutdown()
    site.server_close()
    assert re.fullmatch(f"error: {middlebury.SITE}{COLOUR} cannot be downloaded: Connection refused\n", fetch()[1])
