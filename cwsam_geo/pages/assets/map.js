// The zoomable map of a report, in the pixel space of the raster. Classes and confidence are drawn
// from embedded arrays, so that a click reads the value itself, not a colour.
document.documentElement.classList.replace("no-js", "js");
(() => {
  "use strict";
  const container = document.getElementById("map");
  const data = document.getElementById("map-data");
  if (!container || !data) return;
  const view = JSON.parse(data.textContent);
  const { width, height, place } = view;
  const say = (text) => { document.getElementById("map-answer").textContent = text; };

  if (typeof DecompressionStream === "undefined") {
    document.documentElement.classList.replace("js", "no-js");
    return;
  }

  // ---------------------------------------------------------------- embedded arrays and pictures

  const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

  async function inflated(text) {
    const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function picture(text) {
    return new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error("a part of the picture cannot be decoded"));
      image.src = text;
    });
  }

  // Decoded chunks, the least recently used ones forgotten: the whole of a large map is hundreds
  // of megabytes.
  class Chunks {
    constructor(levels, side, decode, most) {
      Object.assign(this, { levels, side, decode, most, kept: new Map() });
    }

    // A promise of a chunk; a number where all its pixels have one value, null where it is empty.
    get(k, i, j) {
      const stored = this.levels[k].chunks[i][j];
      if (typeof stored !== "string") return stored;
      const key = `${k}/${i}/${j}`;
      const found = this.kept.get(key) || this.decode(stored);
      this.kept.delete(key);
      this.kept.set(key, found);
      if (this.kept.size > this.most) this.kept.delete(this.kept.keys().next().value);
      return found;
    }

    // The coarsest level whose cells are no larger than a pixel of the screen (cells a pixel).
    level(perPixel) {
      let best = 0;
      this.levels.forEach((level, k) => { if (level.down <= perPixel * 1.05) best = k; });
      return best;
    }
  }

  const indices = (start, step, count, cell, most) => Int32Array.from({ length: count }, (_, n) => {
    const index = Math.floor((start + (n + 0.5) * step) / cell);
    return index < 0 || index >= most ? -1 : index;
  });

  const Canvas = L.GridLayer.extend({
    createTile(coords, done) {
      const tile = document.createElement("canvas");
      const size = this.getTileSize();
      tile.width = size.x;
      tile.height = size.y;
      const corner = this._map.unproject(coords.scaleBy(size), coords.z);
      const next = this._map.unproject(coords.scaleBy(size).add([1, 1]), coords.z);
      // Columns and rows of the raster: first, and how many each pixel of the screen spans.
      const area = {
        col: corner.lng, row: -corner.lat,
        right: next.lng - corner.lng, down: corner.lat - next.lat,
      };
      this.paint(tile, area).then(() => done(null, tile), (error) => { report(error); done(error, tile); });
      return tile;
    },
  });

  const Codes = Canvas.extend({
    initialize(spec, options) {
      L.GridLayer.prototype.initialize.call(this, options);
      this.spec = spec;
      this.hidden = new Set();
      this.chunks = new Chunks(spec.levels, view.side, inflated, 512);
    },

    colours() {
      // Bytes of a pixel are red, green, blue, opacity; codes without a colour stay transparent.
      const table = new Uint8ClampedArray(1024);
      for (const [code, , color] of this.spec.entries) {
        if (this.hidden.has(code)) continue;
        const rgb = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
        table.set([...rgb, 255], 4 * code);
      }
      return new Uint32Array(table.buffer);
    },

    async paint(tile, area) {
      const k = this.chunks.level(area.down);
      const level = this.spec.levels[k];
      const { side } = view;
      const cols = indices(area.col, area.right, tile.width, level.right, level.width);
      const rows = indices(area.row, area.down, tile.height, level.down, level.height);
      const needed = new Map();
      for (const i of new Set(rows.map((r) => (r < 0 ? -1 : Math.floor(r / side))))) {
        for (const j of new Set(cols.map((c) => (c < 0 ? -1 : Math.floor(c / side))))) {
          if (i >= 0 && j >= 0) needed.set(i * 65536 + j, this.chunks.get(k, i, j));
        }
      }
      const keys = [...needed.keys()];
      const parts = await Promise.all(needed.values());
      const chunk = new Map(keys.map((key, n) => [key, parts[n]]));
      const colours = this.colours();
      const image = new ImageData(tile.width, tile.height);
      const pixels = new Uint32Array(image.data.buffer);
      for (let y = 0; y < tile.height; y += 1) {
        if (rows[y] < 0) continue;
        const i = Math.floor(rows[y] / side);
        for (let x = 0; x < tile.width; x += 1) {
          if (cols[x] < 0) continue;
          const j = Math.floor(cols[x] / side);
          const values = chunk.get(i * 65536 + j);
          if (values === null) continue;
          const code = typeof values === "number" ? values
            : values[(rows[y] - i * side) * Math.min(side, level.width - j * side) + cols[x] - j * side];
          pixels[y * tile.width + x] = colours[code];
        }
      }
      tile.getContext("2d").putImageData(image, 0, 0);
    },

    // The stored value at a column and row of the raster; null where there is none.
    async value(col, row) {
      const level = this.spec.levels[0];
      const { side } = view;
      const c = Math.min(level.width - 1, Math.floor(col / level.right));
      const r = Math.min(level.height - 1, Math.floor(row / level.down));
      const [i, j] = [Math.floor(r / side), Math.floor(c / side)];
      const values = await this.chunks.get(0, i, j);
      if (values === null || typeof values === "number") return values;
      const code = values[(r - i * side) * Math.min(side, level.width - j * side) + c - j * side];
      return code === this.spec.nodata ? null : code;
    },
  });

  const Picture = Canvas.extend({
    initialize(spec, options) {
      L.GridLayer.prototype.initialize.call(this, options);
      this.spec = spec;
      this.chunks = new Chunks(spec.levels, view.pictureSide, picture, 96);
    },

    async paint(tile, area) {
      const k = this.chunks.level(area.down);
      const level = this.spec.levels[k];
      const side = view.pictureSide;
      const context = tile.getContext("2d");
      // Smooth where the picture is reduced; pixels stay pixels where it is enlarged.
      context.imageSmoothingEnabled = area.down > level.down;
      const first = (start, cell) => Math.max(0, Math.floor(start / cell / side));
      const last = (end, cell, size) => Math.min(Math.ceil(size / side), Math.ceil(end / cell / side));
      const work = [];
      for (let i = first(area.row, level.down);
        i < last(area.row + tile.height * area.down, level.down, level.height); i += 1) {
        for (let j = first(area.col, level.right);
          j < last(area.col + tile.width * area.right, level.right, level.width); j += 1) {
          work.push([i, j]);
        }
      }
      const images = await Promise.all(work.map(([i, j]) => this.chunks.get(k, i, j)));
      const x = (cell) => Math.round((cell * level.right - area.col) / area.right);
      const y = (cell) => Math.round((cell * level.down - area.row) / area.down);
      work.forEach(([i, j], n) => {
        if (images[n] === null) return;
        const [left, top] = [x(j * side), y(i * side)];
        const right = x(Math.min(level.width, (j + 1) * side));
        const bottom = y(Math.min(level.height, (i + 1) * side));
        context.drawImage(images[n], left, top, Math.max(1, right - left), Math.max(1, bottom - top));
      });
    },
  });

  function outlines(spec) {
    // Rings are pixel corners, each a difference to the one before.
    const rings = spec.rings.map((flat) => {
      const points = [];
      let [col, row] = [0, 0];
      for (let n = 0; n < flat.length; n += 2) {
        col += flat[n];
        row += flat[n + 1];
        points.push([-row / spec.scale, col / spec.scale]);
      }
      return points;
    });
    return L.polyline(rings, {
      color: spec.color, weight: 1.2, interactive: false, renderer: L.canvas({ padding: 0.3 }),
    });
  }

  function pointMarkers(spec) {
    const renderer = L.canvas({ padding: 0.3 });
    return L.featureGroup(spec.points.map(([col, row, code, text]) => L.circleMarker([-row, col], {
      renderer, radius: 5, weight: 1.5, color: "#fff", fillOpacity: 1, bubblingMouseEvents: true,
      fillColor: spec.entries.find(([known]) => known === code)[2],
    }).bindTooltip(() => escaped(text))));
  }

  const escaped = (text) => {
    const made = document.createElement("span");
    made.textContent = text;
    return made;
  };

  // ------------------------------------------------------------------------------- coordinates

  // Between knots over the raster, which are [rows][cols] of a coordinate.
  function between(knots, col, row) {
    const v = (row / height) * (knots.length - 1);
    const u = (col / width) * (knots[0].length - 1);
    const i = Math.min(knots.length - 2, Math.max(0, Math.floor(v)));
    const j = Math.min(knots[0].length - 2, Math.max(0, Math.floor(u)));
    const [t, s] = [v - i, u - j];
    const line = (values) => values[j] * (1 - s) + values[j + 1] * s;
    return line(knots[i]) * (1 - t) + line(knots[i + 1]) * t;
  }

  const mapCoordinates = (col, row) => {
    if (!place.transform) return null;
    const [a, b, c, d, e, f] = place.transform;
    return [a * col + b * row + c, d * col + e * row + f];
  };

  function degrees(col, row) {
    if (place.degrees) return mapCoordinates(col, row);
    if (!place.lon) return null;
    return [between(place.lon, col, row), between(place.lat, col, row)];
  }

  const turned = (lon) => ((((lon + 180) % 360) + 360) % 360) - 180;

  // Metres on the ground, east and north, from one place to another nearby.
  function metres(from, to) {
    if (place.metres) {
      const [a, b] = [mapCoordinates(...from), mapCoordinates(...to)];
      return [(b[0] - a[0]) * place.metres, (b[1] - a[1]) * place.metres];
    }
    const [a, b] = [degrees(...from), degrees(...to)];
    if (!a || !b) return null;
    const radius = 6371008.8;
    const lat = ((a[1] + b[1]) / 2) * (Math.PI / 180);
    return [
      turned(b[0] - a[0]) * (Math.PI / 180) * radius * Math.cos(lat),
      (b[1] - a[1]) * (Math.PI / 180) * radius,
    ];
  }

  function whereabouts(col, row) {
    const parts = [];
    const xy = mapCoordinates(col, row);
    const lonlat = degrees(col, row);
    if (xy && !place.degrees) {
      parts.push(`${xy[0].toFixed(place.decimals)}, ${xy[1].toFixed(place.decimals)} (${place.crs || "no CRS"})`);
    }
    if (lonlat && lonlat.every(Number.isFinite)) {
      const [lon, lat] = [turned(lonlat[0]), lonlat[1]];
      const text = (v, plus, minus) => `${Math.abs(v).toFixed(place.digits)}° ${v < 0 ? minus : plus}`;
      parts.push(`${place.about ? "about " : ""}${text(lat, "N", "S")}, ${text(lon, "E", "W")}`);
    }
    parts.push(`column ${Math.floor(col)}, row ${Math.floor(row)}`);
    return parts.join(" · ");
  }

  // --------------------------------------------------------------------------------- the map

  // One unit is a pixel of the raster; pixels that are oblong on the ground are drawn oblong.
  const crs = L.extend({}, L.CRS.Simple, { transformation: new L.Transformation(place.aspect, 0, -1, 0) });
  const bounds = L.latLngBounds([[-height, 0], [0, width]]);
  const map = L.map(container, {
    crs,
    attributionControl: false,
    zoomControl: false,
    zoomSnap: 0.25,
    minZoom: -12,
    maxZoom: 6,
    maxBounds: bounds.pad(1),
    fadeAnimation: false,
  });
  L.control.zoom({ zoomInTitle: "Zoom in", zoomOutTitle: "Zoom out" }).addTo(map);
  const fit = () => map.fitBounds(bounds, { animate: false });
  fit();
  map.setMinZoom(Math.min(map.getZoom(), map.getBoundsZoom(bounds)) - 1);

  let failed = false;
  function report(error) {
    if (!failed) say(`The map cannot be shown: ${error.message}`);
    failed = true;
  }

  const layers = new Map();
  view.layers.forEach((spec, n) => {
    const options = {
      bounds, opacity: spec.opacity, zIndex: n + 1, minZoom: -20, maxZoom: 20, keepBuffer: 2,
    };
    const layer = spec.kind === "outlines" ? outlines(spec) : spec.kind === "points" ? pointMarkers(spec)
      : new (spec.kind === "picture" ? Picture : Codes)(spec, options);
    layers.set(spec.id, layer);
    if (spec.shown) layer.addTo(map);
    const row = document.querySelector(`[data-layer="${CSS.escape(spec.id)}"]`);
    row.querySelector("input[type=checkbox]").addEventListener("change", (event) => {
      if (event.target.checked) layer.addTo(map);
      else layer.remove();
    });
    row.querySelector("input[type=range]").addEventListener("input", (event) => {
      const opacity = Number(event.target.value) / 100;
      if (layer.setOpacity) layer.setOpacity(opacity);
      else layer.setStyle({ opacity, fillOpacity: opacity });
    });
  });
  document.querySelectorAll("[data-hides]").forEach((box) => {
    box.addEventListener("change", () => {
      const layer = layers.get(box.dataset.hides);
      if (box.checked) layer.hidden.delete(Number(box.value));
      else layer.hidden.add(Number(box.value));
      layer.redraw();
    });
  });

  const corner = (position, element) => {
    const control = L.control({ position });
    control.onAdd = () => element;
    control.addTo(map);
    return element;
  };
  const element = (name, className) => {
    const made = document.createElement(name);
    made.className = className;
    return made;
  };

  const whole = element("button", "map-button");
  whole.type = "button";
  whole.textContent = "Whole map";
  L.DomEvent.disableClickPropagation(whole);
  whole.addEventListener("click", fit);
  corner("topleft", whole);

  // The scale is measured along the middle line of what is shown.
  const bar = corner("bottomleft", element("div", "map-scale"));
  const arrow = corner("topright", element("div", "map-north"));
  arrow.innerHTML = '<svg viewBox="-12 -16 24 32" width="30" height="40" aria-hidden="true">'
    + '<g><path d="M0-14 6 6 0 2-6 6Z"/><text y="15" text-anchor="middle">N</text></g></svg>';

  function middle() {
    const centre = map.getCenter();
    const clamp = (v, most) => Math.min(most, Math.max(0, v));
    return [clamp(centre.lng, width), clamp(-centre.lat, height)];
  }

  function drawScale() {
    const [col, row] = middle();
    const span = 100 / (place.aspect * 2 ** map.getZoom());
    const way = metres([col - span / 2, row], [col + span / 2, row]);
    const length = way && Math.hypot(...way);
    const known = Number.isFinite(length) && length > 0;
    const per = (known ? length : span) / 100;
    const most = 140 * per;
    const power = 10 ** Math.floor(Math.log10(most));
    const size = [5, 2, 1].map((n) => n * power).find((n) => n <= most);
    const shown = !known ? `${size} px` : size >= 1000 ? `${size / 1000} km` : `${Number(size.toPrecision(3))} m`;
    bar.textContent = shown;
    bar.style.width = `${size / per}px`;
    bar.setAttribute("aria-label", `Scale: the bar is ${shown}`);
  }

  function drawNorth() {
    const [col, row] = middle();
    const step = Math.max(1, Math.min(width, height) / 200);
    const [east, south] = [metres([col, row], [col + step, row]), metres([col, row], [col, row + step])];
    const known = east && south && [...east, ...south].every(Number.isFinite);
    arrow.hidden = !known;
    if (!known) return;
    // Solve for the step (columns, rows) that goes north only.
    const determinant = east[0] * south[1] - east[1] * south[0];
    const [right, down] = [-south[0] / determinant, east[0] / determinant];
    const angle = Math.atan2(right * place.aspect, -down) * (180 / Math.PI);
    arrow.querySelector("g").setAttribute("transform", `rotate(${angle.toFixed(1)})`);
    arrow.title = Math.abs(angle) < 0.5 ? "North is up" : `North is ${Math.abs(angle).toFixed(0)}° ${angle > 0 ? "right" : "left"} of up`;
  }
  map.on("move zoomend resize", () => { drawScale(); drawNorth(); });
  drawScale();
  drawNorth();

  // ------------------------------------------------------------------------- what is at a place

  const inside = (col, row) => col >= 0 && row >= 0 && col < width && row < height;
  const pin = L.circleMarker([0, 0], { radius: 6, weight: 3, color: "#fff", fill: false, interactive: false });
  const ring = L.circleMarker([0, 0], { radius: 8, weight: 2, color: "#000", fill: false, interactive: false });

  function cellText(spec) {
    const { right, down } = spec.levels[0];
    if (right <= 1 && down <= 1) return "";
    const of = Math.max(right, down);
    const side = Number(of.toFixed(1));
    return ` (one value for about ${side} x ${side} px)`;
  }

  async function read(latlng) {
    const [col, row] = [latlng.lng, -latlng.lat];
    if (!inside(col, row)) {
      say("This place lies outside the map.");
      return;
    }
    pin.setLatLng(latlng).addTo(map);
    ring.setLatLng(latlng).addTo(map);
    const texts = [];
    for (const spec of view.layers) {
      if (spec.kind !== "codes" && spec.kind !== "percent") continue;
      const code = await layers.get(spec.id).value(col, row);
      const entry = spec.entries.find(([known]) => known === code);
      const text = code === null ? "no data" : spec.kind === "percent" ? `${code} %` : entry ? entry[1] : `code ${code}`;
      texts.push(`${spec.asked}: ${text}${code === null ? "" : cellText(spec)}`);
    }
    say([...texts, whereabouts(col, row)].join(" · "));
  }

  map.on("click", (event) => read(event.latlng).catch(report));
  container.addEventListener("keydown", (event) => {
    if (event.target === container && event.key === "Enter") read(map.getCenter()).catch(report);
  });
  const position = document.getElementById("map-position");
  map.on("mousemove", (event) => {
    const [col, row] = [event.latlng.lng, -event.latlng.lat];
    position.textContent = inside(col, row) ? whereabouts(col, row) : "";
  });
  container.cwsamGeoMap = map;
})();
