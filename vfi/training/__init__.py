"""Training the network from any folder of videos. The data go one way:

clips.py          videos to scenes (frames in a cache), by the reader that run.py has
batches.py        scenes to the crops of a step: cutting.py cuts them, synthetic.py renders motion (also of stills.py),
                  augment.py varies them, flow.py finds fast ones, sheet.py shows them; feed.py cuts ahead of time
trainer.py        a step: the network, losses.py, the optimizer, the average of the weights
checkpoints.py    the files of a run; log.py its log, provenance.py where weights come from
loop.py           a run from the first check to the end of its budget: preparation.py decodes, budget.py counts minutes
                  or steps, reports.py measures; distributed.py joins several processes
recipe.py         what a user may choose of what a run learns
validation.py     measures weights on videos that they were not trained on; reach.py on pictures that move as a whole
"""
