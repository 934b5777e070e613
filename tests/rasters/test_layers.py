from __future__ import annotations

import pickle
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from rasters.fakes import centres, counting, write_raster
from releve.errors import RasterError
from releve.ingest.config import RasterConfig
from releve.rasters.layers import Layer, open_layers
from releve.rasters.sample import sample_layers

OWN = Path(__file__).parents[3] / "shared" / "data" / "own"
needs_own = pytest.mark.skipif(not OWN.is_dir(), reason="the shared data are not here")


def layers_of(
    folder: Path, file: str | tuple[str, ...], *, study: str | None = None, **facts: object
) -> dict[str, Layer]:
    return {layer.name: layer for layer in open_layers([RasterConfig(file=file, **facts)], folder, crs=study)}


def test_layers_know_what_the_file_says(tmp_path: Path) -> None:
    values = np.stack([counting(3, 4), counting(3, 4) + 100]).astype("int16")
    write_raster(
        tmp_path / "climate.tif",
        values,
        nodata=-999,
        names=("bio1", ""),
        scales=(0.1, 1.0),
        offsets=(-273.15, 0.0),
        units=("K", "mm"),
    )
    bio1, second = open_layers([RasterConfig(file="climate.tif", group="climate")], tmp_path)
    assert (bio1.name, second.name) == ("bio1", "climate_2")
    assert (bio1.scale, bio1.offset, bio1.units, bio1.nodata, bio1.band) == (0.1, -273.15, "K", -999.0, 1)
    assert (second.scale, second.offset, second.units, second.band) == (1.0, 0.0, "mm", 2)
    assert bio1.grid.crs == "EPSG:4326" and (bio1.grid.height, bio1.grid.width) == (3, 4)
    assert bio1.grid.transform == (1.0, 0.0, 10.0, 0.0, -1.0, 52.0)
    assert bio1.group == "climate" and bio1.dtype == "int16" and not bio1.categorical
    assert pickle.loads(pickle.dumps(bio1)) == bio1


def test_what_the_study_says_goes_before_what_the_file_says(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", counting(3, 4), nodata=-1, scales=(2.0,))
    layer = layers_of(
        tmp_path, "a.tif", names=("heat",), nodata="-9999", scale=0.5, offset=1.0, crs="EPSG:25832", bands=(1,)
    )["heat"]
    assert (layer.nodata, layer.scale, layer.offset, layer.grid.crs) == (-9999.0, 0.5, 1.0, "EPSG:25832")


def test_files_of_a_pattern_come_by_the_numbers_in_their_names_and_without_what_lies_beside_them(
    tmp_path: Path,
) -> None:
    for name in ("bio10.tif", "bio2.tif", "Bio1.tif"):
        write_raster(tmp_path / "climate" / name, counting(2, 2))
    (tmp_path / "climate" / "bio2.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    (tmp_path / "climate" / "README.md").write_text("Climate.")
    assert list(layers_of(tmp_path, "climate/*")) == ["Bio1", "bio2", "bio10"]


def test_a_name_that_a_file_has_is_no_pattern(tmp_path: Path) -> None:
    write_raster(tmp_path / "[draft] élévation 1.tif", counting(2, 2))
    write_raster(tmp_path / "d.tif", counting(2, 2))
    assert list(layers_of(tmp_path, "[draft] élévation 1.tif")) == ["[draft] élévation 1"]
    assert list(layers_of(tmp_path, "[draft]*.tif")) == ["[draft] élévation 1"]
    try:
        write_raster(tmp_path / "what?.tif", counting(2, 2))
    except (OSError, rasterio.errors.RasterioError):
        return  # Windows has no such name
    assert list(layers_of(tmp_path, "what?.tif")) == ["what?"]


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    write_raster(tmp_path / "elsewhere" / "a.tif", counting(2, 2))
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "rasters").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert list(layers_of(tmp_path / "study", "rasters/*.tif")) == ["a"]
    assert list(layers_of(tmp_path / "study", "*/*.tif")) == ["a"]


@pytest.mark.parametrize(
    ("make", "file", "said"),
    [
        (lambda p: write_raster(p / "bio1.tif", counting(2, 2)), "bio01.tif", r"did you mean 'bio1.tif'\?"),
        (lambda p: None, "climate/bio1.tif", "There is no folder .*climate either"),
        (lambda p: None, "*.tif", r"no raster matches '\*.tif'"),
        (lambda p: (p / "a.tif").touch(), "a.tif", "a.tif has 0 bytes"),
        (lambda p: (p / "a.tif").symlink_to(p / "b.tif"), "a.tif", "a.tif is a link to .*b.tif, which is not there"),
        (lambda p: (p / "a.tif").touch(), "*.tif", "a.tif has 0 bytes"),
        (lambda p: (p / "a.tif").write_text("no raster at all"), "a.tif", "a.tif cannot be read"),
        (lambda p: write_raster(p / "a.tif", counting(2, 2), crs=None), "a.tif", 'no CRS.*crs = "EPSG:.*EPSG:4326'),
        (
            lambda p: write_raster(p / "a.tif", counting(2, 2), crs=None, west=249_000.0, north=6_632_000.0),
            "a.tif",
            'corners are 249000, 6.632e.06.*crs = "EPSG:.*UTM',
        ),
        (
            lambda p: write_raster(p / "a.tif", counting(2, 2), transform=rasterio.Affine.identity()),
            "a.tif",
            "no transform",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_that_cannot_be_used_is_one_clear_error(tmp_path: Path, make, file: str, said: str) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path)
    with pytest.raises(RasterError, match=said):
        layers_of(tmp_path, file)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"file": "metres.tif", "crs": "EPSG:4326"}, "249000, 6.63.* are no degrees, as EPSG:4326 has them"),
        ({"bands": (2,)}, "no band 2. expected 1 to 1"),
        ({"names": ("a", "b")}, "2 names for the 1 layers"),
        ({"crs": "EPSG:0"}, "'EPSG:0' is no CRS"),
        ({"categorical": ("soils",)}, "did you mean 'soil'"),
        ({"method": "share", "radius_m": 1000.0}, "at most 255 classes in whole numbers"),
    ],
)
def test_a_description_that_does_not_fit_its_raster_is_refused(tmp_path: Path, facts: dict, said: str) -> None:
    write_raster(tmp_path / "soil.tif", counting(3, 3))
    write_raster(tmp_path / "metres.tif", counting(3, 3), crs="EPSG:32632", west=249_000.0, north=6_632_000.0)
    with pytest.raises(RasterError, match=said):
        layers_of(tmp_path, **({"file": "soil.tif"} | facts))


def test_two_layers_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("now", "later"):
        write_raster(tmp_path / folder / "bio1.tif", counting(2, 2))
    rasters = [RasterConfig(file="now/bio1.tif"), RasterConfig(file="later/bio1.tif")]
    with pytest.raises(RasterError, match="two layers are called 'bio1'.*now.*later.*names"):
        open_layers(rasters, tmp_path)


def test_a_study_gives_its_crs_to_rasters_that_have_none(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", counting(2, 2), crs=None)
    write_raster(tmp_path / "b.tif", counting(2, 2), crs="EPSG:4326")
    found = layers_of(tmp_path, "*.tif", study="EPSG:25832")
    assert [layer.grid.crs for layer in found.values()] == ["EPSG:25832", "EPSG:4326"]


def test_classes_are_known_by_a_table_or_by_their_look_and_quantities_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    patches = np.repeat(np.repeat(rng.choice([11, 12, 40, 50, 90], (12, 12)), 5, 0), 5, 1).astype("uint8")
    write_raster(tmp_path / "cover.tif", patches)
    write_raster(tmp_path / "as_floats.tif", patches.astype("float64"))
    slope = np.add.outer(np.arange(60), np.arange(60)) // 10
    write_raster(tmp_path / "tenths.tif", slope.astype("int16"))
    write_raster(tmp_path / "presence.tif", (patches > 20).astype("uint8"))
    write_raster(tmp_path / "below.tif", patches.astype("int16") - 50)
    write_raster(tmp_path / "scaled.tif", patches, scales=(0.1,))
    path = write_raster(tmp_path / "coloured.tif", slope.astype("uint8"))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 255, 255, 255)})
    found = layers_of(tmp_path, "*.tif")
    how = {name: layer.found_by for name, layer in found.items()}
    assert how == {
        "cover": "whole numbers without order",
        "as_floats": "whole numbers without order",
        "tenths": "",
        "presence": "",
        "below": "",
        "scaled": "",
        "coloured": "colour table",
    }
    assert {name for name, layer in found.items() if layer.categorical} == {"cover", "as_floats", "coloured"}
    assert found["cover"].classes == ((11, ""), (12, ""), (40, ""), (50, ""), (90, ""))
    assert not layers_of(tmp_path, "cover.tif", categorical=False)["cover"].categorical
    declared = layers_of(tmp_path, "tenths.tif", categorical=("tenths",))["tenths"]
    assert declared.categorical and declared.found_by == "declared"


def test_classes_are_never_averaged(tmp_path: Path) -> None:
    write_raster(tmp_path / "cover.tif", np.array([[1, 9], [9, 1]], "uint8"))
    layer = layers_of(tmp_path, "cover.tif", method="bilinear", categorical=True)["cover"]
    assert layer.method == "nearest"
    assert sample_layers([layer], [10.9], [51.9]).values.tolist() == [[1.0]]


TABLE = """<PAMDataset><PAMRasterBand band="1"><GDALRasterAttributeTable tableType="thematic">
<FieldDefn index="0"><Name>{value}</Name><Type>0</Type><Usage>{usage}</Usage></FieldDefn>
<FieldDefn index="1"><Name>Count</Name><Type>0</Type><Usage>1</Usage></FieldDefn>
<FieldDefn index="2"><Name>Label</Name><Type>2</Type><Usage>0</Usage></FieldDefn>
<Row index="0"><F>3</F><F>10</F><F>bog</F></Row><Row index="1"><F>1</F><F>6</F><F>heath &amp; moor</F></Row>
</GDALRasterAttributeTable></PAMRasterBand></PAMDataset>"""
CATEGORIES = """<PAMDataset><PAMRasterBand band="1"><CategoryNames><Category></Category><Category>heath</Category>
<Category>bog</Category></CategoryNames></PAMRasterBand></PAMDataset>"""


@pytest.mark.parametrize(
    ("table", "how", "classes"),
    [
        (TABLE.format(value="Value", usage=0), "attribute table", ((1, "heath & moor"), (3, "bog"))),
        (TABLE.format(value="K", usage=5), "attribute table", ((1, "heath & moor"), (3, "bog"))),
        (CATEGORIES, "table of categories", ((1, "heath"), (2, "bog"))),
    ],
)
def test_names_of_classes_are_read_from_tables(tmp_path: Path, table: str, how: str, classes: tuple) -> None:
    write_raster(tmp_path / "habitat.tif", np.array([[1, 3], [3, 1]], "uint8"))
    (tmp_path / "habitat.tif.aux.xml").write_text(table)
    layer = layers_of(tmp_path, "habitat.tif")["habitat"]
    assert (layer.found_by, layer.classes) == (how, classes)


def test_the_columns_of_shares_are_all_classes_of_the_raster_whatever_the_places(tmp_path: Path) -> None:
    write_raster(tmp_path / "cover.tif", np.array([[7, 3], [255, 3]], "uint8"), nodata=255)
    layer = layers_of(tmp_path, "cover.tif", method="share", radius_m=500.0)["cover"]
    assert layer.columns == ("cover=3", "cover=7")


def test_derived_layers_stand_beside_their_elevations(tmp_path: Path) -> None:
    write_raster(tmp_path / "dem.tif", counting(4, 4), units=("m",))
    found = layers_of(tmp_path, "dem.tif", derive=("slope", "roughness"))
    assert list(found) == ["dem", "dem_slope", "dem_roughness"]
    assert [layer.derived_from for layer in found.values()] == ["", "dem", "dem"]
    assert [layer.units for layer in found.values()] == ["m", "degrees", "m"]


def test_bands_that_are_called_layers_take_the_files_name(tmp_path: Path) -> None:
    write_raster(tmp_path / "soil.tif", np.stack([counting(2, 2)] * 2), names=("Layer_1", "Band 2"))
    assert list(layers_of(tmp_path, "soil.tif")) == ["soil_1", "soil_2"]


def test_a_netcdf_of_one_variable_is_a_raster_and_of_several_their_names_are_told(tmp_path: Path) -> None:
    one = write_raster(tmp_path / "one.tif", counting(3, 4))
    rasterio.shutil.copy(one, tmp_path / "my tas.nc", driver="netCDF")
    layer = layers_of(tmp_path, "my tas.nc")["my tas"]
    lon, lat = centres([0, 2], [1, 3])
    assert sample_layers([layer], lon, lat).values.ravel().tolist() == [1.5, 11.5]
    two = write_raster(tmp_path / "two.tif", np.stack([counting(3, 4), counting(3, 4) + 12]))
    rasterio.shutil.copy(two, tmp_path / "two.nc", driver="netCDF")
    with pytest.raises(RasterError, match="""holds 2 rasters: .'Band1', 'Band2'.*NETCDF:"two.nc":Band1"""):
        layers_of(tmp_path, "two.nc")
    second = layers_of(tmp_path, 'NETCDF:"two.nc":Band2')["Band2"]
    assert sample_layers([second], lon, lat).values.ravel().tolist() == [13.5, 23.5]


def test_other_formats_are_read_as_well(tmp_path: Path) -> None:
    values = counting(3, 4)
    write_raster(tmp_path / "native.grd", values, driver="RRASTER")
    write_raster(tmp_path / "erdas.img", values, driver="HFA")
    lines = "ncols 4\nnrows 3\nxllcorner 10\nyllcorner 49\ncellsize 1\nNODATA_value -9999\n"
    (tmp_path / "ascii.asc").write_text(lines + "\n".join(" ".join(map(str, row)) for row in values.tolist()))
    found = open_layers([RasterConfig(file=("native.grd", "erdas.img", "ascii.asc"))], tmp_path, crs="EPSG:4326")
    lon, lat = centres([0, 2, 1], [0, 3, 2])
    sampled = sample_layers(found, lon, lat)
    assert sampled.names == ("native", "erdas", "ascii")
    assert sampled.values.tolist() == [[0.5] * 3, [11.5] * 3, [6.5] * 3]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    script = Path(__file__).with_name("serve.py")
    with subprocess.Popen([sys.executable, script, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


def test_a_remote_raster_is_read_where_it_is(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    write_raster(tmp_path / "bio1.tif", counting(3, 4))
    lon, lat = centres([0, 2], [1, 3])
    for file in (f"{server}/bio1.tif", f"/vsicurl/{server}/bio1.tif"):
        layers = open_layers([RasterConfig(file=file)], Path("nowhere"))
        assert [layer.name for layer in layers] == ["bio1"]
        assert sample_layers(layers, lon, lat).values.ravel().tolist() == [1.5, 11.5]
    with pytest.raises(RasterError, match="bio2.tif cannot be read"):
        open_layers([RasterConfig(file=f"{server}/bio2.tif")], tmp_path)


@needs_own
def test_real_stacks_are_understood() -> None:
    grass = layers_of(OWN / "grasslands", ("EV_continuous/*.asc", "EV_categorical/*.asc"), study="EPSG:32632")
    classes = {name for name, layer in grass.items() if layer.categorical}
    assert classes == {"geoberg", "geolmja1", "lcucor1", "terslpps15"} and len(grass) == 13
    island = layers_of(OWN / "new-caledonia", "*.tif")
    assert {name: layer.categorical for name, layer in island.items()} == {
        "RAINFALL": False,
        "SUBSTRATE": True,
        "TEMPERATURE": False,
    }
    potato = layers_of(OWN / "potato", ("bio.tif", "biome.tif"))
    assert list(potato) == ["bio1", "bio5", "bio6", "bio7", "bio8", "bio9", "bio12", "bio16", "bio17", "biome"]
    assert [name for name, layer in potato.items() if layer.categorical] == ["biome"]
    assert list(layers_of(OWN / "southwest", "swBioclims.grd")) == ["bio15", "bio18", "bio19", "bio5", "bio6"]
    with pytest.raises(RasterError, match="no CRS"):
        layers_of(OWN / "grasslands", "EV_continuous/terdem.asc")


def test_classes_are_known_beside_a_fill_that_the_file_does_not_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cover = rng.choice([11, 12, 40, 50, 90], (30, 30)).astype("int16")
    cover[:5] = -9999
    write_raster(tmp_path / "cover.tif", cover)
    layer = layers_of(tmp_path, "cover.tif")["cover"]
    assert [code for code, _ in layer.classes] == [11, 12, 40, 50, 90]


def test_a_folder_is_no_raster(tmp_path: Path) -> None:
    write_raster(tmp_path / "climate" / "a.tif", counting(2, 2))
    with pytest.raises(RasterError, match=r'climate is a folder.*file = "climate/\*"'):
        layers_of(tmp_path, "climate")


def test_bands_of_several_types_are_read_together(tmp_path: Path) -> None:
    one = write_raster(tmp_path / "one.tif", np.arange(6, dtype="uint8").reshape(2, 3) * 40)
    write_raster(tmp_path / "two.tif", counting(2, 3))
    rasterio.shutil.copy(one, tmp_path / "both.vrt", driver="VRT")
    text = (tmp_path / "both.vrt").read_text()
    start, end = text.index("<VRTRasterBand"), text.index("</VRTDataset>")
    second = text[start:end].replace('band="1"', 'band="2"').replace("Byte", "Float32").replace("one.tif", "two.tif")
    (tmp_path / "both.vrt").write_text(text[:end] + second + text[end:])
    layers = open_layers([RasterConfig(file="both.vrt", categorical=False)], tmp_path)
    assert [layer.dtype for layer in layers] == ["uint8", "float32"]
    lon, lat = centres([0, 1], [2, 1])
    assert sample_layers(layers, lon, lat).values.tolist() == [[80.0, 2.5], [160.0, 4.5]]


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    write_raster(tmp_path / "radar.tif", np.ones((2, 2), "complex64"))
    with pytest.raises(RasterError, match="radar.tif holds complex numbers"):
        layers_of(tmp_path, "radar.tif")


def test_accents_may_be_written_in_two_ways(tmp_path: Path) -> None:
    write_raster(tmp_path / unicodedata.normalize("NFD", "élévation.tif"), counting(2, 2))
    assert len(layers_of(tmp_path, unicodedata.normalize("NFC", "élévation.tif"))) == 1
