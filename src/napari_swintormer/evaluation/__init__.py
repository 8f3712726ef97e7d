"""How well a model deblurs: metrics, data sets with a fixed seed, classical baselines, reports."""
