"""Planes to RGB and back: exact, by the given matrix and range."""

import numpy as np
import pytest
import torch

from vfi.video.colour import FULL, LIMITED, Tags, frame_of, layout_of, planes_of

FORMATS = [
    "yuv420p",
    "yuv422p",
    "yuv444p",
    "yuv411p",
    "yuv410p",
    "yuv440p",
    "yuv420p10le",
    "yuv422p12le",
    "yuv444p16le",
    "yuva420p",
    "gray",
    "gray10le",
    "gbrp",
    "gbrp10le",
    "gbrap",
    "nv12",
    "p010le",
    "yuyv422",
    "rgb24",
    "bgra",
    "rgb48le",
]


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1)])
@pytest.mark.parametrize("name", FORMATS)
def test_the_round_trip_is_exact(name, size):
    for matrix in (1, 6, 9):
        for colour_range in (LIMITED, FULL):
            layout = layout_of(name, Tags(matrix=matrix, range=colour_range), (64, 48))
            generator = np.random.default_rng(matrix)
            planes = [generator.integers(0, 2**layout.bits, s).astype(layout.dtype) for s in layout.plane_sizes(*size)]
            back = layout.from_rgb(layout.to_rgb([torch.from_numpy(plane) for plane in planes]), *size)
            assert all(np.array_equal(plane, same) for plane, same in zip(planes, back, strict=True))
            if size == (48, 64):  # also through FFmpeg's frames, some of which interleave planes
                again = planes_of(frame_of(planes, layout, name), layout)
                assert all(np.array_equal(plane, same) for plane, same in zip(planes, again, strict=True))


@pytest.mark.parametrize(
    ("matrix", "colour_range", "red", "expected"),
    [
        # 8 bits of pure red, by the standards' own formulas: Y = 16 + 219 Kr, Cb = 128 - 112 Kr / (1 - Kb), Cr = 240.
        (6, LIMITED, 1, (81, 90, 240)),
        (1, LIMITED, 1, (63, 102, 240)),
        (9, LIMITED, 1, (74, 97, 240)),
        (6, FULL, 1, (76, 85, 255)),
        (1, FULL, 0.5, (27, 113, 192)),
    ],
)
def test_known_colours(matrix, colour_range, red, expected):
    layout = layout_of("yuv444p", Tags(matrix=matrix, range=colour_range))
    frame = torch.zeros(1, 3, 2, 2)
    frame[:, 0] = red
    assert [int(plane[0, 0]) for plane in layout.from_rgb(frame, 2, 2)] == pytest.approx(expected, abs=1)


def test_white_and_black_of_a_limited_range():
    layout = layout_of("yuv420p10le", Tags(matrix=9, range=LIMITED))
    for level, expected in ((64, 0), (940, 1)):
        planes = [
            torch.full(size, value, dtype=torch.uint16)
            for size, value in zip(layout.plane_sizes(4, 4), (level, 512, 512), strict=True)
        ]
        assert layout.to_rgb(planes) == pytest.approx(expected, abs=1e-6)


def test_an_unspecified_matrix_is_guessed_as_players_do():
    assert layout_of("yuv420p", Tags(), (720, 576)).matrix == 6
    assert layout_of("yuv420p", Tags(), (1280, 544)).matrix == 1
