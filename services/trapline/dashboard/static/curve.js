// Lightcurves: fluxes with error bars per band; blind points are full, forced ones are rings, limits point down.
"use strict";
(() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colours = () => ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"].map(css);
  const MOST_BARS = 20000, MANY = 1500;

  // One aligned table of all bands: uPlot wants one x axis; where a band has no point it has a null.
  const aligned = (bands) => {
    if (bands.length === 1) return { x: bands[0].t, ys: [bands[0].flux], rows: [bands[0].t.map((_, i) => i)] };
    const x = [...new Set(bands.flatMap((band) => band.t))].sort((a, b) => a - b);
    const at = new Map(x.map((t, i) => [t, i]));
    const rows = bands.map(() => new Array(x.length).fill(null));
    const ys = bands.map((band, b) => {
      const y = new Array(x.length).fill(null);
      band.t.forEach((t, i) => { const k = at.get(t); y[k] = band.flux[i]; rows[b][k] = i; });
      return y;
    });
    return { x, ys, rows };
  };

  // A forced point below so many sigma is no detection: what is known is that the flux is not above that.
  window.limitOf = (band, k, sigma) => (sigma > 0 && band.kind[k] > 0 && band.err[k] != null && band.flux[k] != null && band.flux[k] < sigma * band.err[k] ? Math.max(band.flux[k], 0) + sigma * band.err[k] : null);

  // From values to device pixels, as straight lines: what uPlot does for each call, worked out once.
  const straight = (u, scale) => {
    const { min, max } = u.scales[scale], at = u.valToPos(min, scale, true), by = (u.valToPos(max, scale, true) - at) / (max - min || 1);
    return (value) => at + (value - min) * by;
  };
  const draw = (bands, table, sigma) => (u, index) => {
    const band = bands[index - 1], row = table.rows[index - 1], y = table.ys[index - 1];
    const low = Math.max(0, lower(table.x, u.scales.x.min)), high = upper(table.x, u.scales.x.max);
    const dot = devicePixelRatio * (high - low > 4000 ? 1.1 : high - low > 400 ? 2 : 3.2), colour = colours()[(index - 1) % 6];
    const toX = straight(u, "x"), toY = straight(u, "y"), points = [];
    for (let i = low; i < high; i++) if (y[i] != null) points.push([toX(table.x[i]), i, row[i]]);
    const shown = { u, band, y, points, dot, colour, toY, sigma, withBars: high - low <= MOST_BARS };
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    u.ctx.clip();
    (high - low > MANY ? drawMany : drawFew)(shown);
    u.ctx.restore();
    return null;
  };
  const drawFew = ({ u: { ctx }, band, y, points, dot, colour, toY, sigma, withBars }) => {
    const bars = new Path2D(), full = new Path2D(), rings = new Path2D(), limits = new Path2D();
    for (const [px, i, k] of points) {
      const limit = limitOf(band, k, sigma);
      if (limit != null) {
        const top = toY(limit), tip = top + 4 * dot;
        limits.moveTo(px - dot, top); limits.lineTo(px + dot, top);
        limits.moveTo(px, top); limits.lineTo(px, tip);
        limits.moveTo(px - dot, tip - dot); limits.lineTo(px, tip); limits.lineTo(px + dot, tip - dot);
        continue;
      }
      const py = toY(y[i]), err = band.err[k], path = band.kind[k] === 0 ? full : rings;
      if (withBars && err != null) { bars.moveTo(px, toY(y[i] - err)); bars.lineTo(px, toY(y[i] + err)); }
      path.moveTo(px + dot, py);
      path.arc(px, py, dot, 0, 6.2832);
    }
    ctx.strokeStyle = ctx.fillStyle = colour;
    ctx.lineWidth = devicePixelRatio;
    ctx.globalAlpha = 0.55; ctx.stroke(bars);
    ctx.globalAlpha = 0.9; ctx.stroke(limits);
    ctx.globalAlpha = 1; ctx.fill(full);
    ctx.fillStyle = css("--card"); ctx.fill(rings); ctx.stroke(rings);
  };
  // The same in squares, written into pixels: a frame has to be there before the next one.
  const drawMany = ({ u: { ctx, bbox }, band, y, points, dot, colour, toY, sigma, withBars }) => {
    const layer = window.dots(Math.round(bbox.width), Math.round(bbox.height)), line = devicePixelRatio;
    const strong = dots.colour(colour, 1), weak = dots.colour(colour, 0.5), empty = dots.colour(css("--card"), 1);
    const [left, top] = [bbox.left, bbox.top];
    if (withBars) {
      for (const [px, i, k] of points) {
        const err = band.err[k], x = px - left - line / 2;
        if (err != null && limitOf(band, k, sigma) == null) layer.box(x, toY(y[i] + err) - top, x + line, toY(y[i] - err) - top, weak);
      }
    }
    for (const [px, i, k] of points) {
      const limit = limitOf(band, k, sigma), x = px - left, at = toY(limit ?? y[i]) - top;
      if (limit != null) { layer.box(x - dot, at, x + dot, at + line, strong); layer.box(x - line / 2, at, x + line / 2, at + 4 * dot, weak); continue; }
      layer.put(x, at, 2 * dot, strong);
      if (band.kind[k] !== 0) layer.put(x, at, 2 * dot - 2 * line, empty);
    }
    ctx.drawImage(layer.canvas(), Math.round(left), Math.round(top));
  };
  // UTC, as fine as the steps are, with the date where it begins.
  const utc = (t, step, first) => {
    const iso = new Date(t * 1e3).toISOString(), midnight = t % 86400 === 0;
    if (step >= 86400) return iso.slice(0, 10);
    const clock = iso.slice(11, step < 1 ? 23 : step < 60 ? 19 : 16);
    return first || midnight ? `${clock}\n${iso.slice(0, 10)}` : clock;
  };
  const lower = (x, value) => { let a = 0, b = x.length; while (a < b) { const m = (a + b) >> 1; if (x[m] < value) a = m + 1; else b = m; } return Math.max(0, a - 1); };
  const upper = (x, value) => { let a = 0, b = x.length; while (a < b) { const m = (a + b) >> 1; if (x[m] <= value) a = m + 1; else b = m; } return Math.min(x.length, a + 1); };

  // Shows bands [{name, unit, t (s), flux, err, kind}] in an element, and gives back how to zoom.
  window.curve = (element, bands, options = {}) => {
    let plot = null;
    const build = () => {
      const range = plot ? { ...plot.scales.x } : null;
      plot?.destroy();
      const table = aligned(bands);
      const axis = { stroke: css("--muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: "12px system-ui, sans-serif" };
      plot = new uPlot({
        width: element.clientWidth || 600, height: options.height ?? Math.max(220, Math.min(420, innerHeight * 0.45)),
        tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), "UTC"),
        scales: { x: { range: (u, min, max) => withRoom(table.x, min, max) }, y: { range: (u, min, max) => spread(bands, table, u, options.limit) } },
        axes: [{ ...axis, space: 90, values: (u, splits, i, space, step) => splits.map((t, k) => utc(t, step, k === 0)) }, { ...axis, size: 64, label: bands[0]?.unit, labelFont: "12px system-ui, sans-serif", values: (u, splits) => splits.map((v) => (v == null ? "" : +v.toPrecision(5))) }],
        series: [
          { label: "UTC", value: (u, v) => (v == null ? "–" : new Date(v * 1e3).toISOString().replace("T", " ").slice(0, 21)) },
          ...bands.map((band, i) => ({
            label: band.name, stroke: colours()[i % 6], paths: () => null, points: { show: draw(bands, table, options.limit) },
            value: (u, v, s, k) => { const row = k == null ? null : table.rows[i][k]; const limit = row == null ? null : limitOf(bands[i], row, options.limit); return row == null ? "–" : limit != null ? `< ${limit.toPrecision(3)} ${band.unit}` : `${(+band.flux[row]).toPrecision(4)} ± ${band.err[row] == null ? "–" : (+band.err[row]).toPrecision(2)} ${band.unit}${band.kind[row] ? " forced" : ""}`; },
          })),
        ],
        cursor: { drag: { x: true, y: false }, points: { size: 9 } },
        hooks: { setScale: [(u, key) => { if (key === "x") options.zoomed?.(u.scales.x.min, u.scales.x.max); }] },
      }, [table.x, ...table.ys], element);
      if (range && range.min != null && options.keep) plot.setScale("x", range);
    };
    const zoom = (factor) => {
      const { min, max } = plot.scales.x, middle = (plot.cursor.idx != null && plot.cursor.left > 0) ? plot.posToVal(plot.cursor.left, "x") : (min + max) / 2;
      plot.setScale("x", { min: middle - (middle - min) * factor, max: middle + (max - middle) * factor });
    };
    const move = (pixels) => {
      const { min, max } = plot.scales.x, by = pixels * (max - min) / plot.over.clientWidth;
      plot.setScale("x", { min: min - by, max: max - by });
    };
    const whole = () => { const x = plot.data[0]; plot.setScale("x", { min: x[0], max: x[x.length - 1] || x[0] + 1 }); };
    build();
    new ResizeObserver(() => { if (plot && element.clientWidth !== plot.width) plot.setSize({ width: element.clientWidth, height: plot.height }); }).observe(element);
    document.addEventListener("theme", build);
    return { zoom, move, whole, set: (next) => { bands = next; build(); }, plot: () => plot };
  };
  // The whole has room at its ends; what somebody zoomed to is what he gets.
  const withRoom = (x, min, max) => {
    const pad = min === x[0] && max === x[x.length - 1] ? (max - min) * 0.015 || 1 : 0;
    return [min - pad, max + pad];
  };
  const spread = (bands, table, u, sigma) => {
    const all = u.scales.x.min == null;
    const low = all ? 0 : lower(table.x, u.scales.x.min), high = all ? table.x.length : upper(table.x, u.scales.x.max);
    let a = Infinity, b = -Infinity;
    bands.forEach((band, n) => {
      if (u.series[n + 1]?.show === false) return;
      for (let i = low; i < high; i++) {
        const y = table.ys[n][i];
        if (y == null) continue;
        const k = table.rows[n][i], limit = limitOf(band, k, sigma), err = band.err[k] ?? 0;
        if (limit != null) { a = Math.min(a, 0); b = Math.max(b, limit); continue; }
        if (y - err < a) a = y - err;
        if (y + err > b) b = y + err;
      }
    });
    if (!(b >= a)) return [0, 1];
    const pad = (b - a) * 0.08 || Math.abs(b) * 0.1 || 1;
    return [a - pad, b + pad];
  };

  const recent = document.getElementById("recent");
  const show = () => {
    const place = document.getElementById("recent"), data = document.getElementById("recent-data");
    if (!place || !data) return;
    const points = JSON.parse(data.textContent);
    if (!points.t_us?.length) { place.textContent = "The event is in its journal no more: see the object's lightcurve."; return; }
    window.curve(place, [{ name: "flux", unit: place.dataset.unit, t: points.t_us.map((t) => t / 1e6), flux: points.flux_int, err: points.flux_int_err, kind: points.kind }], { height: 280, limit: +place.dataset.limit });
  };
  if (recent) { show(); document.addEventListener("swapped", show); }
})();
