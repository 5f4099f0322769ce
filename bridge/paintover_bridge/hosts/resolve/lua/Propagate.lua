-- Carry the paintings of the clip under the playhead through it, by the final method.
dofile("@MODULE@").run("propagate")
