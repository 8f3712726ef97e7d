"""What a card tells people of a model, in sentences, and what it tells experts, in rows."""

from __future__ import annotations

from collections.abc import Sequence

from napari_swintormer.engine.remembered import recall_speed, speed_key
from napari_swintormer.errors import SwintormerError
from napari_swintormer.models.catalogue import ModelInfo
from napari_swintormer.models.files.card import ModelCard
from napari_swintormer.models.files.weights import file_sha256
from napari_swintormer.plugin.deblur.kind_choice import good_for_sentence
from napari_swintormer.runs.blur_job import speed_name
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.settings.preferences import with_preferences
from napari_swintormer.tiling.plan import duration_text

TRAINED_ON = "Trained on"
_PHOTO = 12e6  # pixels of a usual photo
_KINDS = {  # sets that models were measured on, as people call them
    "photo": "photos out of focus",
    "photo-motion": "photos with camera shake",
    "microscopy": "microscopy images",
}
_LITTLE = 0.5  # share of the best gain below which a model is of little use


def for_people(info: ModelInfo, models: Sequence[ModelInfo]) -> list[tuple[str, str]]:
    """Return what a person wants to know before using a model, as rows of a name and a text."""
    card = info.card
    assert card is not None
    rows = [
        ("Good for", good_for_sentence(info)),
        ("Not for", not_for(card, [other.card for other in models if other.card is not None])),
        ("Speed", speed(info, card)),
        ("Your validation", _own_gain(card)),
        ("Licence", card.licence),
    ]
    return [(name, text) for name, text in rows if text]


def not_for(card: ModelCard, others: Sequence[ModelCard]) -> str:
    """Say where a model harms or gains little, by the figures of its card; empty if unknown."""
    if not card.finds_blur:
        return "Images whose blur nobody tells and that is not recognised: they stay as they are."
    told = []
    for name, words in _KINDS.items():
        figure = f"PSNR gain in the set {name}, dB"
        if figure not in card.metrics:
            continue
        gain = card.metrics[figure]
        best = max((other.metrics.get(figure, 0.0) for other in others), default=0.0)
        if gain < 0:
            told.append(f"{words} can get worse")
        elif gain < _LITTLE * best:
            told.append(f"{words} gain little")
    sentence = ", and ".join(told)
    return f"{sentence[:1].upper()}{sentence[1:]}." if told else ""


def speed(info: ModelInfo, card: ModelCard) -> str:
    """Say how long a photo takes on this computer, with the current preferences."""
    prior = card.prior.num_inference_steps if card.prior is not None else None
    settings = with_preferences(DeblurSettings(tile_size=card.tile_size, num_inference_steps=prior))
    try:
        name = file_sha256(info.path)
        name = speed_name(name) if card.network.known_blur else name
        rate = recall_speed(speed_key(name, settings), card.tile_size**2)
    except SwintormerError:  # the file was removed meanwhile
        rate = None
    if rate is None:
        return "The first run measures it."
    overlapping = (card.tile_size / (card.tile_size - card.overlap)) ** 2
    seconds = _PHOTO * overlapping / rate
    return f"A photo of 12 megapixels takes about {duration_text(seconds)} on this computer."


def for_experts(info: ModelInfo) -> list[tuple[str, str]]:
    """Return the other facts of a card as rows of a name and a value, without empty values."""
    card = info.card
    rows = [("File", str(info.path))]
    if card is not None:
        images, sources = sum(data.images for data in card.training_data), len(card.training_data)
        colours = "RGB and grey" if card.network.channels == 3 else "grey, or each colour alone"
        rows = [
            ("Summary", card.summary),
            ("Colours", colours),
            ("Views", ", ".join(card.views or ())),
            ("Tiles", f"{card.tile_size} px, overlap {card.overlap} px"),
            (TRAINED_ON, f"{images:,} images from {sources} sources" if sources else ""),
            ("Measured", "\n".join(f"{name}: {value:g}" for name, value in card.metrics.items())),
            ("Version", card.version),
            *rows,
        ]
    return [(name, value) for name, value in rows if value]


def _own_gain(card: ModelCard) -> str:
    """Say what a training in this program has gained on the images that it held out."""
    before = card.metrics.get("validation PSNR of the blurred patches, dB")
    after = card.metrics.get("validation PSNR, dB")
    if before is None or after is None:
        return ""
    return f"{after - before:+.2f} dB over the blurred images, to {after:.2f} dB"
