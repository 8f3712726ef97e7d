"""The plan: its figures, its one line, and the refusals before anything runs."""

import pytest

from napari_swintormer.errors import SettingsError, TilingError
from napari_swintormer.tiling.plan import DeviceMemory, RestorerProfile, make_plan


def test_figures_of_a_stack() -> None:
    plan = make_plan(
        (1000, 2000),
        dtype="uint16",
        tile_size=512,
        overlap=292,
        n_planes=3,
        channels=1,
        batch_size=2,
        profile=RestorerProfile(rate=512 * 512 * 10),
    )
    assert plan.n_tiles == 3 * 4 * 8
    assert plan.seconds == pytest.approx(9.6)
    assert plan.disk_bytes == 3 * 1000 * 2000 * 2 * 4 // 3
    assert plan.device_bytes is None


def test_memory_grows_with_the_width_only() -> None:
    def host(height: int, width: int) -> int:
        plan = make_plan((height, width), dtype="uint16", tile_size=512, overlap=64)
        return plan.host_bytes

    assert host(20_000, 20_000) == host(100_000, 20_000) < 0.2e9
    assert host(20_000, 20_000) < host(20_000, 100_000) < 5 * host(20_000, 20_000)


def test_memory_of_the_restorer_counts_where_it_lies() -> None:
    def plan(memory: DeviceMemory | None):  # type: ignore[no-untyped-def]
        return make_plan(
            (600, 600),
            dtype="uint8",
            tile_size=256,
            overlap=0,
            batch_size=4,
            profile=RestorerProfile(device_memory=memory),
        )

    used = int(1e6 + 100 * 256 * 256 * 4)
    assert plan(DeviceMemory(1e6, 100)).device_bytes == used
    on_host = plan(DeviceMemory(1e6, 100, on_host=True))
    assert on_host.device_bytes is None
    assert on_host.host_bytes == plan(None).host_bytes + used


@pytest.mark.parametrize(
    ("rate", "line"),
    [
        (None, "1 tile of 400 × 300 px on CPU, 7 MB of memory, 1 MB on disk"),
        (1e6, "1 tile of 400 × 300 px, about 1 s on CPU, 7 MB of memory, 1 MB on disk"),
        (1e3, "1 tile of 400 × 300 px, about 2 min on CPU, 7 MB of memory, 1 MB on disk"),
        (1, "1 tile of 400 × 300 px, about 33 hours on CPU, 7 MB of memory, 1 MB on disk"),
        (0.5, "1 tile of 400 × 300 px, about 3 days on CPU, 7 MB of memory, 1 MB on disk"),
    ],
)
def test_one_line(rate: float | None, line: str) -> None:
    profile = RestorerProfile(rate=rate)
    plan = make_plan((300, 400), dtype="uint8", tile_size=512, overlap=64, profile=profile)
    assert plan.describe("CPU") == line


def test_one_line_names_device_memory() -> None:
    plan = make_plan(
        (3000, 3000),
        dtype="uint16",
        tile_size=512,
        overlap=64,
        channels=3,
        profile=RestorerProfile(device_memory=DeviceMemory(1e8, 1e4)),
    )
    assert plan.describe("NVIDIA H100") == (
        "49 tiles of 512 px on NVIDIA H100, 0.3 GB of memory, 2.7 GB on the device, 0.1 GB on disk"
    )


def test_refusals() -> None:
    profile = RestorerProfile(minimum_tile_size=64)
    with pytest.raises(TilingError, match="Use tile_size >= 64"):
        make_plan((99, 99), dtype="uint8", tile_size=32, overlap=0, profile=profile)
    with pytest.raises(SettingsError, match=r"got batch_size=0\). Use 1 on a CPU"):
        make_plan((99, 99), dtype="uint8", tile_size=32, overlap=0, batch_size=0)
