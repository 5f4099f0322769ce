"""A small OpenFX host, with a switch for each quirk that real hosts were seen to have.

    host = Host(library, Quirks(depth="float", negative_rows=True))
    effect = host.create({"job": "jobs/1"}, source)     # source(time) gives (H, W, 4) pixels, row 0 at the top
    status, picture = effect.render(3.0)

Only what an effect like ours uses is there. Handles are numbers that this host looks up, so a wrong one is an error and
never a crash. Variadic functions are declared with fixed arguments, which is the same call on x86-64 Linux.
"""

from tests.plugin_ofx.ofx_host.host import Effect, Host, Overlay
from tests.plugin_ofx.ofx_host.objects import Image, Properties, make_image
from tests.plugin_ofx.ofx_host.quirks import DEPTHS, FAILED, OK, REPLY_DEFAULT, Pixels, Quirks, Source

__all__ = [
    "DEPTHS",
    "FAILED",
    "OK",
    "REPLY_DEFAULT",
    "Effect",
    "Host",
    "Image",
    "Overlay",
    "Pixels",
    "Properties",
    "Quirks",
    "Source",
    "make_image",
]
