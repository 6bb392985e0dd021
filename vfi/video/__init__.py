"""Makes a video with more frames. The data go one way, and no file knows those after it:

source.py                a video file (reader.py), numbered pictures (sequence.py) or an animated one (animation.py),
                         to frames (frame.py)
timing.py                which new frames there are, and when; it asks vfi/cuts.py where the scene changes
render.py                planes to RGB (colour.py), the network, RGB to planes
targets.py               frames to a video file: codecs.py, writer.py (parts), muxing.py (one file); or to pictures
job.py                   all of it at once: with background.py, decoding and encoding have threads of their own
"""
