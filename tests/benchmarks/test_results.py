"""Triplets that are left out, files of results, and runs that are resumed."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.tables import rows

import benchmark
from vfi import pictures

ROOT = Path(__file__).parent.parent.parent


def test_left_out_triplets_are_reported(own, run, tmp_path):
    os.truncate(own / "a" / "im10.png", 200)
    (own / "b" / "im" / "im9.png").unlink()
    pictures.write(own / "c" / "im9.png", pictures.Picture(np.zeros((37, 40, 3), np.uint8)))
    save = [own / "d" / f"im{number}.png" for number in (1, 2, 3)]
    for path in save:
        path.parent.mkdir(exist_ok=True)
        pictures.write(path, pictures.Picture(np.zeros((36, 40, 3), np.uint8)))
    results = tmp_path / "results.json"
    status, out, err = run("--triplets", own, "--method", "average", "--json", results, "--html", tmp_path / "page")
    assert status == 1
    note, *lines = err.splitlines()
    assert note == "note: 1 of 4 scenes will be left out: a frame is missing, or is wrong"
    assert re.fullmatch(rf"left out: a: {own}/a/im10.png cannot be read: .*", lines[0])
    assert lines[1] == f"left out: b/im: {own}/b/im: expected three pictures (first, truth, second), found 2"
    assert lines[2].startswith(f"left out: c: the frames differ in size: {own}/c/im9.png is 40x37, ")
    assert lines[3:] == ["error: left out: 3 of 4 scenes"]
    content = json.loads(results.read_text())
    assert [scene["scene"] for scene in content["scenes"]] == ["d"]
    assert [scene["scene"] for scene in content["left_out"]] == ["a", "b/im", "c"]
    assert content["complete"] is False
    assert "left out: a: " in (tmp_path / "page" / "index.html").read_text()
    assert "own triplets, 1 of 4 scenes" in out
    assert "average: the PSNR of exact pictures (1) is infinite\n" in out


def test_missing_frames_are_reported_before_measuring(trees, run):
    (trees[0] / "vimeo" / "sequences" / "00002" / "0010" / "im2.png").unlink()
    status, out, err = run("--vimeo90k", trees[0] / "vimeo", "--method", "average")
    assert status == 1
    lines = err.splitlines()
    assert lines[0] == "note: 1 of 2 scenes will be left out: a frame is missing, or is wrong"
    assert re.fullmatch(
        r"left out: 00002/0010: .*/00002/0010/im2.png cannot be read: no such file or directory", lines[1]
    )
    assert "Vimeo-90k, 1 of 3782 scenes" in out


def test_long_lists_of_left_out_triplets_are_shortened(trees, run):
    names = [f"00009/{number:04}" for number in range(25)]
    (trees[0] / "vimeo" / "tri_testlist.txt").write_text("\n".join(["00001/0266", *names]))
    status, _, err = run("--vimeo90k", trees[0] / "vimeo", "--method", "average")
    assert status == 1
    lines = err.splitlines()[1:]
    assert [re.match("left out: (.*): .* cannot be read", line)[1] for line in lines[:20]] == names[:20]
    assert lines[20:] == [
        "left out: 5 more; --json names them all",
        "error: left out: 25 of 26 scenes",
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--data", "nowhere"], r"there is no folder nowhere; expected .*; --download fetches them"),
        (["--data", "empty"], "there is no whole triplet in empty; expected Venus/frame10.png"),
        (["--vimeo90k", "empty"], "empty/tri_testlist.txt cannot be read: no such file or directory; expected the"),
        (["--ucf101", "empty"], "there is no whole triplet in empty; expected ucf101_interp_ours"),
        (["--snu-film", "empty"], "empty/test-easy.txt cannot be read: no such file or directory; expected test-easy"),
        (["--xiph", "empty"], "there is no whole triplet in empty; expected frames 1 to 99 of BoxingPractice, Cr"),
        (["--triplets", "empty"], "there is no whole triplet in empty; expected a folder for each triplet"),
        (["--vimeo90k", "twice"], "twice: its list names 1/2 twice"),
        (["--snu-film", "twice"], "twice/test-easy.txt: '1/2' does not name three frames; expected test-easy.txt"),
        (
            ["--triplets", "own", "--json", "nowhere/a.json"],
            "nowhere/a.json cannot be written: there is no folder nowhere",
        ),
        (["--triplets", "own", "--csv", "own"], "own is a folder: name a file"),
        (["--triplets", "own", "--html", "text/page"], "--html text/page cannot be made: not a directory"),
        (["--triplets", "own", "--json", "text"], "text is damaged, or is not a results file: remove it"),
        (["--triplets", "own", "--weights", "nowhere"], "weights nowhere: no such file or directory"),
    ],
)
def test_unusable_folders_and_files_are_reported(words, reason, own, save, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("{}")
    save([tmp_path / "twice" / "sequences" / "1" / "2" / f"im{number}.png" for number in (1, 2, 3)])
    (tmp_path / "twice" / "tri_testlist.txt").write_text("1/2\n1/2\n")
    (tmp_path / "twice" / "test-easy.txt").write_text("1/2\n")
    method = [] if "--weights" in words else ["--method", "average"]
    status, out, err = run(*words, *method)
    assert (status, out) == (1, "")
    assert re.fullmatch(f"error: {reason}.*\n", err)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--ucf101 a --xiph b", "argument --xiph: not allowed with argument --ucf101"),
        ("--ucf101 a --download", "--download is for Middlebury"),
        ("--subset easy", "--subset is for SNU-FILM and Xiph"),
        ("--xiph a --subset 8K", "--subset 8K is not one of 2K, 4K"),
        ("--method average --ensemble", "--ensemble is for --method sepconv"),
        ("--method average --model lf", "--model is for --method sepconv"),
        ("--method minterpolate --padding paper", "--padding is for --method sepconv"),
        ("--method average --weights some.safetensors", "--weights is for --method sepconv"),
        ("--model l1 lf --weights file", "--weights FILE is one model"),
        ("--json a --csv a", "--json and --csv name the same file"),
        ("--triplets a --csv a/im1.png", "a/im1.png has the name of a picture: --json and --csv write text"),
        ("--triplets a --html a", "--html a is within a, where its pictures would be read as frames"),
        ("--triplets . --html b/c", "--html b/c is within ., where its pictures would be read as frames"),
        ("--resume", "--resume continues with the results in --json FILE: name it"),
        ("--method best", "argument --method: invalid choice: 'best'"),
        ("--padding", "argument --padding: expected at least one argument"),
    ],
)
def test_bad_usage(words, reason, capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark.main(words.split())
    assert caught.value.code == 2
    assert f"benchmark.py: error: {reason}" in capsys.readouterr().err


def test_json_and_csv(own, run, tmp_path):
    pictures.write(own / "a" / "im10.png", pictures.Picture(np.zeros((36, 40, 3), np.uint8)))
    for name in ("im9", "im11"):
        pictures.write(own / "a" / f"{name}.png", pictures.Picture(np.zeros((36, 40, 3), np.uint8)))
    words = ("--method", "average", "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv", "--lpips")
    status, out, err = run("--triplets", own, *words)
    content = json.loads((tmp_path / "a.json").read_text(), parse_constant=lambda name: pytest.fail(f"no JSON: {name}"))
    assert content["complete"] is True
    first = content["scenes"][0]["values"][0]
    assert (first["psnr"], first["ssim_uniform"], first["ie_mean"]) == ("inf", 1, 0)
    assert rows(out)["average"][0] == float("inf")
    finite = np.mean([scene["values"][0]["psnr"] for scene in content["scenes"][1:]])
    assert f"average: the PSNR of exact pictures (1) is infinite, without them it is {finite:.2f} dB" in out
    lines = (tmp_path / "a.csv").read_text().splitlines()
    names = "psnr,ssim_uniform,ssim_gaussian,ssim_matlab,ie_rms,ie_mean,lpips"
    assert lines[0] == f"benchmark,subset,scene,method,{names}"
    assert lines[1].startswith("own triplets,,a,average,inf,1.0,1.0,1.0,0.0,0.0,")
    assert float(lines[2].split(",")[4]) == content["scenes"][1]["values"][0]["psnr"]
    assert status == ("lpips" in content["settings"]["unavailable"])
    if status:
        assert re.fullmatch(r"error: LPIPS was not measured: .*lpips.*\n", err)
        assert first["lpips"] is None
        assert re.search(r"^LPIPS is not available: ", out, re.M)
        assert re.search(r"^average .* n/a$", out, re.M)


def test_resume_refuses_results_of_other_settings(own, run, tmp_path):
    words = ("--triplets", own, "--json", tmp_path / "a.json", "--resume", "--method", "average")
    assert run(*words)[0] == 0
    assert run(*words)[0] == 0
    status, _, err = run(*words, "--truncate")
    assert status == 1
    assert err == (f"error: {tmp_path}/a.json was measured with another 'truncate': name another file, or remove it\n")
    assert run(*(word for word in words if word != "--resume"), "--truncate")[2] == err  # nothing is overwritten
    content = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(content | {"format": 2}))
    assert "is in format 2; this version reads format 1" in run(*words)[2]


def test_damaged_results_are_refused(own, run, tmp_path):
    words = ("--triplets", own, "--json", tmp_path / "a.json", "--resume", "--method", "average")
    assert run(*words)[0] == 0
    whole = (tmp_path / "a.json").read_text()
    content = json.loads(whole)
    (scene, *others), settings = content["scenes"], content["settings"]
    (values,) = scene["values"]
    for damage in (
        whole[:300],
        "[" * 10**5,
        json.dumps([content]),
        json.dumps(content | {"settings": []}),
        json.dumps(content | {"settings": {name: value for name, value in settings.items() if name != "metrics"}}),
        json.dumps(content | {"scenes": [scene | {"values": []}, *others]}),
        json.dumps(content | {"scenes": [scene | {"values": [{"psnr": 1}]}, *others]}),
        json.dumps(content | {"scenes": [scene | {"values": [values | {"psnr": None}]}, *others]}),
        json.dumps(content | {"scenes": [scene | {"values": [values | {"psnr": "much"}]}, *others]}),
        json.dumps(content | {"scenes": [scene | {"scene": []}, *others]}),
    ):
        (tmp_path / "a.json").write_text(damage)
        status, out, err = run(*words)
        assert (status, out) == (1, "")
        assert err == (
            f"error: {tmp_path}/a.json is damaged, or is not a results file: remove it, or name another file\n"
        )
        assert (tmp_path / "a.json").read_text() == damage


def test_resume_after_scenes_were_removed(own, trees, run, tmp_path):
    """The mean does not include removed triplets. The results of other subsets are kept."""
    words = ("--triplets", own, "--json", tmp_path / "a.json", "--resume", "--method", "average")
    assert "own triplets, 3 scenes" in run(*words)[1]
    shutil.rmtree(own / "a")
    shutil.rmtree(own / "b")
    status, out, _ = run(*words)
    assert status == 0
    assert re.search("^own triplets, 1 scene ", out, re.M)
    assert rows(out)["average"] == rows(out)["c"]
    words = ("--snu-film", trees[0] / "snu", "--method", "average", "--json", tmp_path / "b.json", "--resume")
    for subset in ("easy", "hard"):
        assert run(*words, "--subset", subset)[0] == 0
    assert [scene["subset"] for scene in json.loads((tmp_path / "b.json").read_text())["scenes"]] == ["easy", "hard"]


def test_resume_with_one_subset_does_not_complete_the_others(trees, run, tmp_path):
    (trees[0] / "snu" / "test" / "GOPRO_test" / "GOPR0384_11_00" / "000104.png").unlink()
    words = ("--snu-film", trees[0] / "snu", "--method", "average", "--json", tmp_path / "a.json")
    assert run(*words)[0] == 1
    assert run(*words, "--resume", "--subset", "easy")[0] == 0
    content = json.loads((tmp_path / "a.json").read_text())
    assert not content["complete"]
    assert [entry["subset"] for entry in content["left_out"]] == ["hard"]
    assert "holds an unfinished run" in run(*words)[2]


def test_file_names_that_are_not_utf8(own, run, tmp_path):
    """Such names come from systems with another encoding. Results with them can be written and resumed."""
    name = os.fsdecode(b"caf\xe9")
    try:
        (own / "a").rename(own / name)
    except OSError:
        pytest.skip("this file system accepts only names in UTF-8")
    words = ("--triplets", own, "--method", "average", "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv")
    assert run(*words, "--html", tmp_path / "page")[0] == 0
    assert name in {scene["scene"] for scene in json.loads((tmp_path / "a.json").read_text())["scenes"]}
    assert r"own triplets,,caf\udce9,average," in (tmp_path / "a.csv").read_text()
    before = (tmp_path / "a.json").read_bytes()
    assert run(*words, "--resume")[0] == 0
    assert (tmp_path / "a.json").read_bytes() == before


FULL_DISK = """
import resource, sys, benchmark
from vfi.interpolator import Interpolator
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(benchmark.main(sys.argv[2:]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot limit the size of files")
def test_a_full_disk_does_not_lose_the_scores(own, tmp_path):
    """A limit of the file size stands for a full disk. The table is printed, or the scenes so far stay in the file."""
    words = ["--triplets", str(own), "--method", "average", "--json", str(tmp_path / "a.json")]
    command = [sys.executable, "-c", FULL_DISK]
    result = subprocess.run([*command, "100", *words], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert set(rows(result.stdout)) == {"a", "b/im", "c", "average"}
    assert result.stderr == f"error: {tmp_path}/a.json cannot be written: file too large\n"
    assert not (tmp_path / "a.json").exists()

    words += ["--html", str(tmp_path / "page" / "deep")]  # the limit is too small for its pictures
    result = subprocess.run([*command, "3000", *words], cwd=ROOT, capture_output=True, text=True)
    note, error = result.stderr.splitlines()
    assert note == f"note: 1 of 3 scenes are in {tmp_path}/a.json: --resume continues"
    assert re.fullmatch(rf"error: {tmp_path}/page/deep/pictures-.*\.png cannot be written: file too large", error)
    assert len(json.loads((tmp_path / "a.json").read_text())["scenes"]) == 1
    assert not (tmp_path / "page").exists()


def test_ctrl_c_keeps_the_measured_scenes(save, run, tmp_path):
    """After Ctrl-C, a new run is refused without --resume. With it, the run continues and keeps the measured scenes."""
    folder, results, page = tmp_path / "own", tmp_path / "results.json", tmp_path / "page"
    for seed in range(16):
        save([folder / f"{seed:02}" / f"im{number}.png" for number in (1, 2, 3)], seed)
    words = ["--triplets", str(folder), "--json", str(results), "--model", "l1", "--html", str(page)]
    program = subprocess.Popen(
        [sys.executable, ROOT / "benchmark.py", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background, pytest ignores it
    )
    deadline = time.monotonic() + 120
    while len(list(page.rglob("*-small.jpg"))) < 2:
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=120)
    assert (program.returncode, out) == (130, "")
    note, interrupted = err.splitlines()
    done = int(re.fullmatch(rf"note: (\d+) of 16 scenes are in {results}: --resume continues", note)[1])
    assert interrupted == "error: interrupted"
    assert 1 <= done < 16
    broken_off = json.loads(results.read_text())
    assert len(broken_off["scenes"]) == done

    assert "holds an unfinished run: go on with --resume, or remove it" in run(*words)[2]
    before = {path: path.stat().st_mtime_ns for path in page.rglob("*-small.jpg")}
    status, out, _ = run(*words, "--resume")
    assert status == 0
    content = json.loads(results.read_text())
    assert content["complete"] is True
    assert content["scenes"][:done] == broken_off["scenes"]
    assert [scene["scene"] for scene in content["scenes"]] == [f"{seed:02}" for seed in range(16)]
    assert content["means"][0]["scenes"] == 16
    kept = [path for path, when in before.items() if path.stat().st_mtime_ns == when]
    assert len(kept) >= done - 1  # the last measured scene may have no pictures yet
    assert out.endswith(f"{page}/index.html\n")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_progress(quiet, own, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert benchmark.main(["--triplets", str(own), "--method", "average", *(["--quiet"] if quiet else [])]) == 0
    assert bool(re.search(r"0/3 \[00:00<\?", sys.stderr.getvalue())) != quiet  # scenes done, time spent, time left
