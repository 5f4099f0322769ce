"""The scenes' procedural textures: landscapes, balloon cloth, a bus's panels, and the paint of the edits.

Textures are uint8, RGB or premultiplied RGBA, (H, W, C). Sizes are in units of the surface; a density is in texels per
unit, so that a texture is the same at every density, only finer.
"""
