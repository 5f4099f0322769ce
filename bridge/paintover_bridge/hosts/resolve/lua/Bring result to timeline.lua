-- Put the newest result of the clip under the playhead on the timeline.
dofile("@MODULE@").run("bring")
