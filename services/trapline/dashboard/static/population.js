// eta against V of all objects: thresholds from the population itself, a brush, and the table of what was chosen.
"use strict";
(() => {
  const canvas = document.getElementById("population"), readout = document.getElementById("readout");
  const body = document.querySelector("#chosen tbody"), listed = document.getElementById("listed");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const field = (name) => document.getElementById(name);
  const MARGIN = { left: 58, right: 14, top: 12, bottom: 40 }, LISTED = 100, HEIGHT = 520;
  let count = 0, data = new Float32Array(0), ids = new Uint8Array(0);
  let logV = new Float32Array(0), logEta = new Float32Array(0), shown = new Uint32Array(0);
  let view = null, fit = null, base = null, brush = null;

  const id = (i) => Array.from(ids.subarray(16 * i, 16 * i + 16), (b) => b.toString(16).padStart(2, "0")).join("")
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  const load = async () => {
    const query = new URLSearchParams({ band: field("band").value }), unit = new URLSearchParams(location.search).get("unit");
    if (unit) query.set("unit", unit);
    const answer = await fetch(`/objects/population.bin?${query}`).catch(() => null);
    if (!answer?.ok) { readout.textContent = answer ? (await answer.text()).trim() : "dashboard does not answer"; return; }
    const buffer = await answer.arrayBuffer();
    count = buffer.byteLength / 32;
    data = new Float32Array(buffer, 0, 4 * count);
    ids = new Uint8Array(buffer, 16 * count);
    logV = new Float32Array(count); logEta = new Float32Array(count);
    for (let i = 0; i < count; i++) { logV[i] = Math.log10(data[4 * i]); logEta[i] = Math.log10(data[4 * i + 1]); }
    choose();
    canvas.dataset.ready = count;
  };
  // Gaussian in the logarithms, cut at 3 sigma until nothing changes.
  const gaussian = (values) => {
    let low = -Infinity, high = Infinity, mean = 0, std = 0, before = -1;
    for (let round = 0; round < 12; round++) {
      let n = 0, sum = 0, squares = 0;
      for (const i of shown) if (values[i] >= low && values[i] <= high) { n++; sum += values[i]; }
      mean = sum / (n || 1);
      for (const i of shown) if (values[i] >= low && values[i] <= high) squares += (values[i] - mean) ** 2;
      std = Math.sqrt(squares / (n || 1)) || 1e-6;
      if (n === before) break;
      before = n; low = mean - 3 * std; high = mean + 3 * std;
    }
    return { mean, std };
  };
  const ends = (values) => {
    let a = Infinity, b = -Infinity;
    for (const i of shown) { if (values[i] < a) a = values[i]; if (values[i] > b) b = values[i]; }
    return [a, b];
  };
  const isBeyond = (i) => logV[i] > fit.v && logEta[i] > fit.e;
  const choose = () => {
    const least = +field("n-min").value || 2, sigma = +field("sigma").value || 0;
    const some = new Uint32Array(count);
    let n = 0;
    for (let i = 0; i < count; i++) if (data[4 * i + 3] >= least && Number.isFinite(logV[i]) && Number.isFinite(logEta[i])) some[n++] = i;
    shown = some.subarray(0, n);
    base = brush = null;
    if (!n) {
      fit = null;
      readout.textContent = `${count} objects and bands, none of them with ${least} points yet`;
      paint(); list(shown);
      return;
    }
    const v = gaussian(logV), e = gaussian(logEta);
    fit = { v: v.mean + sigma * v.std, e: e.mean + sigma * e.std };
    const [x0, x1] = ends(logEta), [y0, y1] = ends(logV);
    view = { x0: x0 - 0.1, x1: Math.max(x1, fit.e) + 0.1, y0: y0 - 0.1, y1: Math.max(y1, fit.v) + 0.1 };
    const beyond = shown.filter(isBeyond), most = +canvas.dataset.most;
    const which = count >= most ? `the newest ${most.toLocaleString("en")}: ${n.toLocaleString("en")} of them` : n.toLocaleString("en");
    readout.textContent = `${which} objects and bands; V > ${(10 ** fit.v).toPrecision(3)} and eta > ${(10 ** fit.e).toPrecision(3)}: ${beyond.length}`;
    list(beyond, { v_min: (10 ** fit.v).toPrecision(6), eta_min: (10 ** fit.e).toPrecision(6), n_min: least });
    paint();
  };
  const size = () => ({ w: canvas.clientWidth, h: HEIGHT });
  const scales = () => {
    const { w, h } = size();
    return { kx: (w - MARGIN.left - MARGIN.right) / (view.x1 - view.x0), ky: (h - MARGIN.top - MARGIN.bottom) / (view.y1 - view.y0), h };
  };
  const place = (le, lv, { kx, ky, h } = scales()) => [MARGIN.left + (le - view.x0) * kx, h - MARGIN.bottom - (lv - view.y0) * ky];
  const drawBase = () => {
    const { w, h } = size(), scale = devicePixelRatio;
    base = new OffscreenCanvas(w * scale, h * scale);
    const ctx = base.getContext("2d");
    ctx.scale(scale, scale);
    axes(ctx, w, h);
    const many = shown.length > 20000, side = (many ? 1.5 : shown.length > 3000 ? 2 : 4) * scale, on = scales();
    const layer = window.dots(base.width, base.height), cold = dots.colour(css("--c1"), many ? 0.6 : 0.8), hot = dots.colour(css("--c2"), 1);
    // Those beyond are on top of the others.
    for (const last of [false, true]) {
      for (const i of shown) {
        if (isBeyond(i) !== last) continue;
        layer.put((MARGIN.left + (logEta[i] - view.x0) * on.kx) * scale, (h - MARGIN.bottom - (logV[i] - view.y0) * on.ky) * scale, last ? side + scale : side, last ? hot : cold);
      }
    }
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.drawImage(layer.canvas(), 0, 0);
    ctx.scale(scale, scale);
    ctx.setLineDash([6, 4]); ctx.strokeStyle = css("--c2");
    const [fx, fy] = place(fit.e, fit.v);
    line(ctx, fx, MARGIN.top, fx, h - MARGIN.bottom); line(ctx, MARGIN.left, fy, w - MARGIN.right, fy);
  };
  const axes = (ctx, w, h) => {
    const label = (value) => (value >= 0.001 && value < 10000 ? +value.toPrecision(3) : value.toExponential(0));
    // Of two decades or less also 2 and 5, of more than eight every second.
    const ticks = (a, b) => {
      const found = [], step = b - a > 8 ? 2 : 1;
      for (let p = Math.floor(a); p <= b; p += step) for (const m of b - a <= 2 ? [1, 2, 5] : [1]) found.push(m * 10 ** p);
      return found.filter((value) => Math.log10(value) >= a && Math.log10(value) <= b);
    };
    ctx.font = "12px system-ui, sans-serif";
    ctx.strokeStyle = css("--line"); ctx.fillStyle = css("--muted"); ctx.textAlign = "center";
    for (const value of ticks(view.x0, view.x1)) {
      const [x] = place(Math.log10(value), view.y0);
      line(ctx, x, MARGIN.top, x, h - MARGIN.bottom); ctx.fillText(label(value), x, h - MARGIN.bottom + 16);
    }
    ctx.textAlign = "right";
    for (const value of ticks(view.y0, view.y1)) {
      const [, y] = place(view.x0, Math.log10(value));
      line(ctx, MARGIN.left, y, w - MARGIN.right, y); ctx.fillText(label(value), MARGIN.left - 6, y + 4);
    }
    ctx.textAlign = "center"; ctx.fillText("eta", w / 2, h - 6);
    ctx.save(); ctx.translate(12, h / 2); ctx.rotate(-Math.PI / 2); ctx.fillText("V", 0, 0); ctx.restore();
  };
  const line = (ctx, a, b, c, d) => { ctx.beginPath(); ctx.moveTo(a, b); ctx.lineTo(c, d); ctx.stroke(); };
  const paint = () => {
    const { w, h } = size(), scale = devicePixelRatio;
    if (canvas.width !== Math.round(w * scale)) { canvas.width = Math.round(w * scale); canvas.height = Math.round(h * scale); base = null; }
    canvas.style.height = `${h}px`;
    const ctx = canvas.getContext("2d");
    ctx.clearRect(0, 0, canvas.width, canvas.height);
    if (!fit) return;
    if (!base) drawBase();
    ctx.drawImage(base, 0, 0);
    if (!brush) return;
    ctx.save(); ctx.scale(scale, scale); ctx.strokeStyle = css("--accent"); ctx.strokeRect(brush.x, brush.y, brush.w, brush.h); ctx.restore();
  };
  // The table has the foremost; where a list has the same, it leads there.
  const list = (some, filters = null) => {
    const sorted = largest(some, (i) => data[4 * i + 1], LISTED);
    listed.textContent = some.length > sorted.length ? `the ${LISTED} with the largest eta of ${some.length}` : "";
    const all = field("all-of-them");
    all.hidden = !filters;
    if (filters) all.href = `/objects?${new URLSearchParams({ ...filters, band: field("band").value, sort: "-eta" })}`;
    body.replaceChildren(...sorted.map((i) => {
      const row = document.createElement("tr"), name = id(i), head = Object.assign(document.createElement("th"), { scope: "row" });
      row.dataset.href = `/objects/${name}`;
      head.append(Object.assign(document.createElement("a"), { href: row.dataset.href, textContent: name.slice(-12) }));
      const cells = [0, 1, 2, 3].map((k) => (k === 3 ? data[4 * i + k] : data[4 * i + k].toPrecision(4)));
      row.append(head, ...cells.map((textContent) => Object.assign(document.createElement("td"), { className: "r", textContent })));
      return row;
    }));
  };
  const nearest = (x, y) => {
    const on = scales();
    let best = null, d = 144;
    for (const i of shown) {
      const dx = MARGIN.left + (logEta[i] - view.x0) * on.kx - x, dy = on.h - MARGIN.bottom - (logV[i] - view.y0) * on.ky - y, r = dx * dx + dy * dy;
      if (r < d) { d = r; best = i; }
    }
    return best;
  };
  const where = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  canvas.addEventListener("pointerdown", (event) => {
    const [x, y] = where(event);
    brush = { x, y, w: 0, h: 0, drawn: true };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!brush?.drawn) return;
    const [x, y] = where(event);
    brush.w = x - brush.x; brush.h = y - brush.y;
    paint();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!brush || !fit) { brush = null; return; }
    brush.drawn = false;
    if (Math.hypot(brush.w, brush.h) < 5) {
      const i = nearest(...where(event));
      brush = null;
      if (i != null) location.href = `/objects/${id(i)}`;
      return;
    }
    const on = scales(), eta = [brush.x, brush.x + brush.w].map((x) => (x - MARGIN.left) / on.kx + view.x0).sort((a, b) => a - b);
    const v = [brush.y, brush.y + brush.h].map((y) => (on.h - MARGIN.bottom - y) / on.ky + view.y0).sort((a, b) => a - b);
    const inside = shown.filter((i) => logEta[i] >= eta[0] && logEta[i] <= eta[1] && logV[i] >= v[0] && logV[i] <= v[1]);
    readout.textContent = `${inside.length} of ${shown.length} in the box`;
    list(inside);
  });
  keys.on("Escape", choose);
  // The view is an address.
  const note = () => {
    const query = new URLSearchParams(location.search);
    for (const [key, value] of [["n_min", field("n-min").value], ["sigma", field("sigma").value], ["band", field("band").value]]) {
      if (value) query.set(key, value); else query.delete(key);
    }
    history.replaceState(null, "", `?${query}`);
  };
  for (const name of ["n-min", "sigma"]) field(name).addEventListener("input", () => { choose(); note(); });
  field("band").addEventListener("change", () => { load(); note(); });
  document.addEventListener("theme", () => { base = null; paint(); });
  new ResizeObserver(() => { base = null; paint(); }).observe(canvas);
  load();
})();
