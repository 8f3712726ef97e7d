"""The fields of a model's prior: whether it is sampled, in how many steps, and how often."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import CheckBox, SpinBox
from magicgui.widgets.bases import ValueWidget
from qtpy.QtWidgets import QLabel, QWidget

from napari_swintormer.models.prior.prior_settings import PriorSettings
from napari_swintormer.plugin.shared.style import add_row, form_layout
from napari_swintormer.settings.deblur_settings import SAMPLES_MAX


class PriorFields(QWidget):
    """Rows that are there for models with a prior only."""

    def __init__(self) -> None:
        super().__init__()
        self.use_prior = CheckBox(
            value=True,
            text="",
            tooltip="Restore with what the model's diffusion prior samples. Off is quicker.",
        )
        self.steps = SpinBox(
            value=1,
            min=1,
            tooltip="Steps in which the prior is sampled. The model works best with its own\n"
            "number; the paper's prior gets better with more.",
        )
        self.samples = SpinBox(
            value=1,
            min=1,
            max=SAMPLES_MAX,
            tooltip="How many priors are drawn. The result is the mean of what they lead to,\n"
            "and takes as many times longer.",
        )
        self.uncertainty = CheckBox(
            value=False,
            text="",
            tooltip="Also make a layer of what the samples differ by: bright where the model\n"
            "made details up. Needs 2 samples or more.",
        )
        rows = form_layout(self)
        self.labels: list[QLabel] = [
            add_row(rows, "Prior", self.use_prior),
            add_row(rows, "Steps", self.steps),
            add_row(rows, "Samples", self.samples),
            add_row(rows, "Uncertainty", self.uncertainty),
        ]
        self.use_prior.changed.connect(self._enable)
        self.hide()

    def fields(self) -> tuple[ValueWidget[Any], ...]:
        """All fields, in tab order."""
        return self.use_prior, self.steps, self.samples, self.uncertainty

    def show_prior(self, prior: PriorSettings | None) -> None:
        """Show the rows for the prior of a newly chosen model, or hide them for one without."""
        self.setVisible(prior is not None)
        if prior is not None:
            self.steps.max = prior.start - 1
            self.steps.value = prior.num_inference_steps
        for field, value in ((self.use_prior, True), (self.samples, 1), (self.uncertainty, False)):
            field.value = value

    def settings(self) -> dict[str, Any]:
        """Give the settings that the fields stand for; none for a model without prior."""
        if self.isHidden():
            return {}
        if not self.use_prior.value:
            return {"prior": "off"}
        return {
            "num_inference_steps": self.steps.value,
            "samples": self.samples.value,
            "uncertainty": self.uncertainty.value,
        }

    def _enable(self, used: bool) -> None:
        for field in (self.steps, self.samples, self.uncertainty):
            field.enabled = used
