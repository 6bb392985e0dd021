"""Footage, and the crops drawn from it. The test videos have known pixels."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.films import make, moving

from vfi.errors import ClipError
from vfi.network import REACH
from vfi.training import clips
from vfi.training.batches import Batches
from vfi.training.clips import Footage, find_clips, read_scenes
from vfi.training.recipe import Sampling
from vfi.video.reader import VideoFile


@pytest.fixture
def known(make_clip, tmp_path):
    """Footage whose colours encode the position: red is the column, green the row, blue eight times the frame."""
    t, y, x = np.indices((20, 124, 140))
    make_clip("known/known.mp4", np.stack([x, y, 8 * t], axis=-1).astype(np.uint8))
    return Footage([tmp_path / "known"], tmp_path / "cache")


# --- Footage ---


def test_each_clip_is_found_once(tmp_path):
    for name in ("b.mp4", "within/deep/a.MKV", "note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_clips([tmp_path / "within", tmp_path, tmp_path / "b.mp4"])
    assert [path.name for path in found] == ["b.mp4", "a.MKV"]


def test_folders_without_videos_are_reported(tmp_path):
    with pytest.raises(ClipError, match=r"there is no folder .*nowhere"):
        find_clips([tmp_path / "nowhere"])
    (tmp_path / "text.txt").touch()
    with pytest.raises(ClipError, match=r"text\.txt does not have the extension of a video \(avi, "):
        find_clips([tmp_path / "text.txt"])
    with pytest.raises(ClipError, match="holds no video"):
        find_clips([tmp_path])


def test_frames_are_decoded_exactly(known):
    (scene,) = known.scenes
    frames = known.pixels.view(20, 124, 140, 3)
    t, y, x = torch.meshgrid(torch.arange(20), torch.arange(124), torch.arange(140), indexing="ij")
    assert torch.equal(frames, torch.stack([x, y, 8 * t], dim=-1).byte())
    assert (scene.frames, scene.height, scene.width, scene.rate) == (20, 124, 140, 25)
    assert scene.motion.shape == (19, 124 // 16, 140 // 16)
    assert np.allclose(scene.motion, 8 / 3, atol=2e-3)  # only blue changes, by 8; float16 is inexact


def test_scenes_end_at_cuts(make_clip, moving_frames):
    """Scenes end at cuts and not within fast motion. A scene of two frames is dropped."""
    parts = [moving_frames(20, 96, 128, seed=1, step=9), moving_frames(2, 96, 128, seed=2) // 3]
    parts.append(255 - moving_frames(10, 96, 128, seed=3, step=9) // 2)
    path = make_clip("cut.mp4", np.concatenate(parts))
    found = list(read_scenes(path))
    assert [(first, len(frames)) for first, _, frames in found] == [(0, 20), (22, 10)]
    assert all(rate == 25 and frames.dtype == np.uint8 for _, rate, frames in found)
    for (_, _, frames), part in zip(found, parts[::2], strict=True):
        assert np.abs(frames.astype(int) - part).mean() < 1  # the order of the colours is right, too


def test_long_scenes_are_divided(make_clip, moving_frames, monkeypatch):
    monkeypatch.setattr(clips, "CHUNK", 8)
    path = make_clip("long.mp4", moving_frames(21, 64, 64))
    assert [(first, len(frames)) for first, _, frames in read_scenes(path)] == [(0, 8), (8, 8), (16, 5)]


@pytest.mark.parametrize("size", [(400, 720), (720, 400)])
def test_large_frames_are_scaled_down(make_clip, noise, size):
    picture = (255 * noise(*size)).astype(np.uint8)
    ((_, _, frames),) = read_scenes(make_clip("large.mp4", np.stack([picture] * 3)))
    assert frames.shape[1:] == (*(round(side * 0.9) for side in size), 3)
    assert abs(frames.mean() - picture.mean()) < 0.5


def test_broken_clips_are_reported_and_skipped(tmp_path, make_clip, moving_frames):
    folder = tmp_path / "mixed"
    whole = make_clip("mixed/whole.mp4", moving_frames(6, 64, 64))
    make_clip("mixed/short.mp4", moving_frames(2, 64, 64))
    (folder / "text.mp4").write_text("this is no video")
    (folder / "empty.mkv").touch()
    (folder / "cut off.mp4").write_bytes(whole.read_bytes()[:600])
    footage = Footage([folder], tmp_path / "cache")
    assert footage.frames == 6
    assert [line.split(str(folder) + "/")[1][:5] for line in footage.skipped] == ["cut o", "empty", "short", "text."]
    assert footage.skipped[1] == f"{folder / 'empty.mkv'} is empty"


def test_lost_frames_are_counted_and_the_others_used(tmp_path, make_clip, moving_frames):
    """The file is truncated, but its header still says how many frames it had."""
    whole = make_clip("films/broken.mkv", moving_frames(40, 64, 64))
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])
    footage = Footage([tmp_path / "films"], tmp_path / "cache")
    assert 3 <= footage.frames < 40
    lost = f"{40 - footage.frames} of 40 frames were lost; {footage.frames} frames are used"
    assert footage.skipped == [f"{whole} is damaged: {lost}"]


def test_frames_are_decoded_once(tmp_path, make_clip, moving_frames):
    make_clip("films/one.mp4", moving_frames(6, 64, 64))
    calls = []
    first, again = (
        Footage([tmp_path / "films"], tmp_path / "cache", lambda *progress: calls.append(progress)) for _ in range(2)
    )
    assert calls == [(0, 1), (1, 1)]
    assert first.path == again.path
    assert torch.equal(first.pixels, again.pixels)
    make_clip("films/two.mp4", moving_frames(6, 64, 64))
    assert Footage([tmp_path / "films"], tmp_path / "cache").frames == 12


def test_a_damaged_cache_is_rebuilt(tmp_path, make_clip, moving_frames):
    make_clip("films/one.mp4", moving_frames(6, 64, 64))
    whole = Footage([tmp_path / "films"], tmp_path / "cache")
    pixels, index = whole.pixels.clone(), whole.path.with_suffix(".npz")
    for path, size in ((whole.path, 5000), (index, 0), (index, 300), (whole.path, None)):
        if size is None:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:size])
        assert torch.equal(Footage([tmp_path / "films"], tmp_path / "cache").pixels, pixels)
    index.write_text("this is no index")
    assert torch.equal(Footage([tmp_path / "films"], tmp_path / "cache").pixels, pixels)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot lock folders")
def test_partial_files_of_killed_runs_are_removed(tmp_path, make_clip, moving_frames):
    """Only a run that decodes removes them, because only such a run locks the cache. Files of other programs stay."""
    make_clip("films/one.mp4", moving_frames(6, 64, 64))
    cache = tmp_path / "cache"
    cache.mkdir()
    left, others = cache / ".frames-0123456789abcdef.part", cache / ".0123456789abcdef.part"
    for path in (left, others):
        path.write_bytes(bytes(1000))
    first = Footage([tmp_path / "films"], cache)
    assert {path.name for path in cache.iterdir()} == {others.name, first.path.name, first.path.stem + ".npz"}
    left.touch()
    Footage([tmp_path / "films"], cache)  # decodes nothing, and does not wait for the lock
    assert left.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot lock folders")
def test_two_runs_decode_the_same_frames_once(tmp_path, make_clip, moving_frames):
    for name in ("one", "two", "three"):
        make_clip(f"films/{name}.mp4", moving_frames(6, 64, 64))
    calls = []
    with ThreadPoolExecutor(2) as pool:
        made = pool.map(
            lambda _: Footage([tmp_path / "films"], tmp_path / "cache", lambda *progress: calls.append(progress)),
            range(2),
        )
        one, two = made
    assert torch.equal(one.pixels, two.pixels)
    assert sorted(done for done, _ in calls if done) == [1, 2, 3]


def test_failed_decoding_leaves_no_files(tmp_path, make_clip, moving_frames):
    make_clip("films/one.mp4", moving_frames(6, 64, 64))
    (tmp_path / "cache").touch()
    with pytest.raises(FileExistsError):
        Footage([tmp_path / "films"], tmp_path / "cache")
    (tmp_path / "films" / "one.mp4").write_text("this is no video")
    make_clip("films/two.mp4", moving_frames(2, 64, 64))
    with pytest.raises(ClipError, match="none of these clips can be used") as error:
        Footage([tmp_path / "films"], tmp_path / "deep" / "cache")
    one, two = error.value.skipped
    assert "one.mp4 is not a video" in one
    assert two.endswith("two.mp4: no scene of three frames")
    assert not (tmp_path / "deep").exists()


def test_interrupted_decoding_leaves_no_files(tmp_path, make_clip, moving_frames):
    def interrupt(done, total):
        if done == 1:
            raise KeyboardInterrupt

    for name in ("one", "two", "three"):
        make_clip(f"films/{name}.mp4", moving_frames(6, 64, 64))
    (tmp_path / "deep").mkdir()
    with pytest.raises(KeyboardInterrupt):
        Footage([tmp_path / "films"], tmp_path / "deep" / "cache", interrupt)
    assert list((tmp_path / "deep").iterdir()) == []


# --- Triplets ---


def test_triplets_are_evenly_spaced_frames(known):
    """The clip's colours are linear in column, row and time. They stay linear in every crop, however it is turned."""
    draw = Batches(known, crop=32, seed=3)
    assert draw.triplets == 18 + 16 + 14
    inner = slice(REACH, -REACH)
    seen = {"orders": set(), "strides": set(), "pans": set(), "turns": set()}
    for step in range(12):
        for one, truth, two in zip(*draw(step, 16), strict=True):
            assert one.shape == two.shape == (3, 82, 82)
            assert truth.shape == (3, 32, 32)
            between = 255 * (one[:, inner, inner] + two[:, inner, inner]) / 2
            assert torch.allclose(between, 255 * truth, atol=1e-3)
            one, two = (255 * frame for frame in (one, two))
            slopes = (255 * (truth[:, 1, 1] - truth[:, 0, 0])).round(), (one[:, 0, 1] - one[:, 0, 0]).round()
            assert torch.allclose(
                one.diff(dim=2), one.diff(dim=2)[:, :1, :1], atol=1e-3
            )  # the crop's surroundings are linear, too
            time = int((slopes[0] == 0).nonzero())
            moved = (two - one)[:, 0, 0].round().int().tolist()
            seen["orders"].add(time)
            seen["strides"].add(moved.pop(time) // 16)
            seen["pans"].add(tuple(value // 2 for value in moved))
            seen["turns"].add(tuple(slopes[0].int().tolist() + slopes[1].int().tolist()))
    assert seen["strides"] == {-3, -2, -1, 1, 2, 3}
    assert seen["orders"] == {0, 1, 2}
    assert (0, 0) in seen["pans"]
    assert max(max(map(abs, pan)) for pan in seen["pans"]) == Sampling().pan
    assert len(seen["turns"]) == 3 * 2 * 4  # channel of time, channel of columns, signs of both slopes


def test_plain_triplets_are_not_augmented(known):
    one, truth, two = Batches(known, crop=32, plain=True)(0, 8)
    blue, green, red = (255 * truth).round().unbind(1)  # the network takes BGR
    assert (red.diff(dim=2) == 1).all()
    assert (green.diff(dim=1) == 1).all()
    assert (blue == blue[:, :1, :1]).all()
    assert (two[:, 0] > one[:, 0]).all()


def test_samples_depend_only_on_seed_and_step(known):
    def draw(seed, *arguments):
        return torch.cat([frames.flatten(1) for frames in Batches(known, 32, seed)(*arguments)], dim=1)

    whole = draw(1, 5, 8)
    assert torch.equal(torch.cat([draw(1, 5, 8, 0, 4), draw(1, 5, 8, 4, 8)]), whole)
    assert not torch.equal(draw(1, 6, 8), whole)
    assert not torch.equal(draw(2, 5, 8), whole)


def test_still_and_uneven_triplets_are_not_drawn(tmp_path, make_clip, moving_frames):
    frames = moving_frames(12, 96, 96)
    make_clip("still/still.mp4", frames[[0, 1, 2, 3, 3, 3, 3, 4, 5, 6]])
    draw = Batches(Footage([tmp_path / "still"], tmp_path / "cache"), crop=32)
    likely = draw.table[draw.chances > np.concatenate([[0], draw.chances[:-1]])]
    assert {int(middle) for middle, stride in likely[:, 3:5] if stride == 1} == {1, 2, 7, 8}
    make_clip("dead/dead.mp4", frames[[0] * 8])
    with pytest.raises(ClipError, match="nothing moves"):
        Batches(Footage([tmp_path / "dead"], tmp_path / "cache"), crop=32)


def test_crops_with_motion_are_drawn_more_often(tmp_path, make_clip, moving_frames):
    """Only one corner of the picture moves. Crops show it more often than crops at uniformly random places would."""
    frames = np.stack([moving_frames(1, 200, 200, seed=2)[0]] * 8)
    frames[:, :60, :60] = moving_frames(8, 60, 60, seed=3, step=8)
    make_clip("corner/corner.mp4", frames)
    draw = Batches(Footage([tmp_path / "corner"], tmp_path / "cache"), crop=32, plain=True)
    one, _, two = draw(0, 400)
    inner = slice(REACH, -REACH)
    moves = (one - two)[..., inner, inner].abs().mean(dim=(1, 2, 3)) > 0.004
    chance = (60 - REACH) ** 2 / (200 - 2 * REACH - 32 + 1) ** 2  # for a uniformly random place
    assert moves.float().mean() > 1.5 * chance


def test_frames_must_be_large_enough(known):
    with pytest.raises(ClipError, match="all frames are too small: --crop 96 needs 146 pixels"):
        Batches(known, crop=96)
    with pytest.raises(ClipError, match="synthetic motion needs frames of 132 pixels"):
        Batches(known, crop=32, sampling=Sampling(synthetic=0.1))


def test_too_small_clips_are_reported(tmp_path, make_clip, moving_frames):
    make_clip("films/large.mp4", moving_frames(6, 96, 96))
    make_clip("films/small.mp4", moving_frames(6, 96, 80))
    draw = Batches(Footage([tmp_path / "films"], tmp_path / "cache"), crop=32)
    assert draw.skipped == [f"{tmp_path / 'films' / 'small.mp4'}: frames of 80x96; --crop 32 needs 82 pixels each way"]
    assert draw.triplets == 4 + 2


def test_clips_smaller_than_a_motion_cell_are_reported(tmp_path, make_clip, moving_frames):
    """Motion is measured in cells of 16 x 16 pixels. Frames of 12 x 12 pixels have none."""
    make_clip("films/large.mp4", moving_frames(6, 96, 96))
    make_clip("films/tiny.mp4", moving_frames(6, 12, 12))
    draw = Batches(Footage([tmp_path / "films"], tmp_path / "cache"), crop=32)
    assert draw.skipped == [f"{tmp_path / 'films' / 'tiny.mp4'}: frames of 12x12; --crop 32 needs 82 pixels each way"]
    assert draw(0, 4)[1].shape == (4, 3, 32, 32)


def test_frames_are_decoded_as_run_does(tmp_path, monkeypatch):
    """They are upright, and the file's own matrix and range give their colours: both programs use one reader."""
    monkeypatch.chdir(tmp_path)
    source = make("in.mp4", moving(4), configure=lambda stream: stream.set_display_rotation(90))
    video = VideoFile(source)
    expected = [video.layout.to_rgb([torch.from_numpy(plane) for plane in frame.planes]) for frame in video.frames()]
    ((_, _, frames),) = read_scenes(Path(source))
    assert frames.shape[1] > frames.shape[2]
    for frame, rgb in zip(frames, expected, strict=True):
        assert np.abs(frame - 255 * rgb[0].clamp(0, 1).permute(1, 2, 0).numpy()).max() <= 0.5 + 1e-3
