"""The networks, their weights files and the catalogue of models; knows no tiles and no images."""
