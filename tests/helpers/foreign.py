"""Small random networks of other authors, for the tests of what runs them."""

from __future__ import annotations

import torch
from torch import nn


def network_of(name: str) -> nn.Module:
    """Build a small one with random weights: NAFNet, SwinIR or Restormer."""
    torch.manual_seed(0)
    if name == "NAFNet":
        from spandrel.architectures.NAFNet import NAFNet

        network = NAFNet(width=4, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1])
    elif name == "SwinIR":
        from spandrel.architectures.SwinIR import SwinIR

        network = SwinIR(embed_dim=12, depths=[1], num_heads=[2], window_size=8, upscale=1)
    else:
        from spandrel_extra_arches.architectures.Restormer import Restormer

        network = Restormer(
            dim=4, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 1, 1, 2]
        )
    for parameter in network.parameters():  # some begin as the identity
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network.eval()
