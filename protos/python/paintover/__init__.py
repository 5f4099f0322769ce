"""The wire contract of Paintover, generated from the protos beside this folder."""
