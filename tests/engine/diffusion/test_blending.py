from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from paintover_engine.diffusion.blending import MARGIN, anchored


def test_edit_is_kept_within_the_margin_of_the_matte() -> None:
    edited, plate = torch.ones(1, 4, 9, 12), torch.zeros(1, 4, 9, 12)
    matte = torch.zeros(1, 1, 18, 24)
    matte[..., 9, 11] = 0.5  # one soft pixel of the latent at (4, 5)
    found = anchored(edited, plate, matte)
    around = np.s_[:, :, 4 - MARGIN : 5 + MARGIN, 5 - MARGIN : 6 + MARGIN]
    assert (found[around] == 0.5).all()
    assert found.sum() == found[around].sum()
