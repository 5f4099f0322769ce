"""What Paintover is measured with: shots whose true edited frames are known, scores, and contact sheets.

scenes: rendered shots for the draft and the demo. clips, exact: a small world for video diffusion models. grids: the
same for image inpainting. scores: numbers against the truth. sheets: pictures to look at.
"""
