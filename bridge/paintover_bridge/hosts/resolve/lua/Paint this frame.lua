-- Paint the frame under the playhead; each save comes back to the timeline.
dofile("@MODULE@").run("paint")
