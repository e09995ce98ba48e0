// The whole sky (Mollweide) or the half about the telescope's zenith: objects, images, transients; live.
"use strict";
(() => {
  const canvas = document.getElementById("sky"), readout = document.getElementById("readout");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const RAD = Math.PI / 180;
  let mode = "mollweide", view = { zoom: 1, x: 0, y: 0 }, drag = null, centre = [0, 90], version = 0, loading = false;
  let count = 0, rows = new Float32Array(0), keysOf = [], index = new Map(), fields = [], events = [], fluxes = [1, 1], queued = false, published = null, base = null, fresh = new Set();
  window.painted = [];

  const hex = (bytes, i) => { let out = ""; for (let k = 0; k < 16; k++) out += bytes[16 * i + k].toString(16).padStart(2, "0"); return out; };
  const read = async (answer) => {
    const buffer = await answer.arrayBuffer(), bytes = new Uint8Array(buffer), end = bytes.indexOf(10), head = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
    return { head, numbers: new Float32Array(buffer, end + 1, 4 * head.n), ids: bytes.subarray(end + 1 + 16 * head.n) };
  };
  const put = ({ numbers, ids, head }) => {
    if (rows.length < 4 * (count + head.n)) { const grown = new Float32Array(Math.max(4 * (count + head.n), 2 * rows.length)); grown.set(rows); rows = grown; }
    for (let i = 0; i < head.n; i++) {
      const key = hex(ids, i);
      let at = index.get(key);
      if (at === undefined) { at = count++; index.set(key, at); keysOf.push(key); }
      rows.set(numbers.subarray(4 * i, 4 * i + 4), 4 * at);
      if (!head.whole) fresh.add(at);
    }
    version = head.version;
    if (head.whole) rank();
  };
  const rank = () => { const some = []; for (let i = 0; i < count; i += Math.max(1, count >> 12)) if (rows[4 * i + 2] > 0) some.push(Math.log(rows[4 * i + 2])); some.sort((a, b) => a - b); fluxes = [some[some.length >> 4] ?? 0, some[Math.floor(some.length * 0.97)] ?? 1]; };
  const loadAll = async () => {
    const answer = await fetch("/sky/objects").catch(() => null);
    if (answer?.ok) { count = 0; index.clear(); keysOf = []; put(await read(answer)); } else readout.textContent = "the store does not answer: only what comes now is shown";
    base = null; canvas.dataset.ready = count;
  };
  const loadLayers = async () => {
    const answer = await fetch("/sky/layers").catch(() => null);
    if (!answer?.ok) return;
    ({ fields, events } = await answer.json());
    if (fields.length) { const f = fields[fields.length - 1]; centre = [f.ra_deg, f.dec_deg]; }
    base = null;
  };
  const pull = async () => {
    if (loading) { queued = true; return; }
    loading = true;
    try {
      const got = await read(await fetch(`/sky/changes?since=${version}`));
      if (got.head.whole === null) await loadAll(); else { const before = count; put(got); published = got.head.t_pub_us; if (count !== before) base = null; }
      schedule();
    } catch { /* the next tick tries again */ }
    loading = false;
    if (queued) { queued = false; pull(); }
  };
  let wanted = false;
  const schedule = () => { if (!wanted) { wanted = true; requestAnimationFrame(() => { wanted = false; paint(); if (published !== null) { window.painted.push(Date.now() - published / 1e3); published = null; } }); } };

  const size = () => ({ w: canvas.clientWidth, h: Math.min(canvas.clientWidth * (mode === "zenith" ? 1 : 0.52), innerHeight * 0.72) });
  const scale = () => { const { w, h } = size(); return view.zoom * (mode === "zenith" ? Math.min(w, h) / 2.06 : Math.min(w / (4 * Math.SQRT2), h / (2 * Math.SQRT2)) * 0.97); };
  const project = (ra, dec) => {
    if (mode === "zenith") {
      const d = (ra - centre[0]) * RAD, sd = Math.sin(dec * RAD), cd = Math.cos(dec * RAD), s0 = Math.sin(centre[1] * RAD), c0 = Math.cos(centre[1] * RAD);
      const cosz = s0 * sd + c0 * cd * Math.cos(d);
      if (cosz < 0) return null;
      // Equal areas: a field is as large at the horizon as at the zenith.
      const k = Math.sqrt(1 / (1 + cosz));
      return [-k * cd * Math.sin(d), k * (c0 * sd - s0 * cd * Math.cos(d))];
    }
    let lon = ((centre[0] - ra + 540) % 360 + 360) % 360 - 180, t = dec * RAD;
    if (Math.abs(dec) < 89.99) { const s = Math.PI * Math.sin(dec * RAD); let a = 2 * Math.asin(2 * dec / 180); for (let i = 0; i < 8; i++) a -= (a + Math.sin(a) - s) / (1 + Math.cos(a) || 1e-9); t = a / 2; }
    return [2 * Math.SQRT2 / Math.PI * lon * RAD * Math.cos(t), Math.SQRT2 * Math.sin(t)];
  };
  const screen = (ra, dec) => { const p = project(ra, dec); if (!p) return null; const { w, h } = size(), s = scale(); return [w / 2 + view.x + s * p[0], h / 2 + view.y - s * p[1]]; };
  const path = (ctx, points) => { let pen = false, last = 0; ctx.beginPath(); for (const [ra, dec] of points) { const at = screen(ra, dec); if (!at || (pen && Math.abs(at[0] - last) > scale())) pen = false; if (!at) continue; if (pen) ctx.lineTo(...at); else ctx.moveTo(...at); pen = true; last = at[0]; } ctx.stroke(); };
  const ring = (ra, dec, radius) => { const out = [], d = dec * RAD, r = Math.min(radius, 89.9) * RAD; for (let i = 0; i <= 96; i++) { const a = i / 96 * 2 * Math.PI, sd = Math.sin(d) * Math.cos(r) + Math.cos(d) * Math.sin(r) * Math.cos(a); out.push([ra + Math.atan2(Math.sin(a) * Math.sin(r) * Math.cos(d), Math.cos(r) - Math.sin(d) * sd) / RAD, Math.asin(sd) / RAD]); } return out; };
  const radius = (i) => { const f = rows[4 * i + 2]; return f > 0 ? 1.2 + 3.2 * Math.min(1, Math.max(0, (Math.log(f) - fluxes[0]) / (fluxes[1] - fluxes[0] || 1))) : 1.2; };
  const shape = { new_source: (c, x, y) => { c.moveTo(x, y - 7); c.lineTo(x + 6, y); c.lineTo(x, y + 7); c.lineTo(x - 6, y); c.closePath(); }, flare: (c, x, y) => { c.moveTo(x, y - 7); c.lineTo(x + 6, y + 5); c.lineTo(x - 6, y + 5); c.closePath(); }, other: (c, x, y) => { c.moveTo(x, y + 7); c.lineTo(x + 6, y - 5); c.lineTo(x - 6, y - 5); c.closePath(); } };
  const drawBase = (w, h, dpr) => {
    base = new OffscreenCanvas(w * dpr, h * dpr);
    const ctx = base.getContext("2d"); ctx.scale(dpr, dpr);
    ctx.strokeStyle = css("--line"); ctx.lineWidth = 1; ctx.fillStyle = css("--muted"); ctx.font = "11px system-ui, sans-serif"; ctx.textAlign = "center";
    for (let dec = -60; dec <= 60; dec += 30) path(ctx, Array.from({ length: 181 }, (_, i) => [centre[0] - 179.99 + i * 359.98 / 180, dec]));
    for (let ra = 0; ra < 360; ra += 30) { path(ctx, Array.from({ length: 61 }, (_, i) => [ra, -90 + 3 * i])); const at = screen(ra, mode === "zenith" ? Math.max(-60, centre[1] - 60) : 0); if (at && view.zoom < 6) ctx.fillText(`${ra / 15}h`, at[0], at[1] - 3); }
    if (mode === "mollweide") for (const edge of [179.99, -179.99]) path(ctx, Array.from({ length: 91 }, (_, i) => [centre[0] + edge, -90 + 2 * i]));
    ctx.strokeStyle = css("--c3"); ctx.globalAlpha = 0.8;
    for (const f of fields) path(ctx, ring(f.ra_deg, f.dec_deg, f.radius_deg));
    ctx.globalAlpha = 0.8; ctx.fillStyle = css("--c1");
    const dots = new Path2D(), squares = new Path2D();
    for (let i = 0; i < count; i++) {
      const at = screen(rows[4 * i], rows[4 * i + 1]);
      if (!at || at[0] < -5 || at[1] < -5 || at[0] > w + 5 || at[1] > h + 5) continue;
      const r = radius(i);
      if (rows[4 * i + 3] === 1) squares.rect(at[0] - 4, at[1] - 4, 8, 8);
      else if (count > 20000) dots.rect(at[0] - r / 2, at[1] - r / 2, r, r);
      else { dots.moveTo(at[0] + r, at[1]); dots.arc(at[0], at[1], r, 0, 6.2832); }
    }
    ctx.fill(dots); ctx.strokeStyle = css("--c4"); ctx.lineWidth = 1.5; ctx.stroke(squares);
    ctx.globalAlpha = 1; ctx.strokeStyle = css("--c2"); ctx.lineWidth = 1.8;
    ctx.beginPath();
    for (const e of events) { const at = e.alert_type === "retraction" ? null : screen(e.ra_deg, e.dec_deg); if (at) (shape[e.kind] ?? shape.other)(ctx, ...at); }
    ctx.stroke();
  };
  const paint = () => {
    const { w, h } = size(), dpr = devicePixelRatio;
    if (canvas.width !== Math.round(w * dpr) || canvas.height !== Math.round(h * dpr)) { canvas.width = Math.round(w * dpr); canvas.height = Math.round(h * dpr); canvas.style.height = `${h}px`; base = null; }
    if (!base) drawBase(w, h, dpr);
    const ctx = canvas.getContext("2d");
    ctx.setTransform(1, 0, 0, 1, 0, 0); ctx.clearRect(0, 0, canvas.width, canvas.height); ctx.drawImage(base, 0, 0);
    // What was just seen glows.
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0); ctx.fillStyle = css("--good");
    const glow = new Path2D();
    for (const i of fresh) { const at = screen(rows[4 * i], rows[4 * i + 1]); if (at) { const r = radius(i) + 0.4; glow.moveTo(at[0] + r, at[1]); glow.arc(at[0], at[1], r, 0, 6.2832); } }
    ctx.fill(glow); fresh.clear();
  };
  const nearest = (x, y) => {
    let best = null, d = 150;
    for (const e of events) { const at = screen(e.ra_deg, e.dec_deg), r = at ? (at[0] - x) ** 2 + (at[1] - y) ** 2 : 1e9; if (r < d) { d = r; best = { href: `/transients/${e.id}`, text: `${e.kind.replace("_", " ")}, ${e.significance.toFixed(1)} sigma` , at: [e.ra_deg, e.dec_deg] }; } }
    for (let i = 0; i < count; i++) { const at = screen(rows[4 * i], rows[4 * i + 1]), r = at ? (at[0] - x) ** 2 + (at[1] - y) ** 2 : 1e9; if (r < d - 20) { d = r; best = { href: `/objects/${keysOf[i]}`, text: `object, mean flux ${rows[4 * i + 2].toPrecision(4)}`, at: [rows[4 * i], rows[4 * i + 1]] }; } }
    return best;
  };
  const where = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const zoomAt = (factor, sx, sy) => { const { w, h } = size(), cx = sx - w / 2, cy = sy - h / 2, next = Math.min(400, Math.max(0.8, view.zoom * factor)), f = next / view.zoom; view = { zoom: next, x: cx - (cx - view.x) * f, y: cy - (cy - view.y) * f }; base = null; schedule(); };
  const zoom = (factor) => { const { w, h } = size(); if (factor) zoomAt(factor, w / 2, h / 2); else { view = { zoom: 1, x: 0, y: 0 }; base = null; schedule(); } };
  canvas.addEventListener("pointerdown", (event) => { drag = { at: where(event), moved: 0 }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = where(event);
    if (drag) { view.x += x - drag.at[0]; view.y += y - drag.at[1]; drag.moved += Math.abs(x - drag.at[0]) + Math.abs(y - drag.at[1]); drag.at = [x, y]; base = null; schedule(); return; }
    const found = nearest(x, y);
    canvas.style.cursor = found ? "pointer" : "default";
    readout.textContent = found ? `${found.text} at ${found.at[0].toFixed(3)} ${found.at[1].toFixed(3)} deg` : `${count} objects, ${events.length} transients`;
  });
  canvas.addEventListener("pointerup", (event) => { const still = drag && drag.moved < 4; drag = null; const found = still ? nearest(...where(event)) : null; if (found) location.href = found.href; });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoomAt(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...where(event)); }, { passive: false });
  document.querySelectorAll("[data-projection]").forEach((button) => button.addEventListener("click", () => { mode = button.dataset.projection; history.replaceState(null, "", mode === "zenith" ? "?projection=zenith" : location.pathname); document.querySelectorAll("[data-projection]").forEach((one) => one.setAttribute("aria-pressed", one === button)); view = { zoom: 1, x: 0, y: 0 }; base = null; schedule(); }));
  document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => zoom(+button.dataset.zoom)));
  keys.on("+", () => zoom(1.4)); keys.on("=", () => zoom(1.4)); keys.on("-", () => zoom(1 / 1.4)); keys.on("0", () => zoom(0));
  document.addEventListener("theme", () => { base = null; schedule(); });
  new ResizeObserver(() => { base = null; schedule(); }).observe(canvas);
  if (new URLSearchParams(location.search).get("projection") === "zenith") document.querySelector("[data-projection=zenith]").click();
  const live = new EventSource("/events?topics=sky&every=fast");
  live.onmessage = pull;
  let told = -1;
  document.addEventListener("tick", (event) => { if (event.detail.transients !== told) { told = event.detail.transients; loadLayers().then(schedule); } });
  addEventListener("pagehide", () => live.close());
  Promise.all([loadLayers(), loadAll()]).then(schedule);
})();
