// eta against V of all objects: thresholds from the population itself, a brush, and the table of what was chosen.
"use strict";
(() => {
  const canvas = document.getElementById("population"), readout = document.getElementById("readout");
  const body = document.querySelector("#chosen tbody");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const MARGIN = { left: 58, right: 14, top: 12, bottom: 40 };
  let count = 0, data = new Float32Array(0), ids = new Uint8Array(0), shown = [], view = null, fit = null, base = null, brush = null;

  const id = (i) => [...ids.subarray(16 * i, 16 * i + 16)].map((b) => b.toString(16).padStart(2, "0")).join("").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  const load = async () => {
    const query = new URLSearchParams({ band: document.getElementById("band").value }), unit = new URLSearchParams(location.search).get("unit");
    if (unit) query.set("unit", unit);
    const answer = await fetch(`/objects/population.bin?${query}`);
    if (!answer.ok) { readout.textContent = (await answer.text()).trim(); return; }
    const buffer = await answer.arrayBuffer();
    count = buffer.byteLength / 32;
    data = new Float32Array(buffer, 0, 4 * count);
    ids = new Uint8Array(buffer, 16 * count);
    choose();
    canvas.dataset.ready = count;
  };
  // Gaussian in the logarithms, cut at 3 sigma until nothing changes.
  const gaussian = (values) => {
    let some = values, mean = 0, std = 0;
    for (let round = 0; round < 12; round++) {
      mean = some.reduce((a, b) => a + b, 0) / (some.length || 1);
      std = Math.sqrt(some.reduce((a, b) => a + (b - mean) ** 2, 0) / (some.length || 1)) || 1e-6;
      const kept = some.filter((v) => Math.abs(v - mean) <= 3 * std);
      if (kept.length === some.length) break;
      some = kept;
    }
    return { mean, std };
  };
  const choose = () => {
    const least = +document.getElementById("n-min").value || 2, sigma = +document.getElementById("sigma").value || 0;
    shown = [];
    for (let i = 0; i < count; i++) if (data[4 * i] > 0 && data[4 * i + 1] > 0 && data[4 * i + 3] >= least) shown.push(i);
    if (!shown.length) { fit = null; readout.textContent = `${count} objects and bands, none of them with ${least} points yet`; base = null; paint(); list([]); return; }
    const v = gaussian(shown.map((i) => Math.log10(data[4 * i]))), e = gaussian(shown.map((i) => Math.log10(data[4 * i + 1])));
    fit = { v: v.mean + sigma * v.std, e: e.mean + sigma * e.std };
    const ends = (k) => shown.reduce(([a, b], i) => { const x = Math.log10(data[4 * i + k]); return [Math.min(a, x), Math.max(b, x)]; }, [Infinity, -Infinity]);
    const [x0, x1] = ends(1), [y0, y1] = ends(0);
    view = { x0: x0 - 0.1, x1: Math.max(x1, fit.e) + 0.1, y0: y0 - 0.1, y1: Math.max(y1, fit.v) + 0.1 };
    const beyond = shown.filter((i) => Math.log10(data[4 * i]) > fit.v && Math.log10(data[4 * i + 1]) > fit.e);
    readout.textContent = `${shown.length} objects and bands; V > ${(10 ** fit.v).toPrecision(3)} and eta > ${(10 ** fit.e).toPrecision(3)}: ${beyond.length}`;
    list(beyond);
    base = null;
    paint();
  };
  const size = () => ({ w: canvas.clientWidth, h: 520 });
  const at = (i) => {
    const { w, h } = size();
    return [MARGIN.left + (Math.log10(data[4 * i + 1]) - view.x0) / (view.x1 - view.x0) * (w - MARGIN.left - MARGIN.right),
      h - MARGIN.bottom - (Math.log10(data[4 * i]) - view.y0) / (view.y1 - view.y0) * (h - MARGIN.top - MARGIN.bottom)];
  };
  const place = (le, lv) => { const { w, h } = size(); return [MARGIN.left + (le - view.x0) / (view.x1 - view.x0) * (w - MARGIN.left - MARGIN.right), h - MARGIN.bottom - (lv - view.y0) / (view.y1 - view.y0) * (h - MARGIN.top - MARGIN.bottom)]; };
  const drawBase = () => {
    const { w, h } = size(), scale = devicePixelRatio;
    base = new OffscreenCanvas(w * scale, h * scale);
    const ctx = base.getContext("2d");
    ctx.scale(scale, scale);
    ctx.font = "12px system-ui, sans-serif";
    ctx.strokeStyle = css("--line"); ctx.fillStyle = css("--muted"); ctx.textAlign = "center";
    for (let p = Math.ceil(view.x0); p <= view.x1; p++) { const [x] = place(p, view.y0); line(ctx, x, MARGIN.top, x, h - MARGIN.bottom); ctx.fillText(10 ** p >= 0.01 && p < 4 ? 10 ** p : `1e${p}`, x, h - MARGIN.bottom + 16); }
    ctx.textAlign = "right";
    for (let p = Math.ceil(view.y0); p <= view.y1; p++) { const [, y] = place(view.x0, p); line(ctx, MARGIN.left, y, w - MARGIN.right, y); ctx.fillText(10 ** p >= 0.001 && p < 4 ? 10 ** p : `1e${p}`, MARGIN.left - 6, y + 4); }
    ctx.textAlign = "center"; ctx.fillText("eta", w / 2, h - 6);
    ctx.save(); ctx.translate(12, h / 2); ctx.rotate(-Math.PI / 2); ctx.fillText("V", 0, 0); ctx.restore();
    const many = shown.length > 20000;
    ctx.globalAlpha = many ? 0.35 : 0.7;
    const dot = many ? 1.5 : shown.length > 3000 ? 2 : 4;
    for (const i of shown) {
      const [x, y] = at(i), beyond = Math.log10(data[4 * i]) > fit.v && Math.log10(data[4 * i + 1]) > fit.e;
      ctx.fillStyle = beyond ? hot : cold;
      const d = beyond ? dot + 1 : dot;
      ctx.fillRect(x - d / 2, y - d / 2, d, d);
    }
    ctx.globalAlpha = 1; ctx.setLineDash([6, 4]); ctx.strokeStyle = css("--c2");
    const [fx, fy] = place(fit.e, fit.v);
    line(ctx, fx, MARGIN.top, fx, h - MARGIN.bottom); line(ctx, MARGIN.left, fy, w - MARGIN.right, fy);
  };
  let hot = "", cold = "";
  const line = (ctx, a, b, c, d) => { ctx.beginPath(); ctx.moveTo(a, b); ctx.lineTo(c, d); ctx.stroke(); };
  const paint = () => {
    const { w, h } = size(), scale = devicePixelRatio;
    if (canvas.width !== w * scale) { canvas.width = w * scale; canvas.height = h * scale; base = null; }
    canvas.style.height = `${h}px`;
    hot = css("--c2"); cold = css("--c1");
    const ctx = canvas.getContext("2d");
    ctx.clearRect(0, 0, canvas.width, canvas.height);
    if (!fit) return;
    if (!base) drawBase();
    ctx.drawImage(base, 0, 0);
    if (brush) { ctx.save(); ctx.scale(scale, scale); ctx.strokeStyle = css("--accent"); ctx.strokeRect(brush.x, brush.y, brush.w, brush.h); ctx.restore(); }
  };
  const list = (some) => {
    const sorted = [...some].sort((a, b) => data[4 * b + 1] - data[4 * a + 1]).slice(0, 100);
    body.replaceChildren(...sorted.map((i) => {
      const row = document.createElement("tr"), name = id(i);
      row.dataset.href = `/objects/${name}`;
      const head = Object.assign(document.createElement("th"), { scope: "row" });
      head.append(Object.assign(document.createElement("a"), { href: `/objects/${name}`, textContent: name.slice(-12) }));
      row.append(head, ...[data[4 * i], data[4 * i + 1], data[4 * i + 2], data[4 * i + 3]].map((v, k) => Object.assign(document.createElement("td"), { className: "r", textContent: k === 3 ? v : v.toPrecision(4) })));
      return row;
    }));
  };
  const nearest = (x, y) => { let best = null, d = 144; for (const i of shown) { const [px, py] = at(i), r = (px - x) ** 2 + (py - y) ** 2; if (r < d) { d = r; best = i; } } return best; };
  const where = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  canvas.addEventListener("pointerdown", (event) => { const [x, y] = where(event); brush = { x, y, w: 0, h: 0 }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => { if (!brush) return; const [x, y] = where(event); brush.w = x - brush.x; brush.h = y - brush.y; paint(); });
  canvas.addEventListener("pointerup", (event) => {
    if (!brush || !fit) { brush = null; return; }
    if (Math.hypot(brush.w, brush.h) < 5) { const i = nearest(...where(event)); brush = null; if (i != null) location.href = `/objects/${id(i)}`; return; }
    const [a, b] = [Math.min(brush.x, brush.x + brush.w), Math.max(brush.x, brush.x + brush.w)], [c, d] = [Math.min(brush.y, brush.y + brush.h), Math.max(brush.y, brush.y + brush.h)];
    const inside = shown.filter((i) => { const [x, y] = at(i); return x >= a && x <= b && y >= c && y <= d; });
    readout.textContent = `${inside.length} of ${shown.length} in the box`;
    list(inside);
  });
  // The view is an address.
  const note = () => { const query = new URLSearchParams({ n_min: document.getElementById("n-min").value, sigma: document.getElementById("sigma").value }); const band = document.getElementById("band").value; if (band) query.set("band", band); history.replaceState(null, "", `?${query}`); };
  for (const name of ["n-min", "sigma"]) document.getElementById(name).addEventListener("input", () => { choose(); note(); });
  document.getElementById("band").addEventListener("change", () => { load(); note(); });
  document.addEventListener("theme", () => { base = null; paint(); });
  new ResizeObserver(() => { base = null; paint(); }).observe(canvas);
  load();
})();
