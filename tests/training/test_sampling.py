"""Options of crops: synthetic motion, stills, measured motion and variations. All are off by default."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.training import command

import train
from vfi import pictures
from vfi.errors import ClipError
from vfi.network import REACH
from vfi.training import synthetic
from vfi.training.batches import Batches
from vfi.training.clips import Footage
from vfi.training.flow import Flow, footage_motion
from vfi.training.recipe import Sampling
from vfi.training.stills import Stills

# All options of crops, except those that need a folder.
EVERYTHING = Sampling(
    strides=4, pan=20, by_flow=True, zoom=1.5, rotation=10, light=0.1, degraded=0.5, synthetic=0.5, speed=24, objects=3,
    perspective=0.05, acceleration=0.4, blur=0.3,
)  # fmt: skip


@pytest.fixture
def textured(tmp_path, make_clip, moving_frames):
    make_clip("textured/textured.mp4", moving_frames(10, 140, 150))
    return Footage([tmp_path / "textured"], tmp_path / "cache")


@pytest.fixture
def stills(tmp_path, noise):
    """A folder with a photograph and a cut-out, which is a magenta disc."""
    folder = tmp_path / "stills"
    (folder / "deep").mkdir(parents=True)
    photograph = (255 * noise(300, 320)).astype(np.uint8)
    pictures.write(folder / "photograph.png", pictures.Picture(photograph))
    rows, columns = np.mgrid[-40:40, -40:40]
    disc = np.full((80, 80, 4), 255, np.uint8) * (np.hypot(rows, columns) < 38)[..., None].astype(np.uint8)
    disc[..., 1] = 0
    pictures.write(folder / "deep" / "disc.webp", pictures.Picture(disc), lossless=True)
    return folder


def samples(footage, sampling, crop=32, seed=1, step=0, total=16, **more):
    return Batches(footage, crop, seed, sampling, **more)(step, total)


def test_everything_is_off_by_default(tmp_path, make_clip):
    """With the default options, crops are bit for bit those of the version before these options."""
    make_clip("noise/noise.mp4", np.random.default_rng(0).integers(0, 256, (10, 140, 150, 3), dtype=np.uint8))
    drawn = samples(Footage([tmp_path / "noise"], tmp_path / "cache"), Sampling(), seed=5, step=1)
    content = b"".join((255 * frames).round().byte().numpy().tobytes() for frames in drawn)
    assert hashlib.sha256(content).hexdigest()[:16] == "86a8800662f1a5c1"


def test_synthetic_options_do_not_change_other_crops(textured):
    """Crops of the videos do not depend on the options for synthetic crops."""
    few = Sampling(synthetic=0.5)
    some = replace(few, speed=24, objects=3, perspective=0.05, acceleration=0.4, blur=0.3)
    real, truth, other = (samples(textured, sampling)[1] for sampling in (Sampling(), few, some))
    count = sum(any(torch.equal(crop, one) for one in real) for crop in truth)
    assert 4 <= count <= 12
    assert torch.equal(truth[:count], other[:count])  # crops of the videos come first
    assert not torch.equal(truth[count:], other[count:])


@pytest.mark.parametrize("name", [name for name in vars(EVERYTHING) if name not in ("synthetic", "stills")])
def test_every_option_has_an_effect(name, textured):
    base = Sampling(synthetic=0.5)
    changed = replace(base, **{name: getattr(EVERYTHING, name)})
    one, other = (torch.cat([frames.flatten() for frames in samples(textured, each)]) for each in (base, changed))
    assert one.shape == other.shape
    assert not torch.equal(one, other)


def test_parts_of_processes_make_up_the_whole_batch(textured, stills):
    sampling = replace(EVERYTHING, stills=str(stills))
    batches = Batches(textured, 32, 3, sampling)
    whole = batches(7, 12)
    parts = [batches(7, 12, 0, 5), batches(7, 12, 5, 12)]

    def sums(frames):
        return sorted(frames.flatten(1).double().sum(dim=1).tolist())

    for number in range(3):
        assert sums(torch.cat([part[number] for part in parts])) == pytest.approx(sums(whole[number]), abs=1e-3)
        assert whole[number].min() >= 0
        assert 0.5 < whole[number].max() <= 1


# --- Synthetic motion ---


def backwards(scenes):
    """The scenes with time reversed."""
    turned = [scenes.layers.copy(), scenes.objects.copy()]
    for motions in turned:
        motions[..., 4:10] *= -1  # change of shape, and shift
        motions[..., 12:14] *= -1  # change of perspective
    return scenes._replace(layers=turned[0], objects=turned[1])


def still_scenes(scenes):
    """The scenes without any motion."""
    layers, objects = scenes.layers.copy(), scenes.objects.copy()
    for motions in (layers, objects):
        motions[..., 4:10] = motions[..., 12:] = 0
    return scenes._replace(layers=layers, objects=objects)


@pytest.mark.parametrize("sampling", [Sampling(synthetic=1.0), replace(EVERYTHING, synthetic=1.0, by_flow=False)])
def test_the_truth_is_halfway_through_the_motion(sampling, textured):
    """Layers move. Reversed motion gives the same frames in reverse order, and no motion gives equal frames."""
    draw = Batches(textured, 32, sampling=sampling).scenes
    scenes = draw.draw(np.random.default_rng(0), np.random.default_rng(1), 6)
    frames = draw.render(scenes)
    assert frames.shape == (6, 3, 3, 82, 82)
    assert (frames[:, 0] - frames[:, 2]).abs().mean() > 2
    assert torch.allclose(draw.render(backwards(scenes)), frames.flip(1), atol=0.05)
    still = draw.render(still_scenes(scenes))
    assert torch.allclose(still, still[:, 1:2].expand_as(still), atol=1e-3)
    if not sampling.blur:
        assert torch.allclose(still[:, 1], frames[:, 1], atol=1e-3)


def test_speeds_of_layers(textured):
    """By default, most layers are slow. With --speed, all speeds up to it are equally likely."""

    def speeds(sampling):
        scenes = Batches(textured, 32, sampling=sampling).scenes
        motions = scenes.draw(np.random.default_rng(0), np.random.default_rng(1), 2000).layers
        return np.hypot(motions[..., 8], motions[..., 9])

    slow, even = speeds(Sampling(synthetic=1.0)), speeds(Sampling(synthetic=1.0, speed=24))
    assert 0.9 * synthetic.SPEED < slow.max() <= synthetic.SPEED < REACH
    assert np.median(slow) < 8
    assert np.allclose(np.quantile(even, [0.25, 0.5, 0.75]), [6, 12, 18], atol=0.7)


def test_objects_have_all_numbers_and_sizes(textured):
    scenes = Batches(textured, 32, sampling=Sampling(synthetic=1.0, objects=4)).scenes
    drawn = scenes.draw(np.random.default_rng(0), np.random.default_rng(1), 2000)
    assert np.allclose(np.bincount(drawn.exists.sum(axis=1)) / 2000, 0.2, atol=0.05)
    largest, thinnest = drawn.radii.max(axis=-1), drawn.radii.min(axis=-1)
    assert largest.min() < 6
    assert largest.max() > 0.3 * 82
    assert thinnest.min() == pytest.approx(1, abs=0.05)


def test_the_share_of_synthetic_samples(textured):
    """The other samples are the same as without synthetic ones. Both kinds have the same range of values."""
    one, truth, two = samples(textured, Sampling(synthetic=0.3), total=64)
    real = samples(textured, Sampling(), total=64)[1]
    same = (truth[:, None] == real[None]).flatten(2).all(dim=2).any(dim=1)
    assert 0.1 < 1 - same.float().mean() < 0.5
    for frames in (one, truth, two):
        assert frames.min() >= 0
        assert 0.5 < frames.max() <= 1


# --- Stills ---


def test_stills_are_kept_in_several_sizes(stills):
    found = Stills(stills, "cpu")
    assert (len(found.backgrounds), len(found.cutouts)) == (1, 1)
    assert found.backgrounds.table[0, :3, 1:].tolist() == [[300, 320], [150, 160], [75, 80]]
    start, height, width = found.cutouts.table[0, 0]
    square = found.cut(np.array([start]), np.array([[-10, -10]]), np.array([[height, width]]), 100)[0]
    inner, outside = square[:, 50, 50], square[:, 2, 2]
    assert inner.tolist() == [255, 0, 255, 1]  # BGR and alpha
    assert outside.tolist() == [0, 0, 0, 0]
    photograph = pictures.read(stills / "photograph.png").pixels
    start, height, width = found.backgrounds.table[0, 0]
    square = found.cut(np.array([start]), np.array([[7, 11]]), np.array([[height, width]]), 20)[0]
    assert np.array_equal(square[:3].flip(0).permute(1, 2, 0).byte().numpy(), photograph[7:27, 11:31])


def test_cutouts_are_drawn_with_their_colour(textured, stills):
    draw = Batches(textured, 32, sampling=Sampling(synthetic=1.0, objects=6, stills=str(stills))).scenes
    scenes = draw.draw(np.random.default_rng(0), np.random.default_rng(1), 8)
    middle = draw.render(scenes)[:, 1]
    magenta = (middle - torch.tensor([255.0, 0, 255])[:, None, None]).abs().amax(dim=1) < 3
    assert (magenta.flatten(1).sum(dim=1) > 20).sum() >= 4
    assert (scenes.still[..., 3] > 0).mean() == pytest.approx(0.5, abs=0.3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--stills .*: there is no such folder"),
        ({}, "the folder holds no picture \\(bmp, jpeg, jpg, png, tif, tiff, webp\\)"),
        ({"bad.png": b"no picture"}, "bad.png is not a picture, or is damaged"),
    ],
)
def test_stills_that_cannot_be_used(content, message, tmp_path):
    folder = tmp_path / "other"
    if content is not None:
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
    with pytest.raises(ClipError, match=message):
        Stills(folder, "cpu")


# --- Measured motion ---


def test_flow_is_measured_once(tmp_path, make_clip, moving_frames, monkeypatch):
    """The texture moves by 6 pixels across and 3 up per frame. The second call reads the kept result."""
    make_clip("moving/moving.mp4", moving_frames(6, 160, 200, step=6))
    footage = Footage([tmp_path / "moving"], tmp_path / "cache")
    (motion,) = footage_motion(footage)
    assert motion.shape == footage.scenes[0].motion.shape
    assert np.median(motion) == pytest.approx(np.hypot(6, 3), abs=0.5)
    monkeypatch.setattr(Flow, "__call__", None)  # a second measurement would fail
    assert np.array_equal(footage_motion(footage)[0], motion)


def test_by_flow_draws_fast_motion_within_reach(tmp_path, make_clip, moving_frames):
    """With by_flow, triplets are chosen by speed, up to a limit. Without it, by change, without a limit."""
    make_clip("moving/moving.mp4", moving_frames(20, 160, 200, step=5))
    footage = Footage([tmp_path / "moving"], tmp_path / "cache")

    def strides(sampling):
        batches = Batches(footage, 32, sampling=sampling)
        chances = np.diff(batches.chances, prepend=0)
        return np.bincount(batches.table[:, 4], chances / chances.sum(), minlength=8)

    by_flow = strides(Sampling(strides=7, by_flow=True))
    assert by_flow[1:6].min() > 0
    assert by_flow[6:].max() == 0  # 6 x 5.6 pixels are over the limit
    assert strides(Sampling(strides=7))[6] > 0


# --- Variations ---


def test_zoomed_and_rotated_triplets_stay_consistent(tmp_path, make_clip):
    """The clip's colours are linear in space and time. The truth stays the mean; the slopes show the zoom."""
    rows, columns = np.mgrid[:160, :160]
    frames = np.stack([np.stack([columns, rows, np.full_like(rows, 12 * t)], axis=2) for t in range(8)])
    make_clip("linear/linear.mp4", frames.astype(np.uint8))
    footage = Footage([tmp_path / "linear"], tmp_path / "cache")
    one, truth, two = samples(footage, Sampling(zoom=1.5, rotation=20), total=64)
    inner = (..., slice(REACH, -REACH), slice(REACH, -REACH))
    assert torch.allclose(255 * (one[inner] + two[inner]) / 2, 255 * truth, atol=0.2)
    slopes = 255 * truth.diff(dim=3)[:, :, 8:-8, 8:-8].mean(dim=(2, 3)), 255 * truth.diff(dim=2).mean(dim=(2, 3))
    zoom = 1 / torch.hypot(*(slope.square().sum(dim=1).sqrt() for slope in slopes)) * 2**0.5
    assert zoom.min() < 0.9
    assert zoom.max() > 1.2


def test_noise_and_compression_do_not_change_the_truth(textured):
    clean, noisy = (samples(textured, sampling) for sampling in (Sampling(), Sampling(degraded=0.5)))
    assert torch.equal(clean[1], noisy[1])
    error = [(255 * (one - other)).abs().mean(dim=(1, 2, 3)) for one, other in zip(clean, noisy, strict=True)]
    changed = error[0] > 0
    assert 4 <= changed.sum() <= 12
    assert torch.equal(changed, error[2] > 0)
    assert 0.5 < error[0][changed].mean() < 8


def test_light_changes_linearly(textured):
    """The mean brightness of the middle frame is halfway between those of the outer frames."""
    batches = Batches(textured, 32, sampling=Sampling(light=0.1))
    frames = torch.full((16, 3, 3, 8, 8), 100.0)
    changes = batches.augmentation.draw_changes(np.random.default_rng(0), 16)
    varied = batches.augmentation.vary(frames, changes).mean(dim=(3, 4))
    assert torch.allclose((varied[:, 0] + varied[:, 2]) / 2, varied[:, 1], atol=1e-2)
    assert 5 < varied.std() < 40
    assert (varied[:, 0] - varied[:, 2]).abs().max() > 1


def test_show_writes_a_sheet_of_samples(film, tmp_path, capsys):
    """Each sample shows the first frame, the truth, the second frame and the motion. Two samples make up a row."""
    words = ["--data", film, "--out", tmp_path / "out", "--crop", 32, "--synthetic", 0.5, "--speed", 9, "--show", 4]
    assert train.main([str(word) for word in words]) == 0
    path = tmp_path / "out" / "samples.png"
    assert capsys.readouterr().out.splitlines()[-1] == str(path)
    sheet = pictures.read(path).pixels
    assert sheet.shape == (2 * 32 + 4, 2 * 4 * 32 + 4, 3)
    footage = Footage([film], tmp_path / "out" / "frames")
    _, truth, _ = Batches(footage, 32, 0, Sampling(synthetic=0.5, speed=9))(0, 4)
    expected = (255 * truth[3].flip(0)).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(sheet[36:, 132 + 32 : 132 + 64], expected)
    assert np.ptp(sheet[36:, 132 + 96 :]) > 10  # the motion
    assert list(tmp_path.rglob("*.checkpoint")) == []


def test_a_run_with_all_options_of_crops(film, stills, tmp_path, capsys):
    words = ["--steps", 2, "--synthetic", 0.3, "--speed", 20, "--objects", 2, "--stills", stills, "--by-flow"]
    words += ["--zoom", 1.3, "--rotation", 5, "--light", 0.1, "--degraded", 0.2, "--least-weight", 0.5, "--strides", 4]
    assert train.main(command(film, tmp_path / "out", *words)[1:]) == 0
    assert train.main(command(film, tmp_path / "out", "--steps", 3, "--resume")[1:]) == 0
    assert "changed: steps 2 -> 3\n" in capsys.readouterr().out  # the other options come from the checkpoint
