"""Deblur a sample image with the napari viewer API, step by step as a user does it.

Run it with ``python examples/deblur_in_viewer.py``. The result appears as a new layer above the
blurred one, in the same place. Its metadata tell how it was made.
"""

import napari


def deblur_sample(viewer, sample="circuit-board"):
    """Open a bundled image and start deblurring it.

    Returns the Deblur widget. Its signal `finished` passes the new layer. Until then the viewer can
    be used, and ``widget.cancel()`` stops the run.
    """
    (blurred,) = viewer.open_sample("napari-swintormer", sample)
    _, widget = viewer.window.add_plugin_dock_widget("napari-swintormer", "Deblur")
    widget.form.image.value = blurred
    widget.form.precision.value = "fp32"  # every field of the widget can be set like this
    widget.finished.connect(describe)
    widget.run()
    return widget


def describe(layer):
    """Print what the run has added to the viewer."""
    if layer is None:
        print("The run was cancelled or failed. The viewer did not change.")
    else:
        made = layer.metadata["swintormer"]
        print(f"{layer.name}: {made['model']}, {made['settings']}")


if __name__ == "__main__":
    deblur_sample(napari.Viewer())
    napari.run()
