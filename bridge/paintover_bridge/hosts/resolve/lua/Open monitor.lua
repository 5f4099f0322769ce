-- Show Paintover's queue in a browser.
dofile("@MODULE@").run("monitor")
