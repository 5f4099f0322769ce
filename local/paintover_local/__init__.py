"""What the engine and its clients agree on about one machine, so that neither imports the other.

places: the folders of the system and of host programs. pictures: the files that an artist paints on.
processes: how child processes are started. private_files: files that this user alone may have written.
proof: how an engine shows clients that it is the data folder's. The standard library alone, Python 3.9 and up.
"""
