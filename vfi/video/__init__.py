"""Makes a video with more frames. The data go one way, and no file knows those after it:

source.py                a video file (reader.py), numbered pictures (sequence.py) or an animated one (animation.py),
                         to frames (frame.py)
plan.py                  the new frames by number, what the user asks for (options.py), when each is shown (timing.py);
                         vfi/cuts.py says where the scene changes
render.py                planes to RGB (colour.py), the network, RGB to planes
targets.py               frames to a video file: codecs.py, writer.py (parts), muxing.py (one file); or to pictures
rendering.py             all of it in one process: with background.py, decoding and encoding have threads of their own
part.py, gathering.py    the same in parts, which workers make and one process puts together
job.py                   from the request to the finished target, either way
"""
