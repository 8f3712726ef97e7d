"""The Swintormer network and the deconvolution in front of it."""
