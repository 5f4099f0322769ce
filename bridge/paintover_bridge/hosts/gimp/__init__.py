"""Paintover in GIMP 2.10 and 3: *File > Paint Over a Shot* and *File > Save and See the Draft*."""
