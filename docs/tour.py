"""Walk through napari as photographers and microscopists do, in a real window.

``python docs/tour.py`` clicks, types and looks as a person does, in the dark and in the light
theme, and leaves a picture of every step in ``build/tour``. Some of them, and those of the demo,
become the pictures of README and guide. ``python docs/tour.py --count`` counts the clicks from
*Open Sample* to a saved result, and the controls on the screen.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import PIL.Image

if TYPE_CHECKING:
    from collections.abc import Callable

    from tour_hands import Person

SCREEN = (1366, 768)
DOCS = Path(__file__).parent
STEPS = DOCS.parent / "build" / "tour"
LARGEST = 200_000  # bytes of a picture in the documentation
PICTURES = {  # of README and guide: walk, theme and step
    "deblur-widget": ("photographer", "dark", "photo"),
    "deblur-blur": ("photographer", "dark", "map"),
    "deblur-try": ("photographer", "dark", "strengths"),
    "deblur-swipe": ("photographer", "dark", "swipe"),
    "deblur-settings": ("photographer", "light", "all settings"),
    "models-widget": ("photographer", "light", "model card"),
    "blur-measured": ("with a shaken photo", "light", "steady"),
    "stack-xy": ("microscopist", "dark", "from above"),
    "stack-xz": ("microscopist", "dark", "from the side"),
    "stack-3d": ("microscopist", "dark", "in 3-D"),
    "train-widget": ("trainer", "dark", "trained"),
}


def save(person: Person, saved: Path, picture: str | None = None) -> None:
    """Save the result; `picture` names a picture of the dialog."""
    person.press("Save …", lambda: person.answer_file_dialog(saved, picture))
    person.wait(saved.exists, "the saved file")
    person.see("saved")


def photographer(person: Person, saved: Path) -> None:
    """Open a photo, look where it is blurred, deblur it, compare, and save the result."""
    person.see("start")
    person.menu("File", "Open Sample", "Swintormer", "Circuit board")
    person.menu("Plugins", "Swintormer", "Deblur")
    person.see("panel")
    person.press("Photo")
    person.see("photo")
    person.press("Blur")
    person.press("Map")
    person.wait(lambda: len(person.viewer.layers) == 2, "the map")
    person.see("map")
    person.press_tool("delete_button")
    person.press("Blur")
    person.scroll(person.canvas, person.canvas.rect().center(), 6)
    person.press("Deblur this view")
    person.wait_for_run()
    person.see("preview")
    person.press("More")
    person.press("Strengths")
    person.wait_for_run()
    person.see("strengths")
    person.close("Try")
    person.press("More")
    person.press("Deblur all")
    person.wait_for_run()
    person.see("result")
    person.press("Swipe")
    person.see("swipe")
    person.press("Swipe")
    person.press("Before")
    person.see("before")
    person.press("Before")
    person.press("Difference")
    person.press("More")
    person.see("all settings")
    person.press("Card")
    making = ("Show an example", "The example is being made …")
    person.wait(lambda: not any(person.shows(text) for text in making), "the example")
    person.see("model card")
    person.tab("Deblur")
    person.press("More")
    save(person, saved.with_suffix(".png"), "save")


def with_a_shaken_photo(person: Person, saved: Path) -> None:
    """Open a shaken photo, let the blur be measured, undo it, and save the result."""
    person.menu("File", "Open Sample", "Swintormer", "Shaken board")
    person.menu("Plugins", "Swintormer", "Deblur")
    person.press("Photo")
    person.press("Blur")
    person.press("Is it blurred?")
    person.wait_for_run()
    person.see("measured")
    person.press("Deblur all")
    person.wait_for_run()
    person.press("Swipe")
    person.see("steady")
    save(person, saved)


def microscopist(person: Person, saved: Path) -> None:
    """Restore a stack as a volume, look at it from all sides, and save it."""
    person.menu("File", "Open Sample", "Swintormer", "Nuclei")
    person.menu("Plugins", "Swintormer", "Deblur")
    person.see("stack")
    person.press("Stack: as a volume")
    person.see("microscope")
    person.press("Stack: as a volume")
    person.press("Deblur all")
    person.wait_for_run()
    person.see("volume")
    person.press("Swipe")
    person.see("swipe")
    person.press("Swipe")
    person.press_tool("grid_view_button")
    person.press_tool("home")
    person.see("from above", canvas=True)
    person.press_tool("roll")
    person.see("from the side", canvas=True)
    person.press_tool("ndisplay_button")
    person.see("in 3-D", canvas=True)
    save(person, saved)


def trainer(person: Person, saved: Path) -> None:
    """Train a model on a pair of layers for a few steps, and use it at once."""
    person.menu("File", "Open Sample", "Swintormer", "Mitochondria")
    person.menu("Plugins", "Swintormer", "Train")
    person.see("pair")
    person.press("Check pairs")
    person.wait(lambda: person.has("Check pairs"), "the end of the check")
    person.see("checked")
    person.press("Training settings")
    person.enter("Steps", "40")
    person.see("settings")
    person.press("Training settings")
    person.press("Train")
    person.wait_for_run()
    person.see("trained")
    person.press("Deblur with it")
    person.see("own model")
    person.press("Deblur all")
    person.wait_for_run()
    person.press("Swipe")
    person.see("with own model")


def shortest(person: Person, saved: Path) -> None:
    """Take the shortest way to a saved result, and tell clicks and controls."""
    person.menu("File", "Open Sample", "Swintormer", "Circuit board")
    person.menu("Plugins", "Swintormer", "Deblur")
    told = [f"controls when the panel opens: {len(person.controls('Deblur'))}"]
    person.press("Photo")
    person.press(next(text for text in ("Deblur all", "Deblur") if person.has(text)))
    person.wait_for_run()
    told.append(f"controls beside the result: {len(person.controls('Deblur'))}")
    if person.has("Save …"):
        person.press("Save …", lambda: person.answer_file_dialog(saved))
    else:
        person.menu("File", "Save Selected", then=lambda: person.answer_file_dialog(saved))
    person.wait(saved.exists, "the saved file")
    told.append(f"clicks to the saved result: {person.n_clicks}")
    sys.stdout.write("\n".join(told) + "\n")


WALKS: dict[str, Callable[[Person, Path], None]] = {
    "photographer": photographer,
    "with a shaken photo": with_a_shaken_photo,
    "microscopist": microscopist,
    "trainer": trainer,
}


def walk(name: str, theme: str, do: Callable[[Person, Path], None], folder: Path) -> None:
    """Let a person do one walk in a new window."""
    import napari
    from qtpy.QtTest import QTest
    from tour_hands import Person

    viewer: Any = napari.Viewer(show=True)
    viewer.theme = theme
    window = viewer.window._qt_window
    window.setGeometry(0, 0, *SCREEN)
    QTest.qWait(500)
    place = STEPS / f"{name} {theme}"
    shutil.rmtree(place, ignore_errors=True)
    person = Person(viewer, place)
    do(person, folder / f"{name}-{theme}.ome.tif")
    if (window.width(), window.height()) != SCREEN:
        raise RuntimeError(f"The window has grown to {window.width()} × {window.height()} pixels.")
    sys.stdout.write(f"{name}, {theme}: {person.n_clicks} clicks\n")
    viewer.close()


def copy_pictures() -> None:
    """Copy the pictures of the documentation from the steps of the tour."""
    for picture, (name, theme, step) in PICTURES.items():
        for file in (STEPS / f"{name} {theme}").glob(f"?? {step}.png"):
            with PIL.Image.open(file) as image:
                store(image.convert("RGB"), picture)


def copy_demo(folder: Path) -> None:
    """Copy the photos of the demo, before and after."""
    from napari_swintormer.cli.demo import make_demo
    from napari_swintormer.settings.deblur_settings import DeblurSettings

    make_demo(folder, DeblurSettings())
    with PIL.Image.open(folder / "circuit_board_before_after.png") as image:
        store(image, "before-after")
    with PIL.Image.open(folder / "shaken_board_before_after.png") as image:
        store(image.crop((0, 0, image.width, image.height // 2 + 17)), "shaken")


def store(image: PIL.Image.Image, name: str) -> None:
    """Store a picture of the documentation, as good as its size allows."""
    file = DOCS / "images" / f"{name}.jpg"
    for quality in (88, 82, 75, 65):
        image.save(file, quality=quality, subsampling=0, optimize=True)
        if file.stat().st_size < LARGEST:
            return


def start_virtual_display(exits: ExitStack) -> None:
    """Start Xvfb and let Qt draw on it, so that no window of the user's is in the picture."""
    if sys.platform != "linux" or shutil.which("Xvfb") is None:
        return
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{SCREEN[0]}x{SCREEN[1]}x24"]
    server = subprocess.Popen([*command, "-nolisten", "tcp"], pass_fds=[writing])
    exits.callback(server.terminate)
    os.close(writing)
    with os.fdopen(reading) as number:
        os.environ["DISPLAY"] = f":{number.readline().strip()}"
    os.environ["QT_QPA_PLATFORM"] = "xcb"


def main() -> None:
    """Do the walks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("walks", nargs="*", help=f"walks to do, or all: {', '.join(WALKS)}")
    parser.add_argument("--theme", choices=["dark", "light"], help="one theme; both")
    parser.add_argument("--count", action="store_true", help="only count clicks and controls")
    arguments = parser.parse_args()
    os.environ["NAPARI_CONFIG"] = ""  # napari as it is after installation
    with ExitStack() as exits:
        folder = Path(exits.enter_context(TemporaryDirectory()))
        os.environ["SWINTORMER_HOME"] = str(folder / "home")  # no model is left
        start_virtual_display(exits)
        sys.path.insert(0, str(DOCS))
        if arguments.count:
            walk("shortest", "dark", shortest, folder)
            return
        for theme in [arguments.theme] if arguments.theme else ["dark", "light"]:
            for name in arguments.walks or WALKS:
                walk(name, theme, WALKS[name], folder)
        copy_pictures()
        if not arguments.walks:
            copy_demo(folder)


if __name__ == "__main__":
    main()
