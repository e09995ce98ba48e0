// The whole sky (Mollweide) or the half about the telescope's zenith: objects, images, transients; live.
"use strict";
(() => {
  const canvas = document.getElementById("sky"), readout = document.getElementById("readout");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const asked = new URLSearchParams(location.search), unit = asked.get("unit");
  const MANY = 20000, HEX = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));
  let mode = "mollweide", view = { zoom: 1, x: 0, y: 0 }, drag = null, centre = [0, 90], version = 0, loading = false, queued = false;
  // An object has a row (ra, dec, flux, kind), a place on the plane, and a key.
  let count = 0, rows = new Float32Array(0), plane = new Float32Array(0), keysOf = [], index = new Map();
  let fields = [], events = [], fluxes = [0, 1], published = null, base = null, fresh = new Set(), projection = projections.mollweide(centre);
  window.painted = [];

  const hex = (bytes, i) => { let out = ""; for (let k = 16 * i; k < 16 * i + 16; k++) out += HEX[bytes[k]]; return out; };
  const read = async (answer) => {
    const buffer = await answer.arrayBuffer(), bytes = new Uint8Array(buffer), end = bytes.indexOf(10);
    const head = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
    return { head, numbers: new Float32Array(buffer, end + 1, 4 * head.n), ids: bytes.subarray(end + 1 + 16 * head.n) };
  };
  const grown = (old, length) => { const next = new Float32Array(Math.max(length, 2 * old.length)); next.set(old); return next; };
  const put = ({ numbers, ids, head }) => {
    if (rows.length < 4 * (count + head.n)) { rows = grown(rows, 4 * (count + head.n)); plane = grown(plane, rows.length / 2); }
    for (let i = 0; i < head.n; i++) {
      const key = hex(ids, i);
      let at = index.get(key);
      if (at === undefined) { at = count++; index.set(key, at); keysOf.push(key); }
      const moved = rows[4 * at] !== numbers[4 * i] || rows[4 * at + 1] !== numbers[4 * i + 1] || at === count - 1;
      rows.set(numbers.subarray(4 * i, 4 * i + 4), 4 * at);
      if (moved) projection.to(rows[4 * at], rows[4 * at + 1], plane, 2 * at);
      if (!head.whole) fresh.add(at);
    }
    version = head.version;
    if (head.whole) rank();
  };
  // Sizes go from the faint to the bright ones of those that are here.
  const rank = () => {
    const some = [];
    for (let i = 0; i < count; i += Math.max(1, count >> 12)) if (rows[4 * i + 2] > 0) some.push(Math.log(rows[4 * i + 2]));
    some.sort((a, b) => a - b);
    fluxes = [some[some.length >> 4] ?? 0, some[Math.floor(some.length * 0.97)] ?? 1];
  };
  const project = () => { projection = projections[mode](centre); for (let i = 0; i < count; i++) projection.to(rows[4 * i], rows[4 * i + 1], plane, 2 * i); base = null; };
  const query = (more = {}) => { const all = new URLSearchParams({ ...more, ...(unit ? { unit } : {}) }).toString(); return all ? `?${all}` : ""; };
  const loadAll = async () => {
    const answer = await fetch(`/sky/objects${query()}`).catch(() => null);
    if (answer?.ok) { count = 0; index.clear(); keysOf = []; put(await read(answer)); } else readout.textContent = "the store does not answer: only what comes now is shown";
    base = null; canvas.dataset.ready = count;
  };
  const loadLayers = async () => {
    const answer = await fetch("/sky/layers").catch(() => null);
    if (!answer?.ok) return;
    ({ fields, events } = await answer.json());
    base = null;
    // The zenith moves in the course of a night; a map that is looked at stays where it is.
    const last = fields.at(-1), first = !canvas.dataset.centred, far = last && Math.hypot(last.ra_deg - centre[0], last.dec_deg - centre[1]) > 2;
    if (last && (first || (far && mode === "zenith"))) { centre = [last.ra_deg, last.dec_deg]; canvas.dataset.centred = "yes"; project(); }
  };
  const pull = async () => {
    if (loading) { queued = true; return; }
    loading = true;
    try {
      const got = await read(await fetch(`/sky/changes${query({ since: version })}`)), before = count;
      if (got.head.whole === null) await loadAll(); else { put(got); published = got.head.t_pub_us; if (count !== before) base = null; }
      schedule();
    } catch { /* the next tick tries again */ }
    loading = false;
    if (queued) { queued = false; pull(); }
  };
  let wanted = false;
  const schedule = () => {
    if (wanted) return;
    wanted = true;
    requestAnimationFrame(() => {
      wanted = false;
      paint();
      if (published !== null) { window.painted.push(Date.now() - published / 1e3); published = null; }
      if (window.painted.length > 5000) window.painted.splice(0, 2500);
    });
  };

  const size = () => ({ w: canvas.clientWidth, h: Math.min(canvas.clientWidth * (mode === "zenith" ? 1 : 0.52), innerHeight * 0.72) });
  const onScreen = () => {
    const { w, h } = size(), s = view.zoom * Math.min(w / (2 * projection.width), h / (2 * projection.height)) * 0.97;
    return { w, h, s, x0: w / 2 + view.x, y0: h / 2 + view.y };
  };
  const spot = [0, 0];
  const screen = (ra, dec, on) => { projection.to(ra, dec, spot, 0); return Number.isNaN(spot[0]) ? null : [on.x0 + on.s * spot[0], on.y0 - on.s * spot[1]]; };
  const path = (ctx, points, on) => {
    let pen = false, last = 0;
    ctx.beginPath();
    for (const [ra, dec] of points) {
      const at = screen(ra, dec, on);
      if (!at || (pen && Math.abs(at[0] - last) > on.s)) pen = false;
      if (!at) continue;
      if (pen) ctx.lineTo(...at); else ctx.moveTo(...at);
      pen = true; last = at[0];
    }
    ctx.stroke();
  };
  const ring = (ra, dec, radius) => {
    const RAD = Math.PI / 180, out = [], d = dec * RAD, r = Math.min(radius, 89.9) * RAD;
    for (let i = 0; i <= 96; i++) {
      const a = i / 96 * 2 * Math.PI, sd = Math.sin(d) * Math.cos(r) + Math.cos(d) * Math.sin(r) * Math.cos(a);
      out.push([ra + Math.atan2(Math.sin(a) * Math.sin(r) * Math.cos(d), Math.cos(r) - Math.sin(d) * sd) / RAD, Math.asin(sd) / RAD]);
    }
    return out;
  };
  const radius = (i) => {
    const f = rows[4 * i + 2];
    return f > 0 ? 1.2 + 3.2 * Math.min(1, Math.max(0, (Math.log(f) - fluxes[0]) / (fluxes[1] - fluxes[0] || 1))) : 1.2;
  };
  const shape = {
    new_source: (c, x, y) => { c.moveTo(x, y - 7); c.lineTo(x + 6, y); c.lineTo(x, y + 7); c.lineTo(x - 6, y); c.closePath(); },
    flare: (c, x, y) => { c.moveTo(x, y - 7); c.lineTo(x + 6, y + 5); c.lineTo(x - 6, y + 5); c.closePath(); },
    other: (c, x, y) => { c.moveTo(x, y + 7); c.lineTo(x + 6, y - 5); c.lineTo(x - 6, y - 5); c.closePath(); },
  };
  const drawGrid = (ctx, on) => {
    const span = (n, f) => Array.from({ length: n + 1 }, (_, i) => f(i / n));
    ctx.strokeStyle = css("--line"); ctx.lineWidth = 1; ctx.fillStyle = css("--muted"); ctx.font = "11px system-ui, sans-serif"; ctx.textAlign = "center";
    for (let dec = -60; dec <= 60; dec += 30) path(ctx, span(180, (f) => [centre[0] - 179.99 + 359.98 * f, dec]), on);
    for (let ra = 0; ra < 360; ra += 30) {
      path(ctx, span(60, (f) => [ra, -90 + 180 * f]), on);
      const at = screen(ra, mode === "zenith" ? Math.max(-60, centre[1] - 60) : 0, on);
      if (at && view.zoom < 6 && (on.w > 600 || ra % 60 === 0)) ctx.fillText(`${ra / 15}h`, at[0], at[1] - 3);
    }
    if (mode === "mollweide") for (const edge of [179.99, -179.99]) path(ctx, span(90, (f) => [centre[0] + edge, -90 + 180 * f]), on);
  };
  const drawObjects = (ctx, on, dpr) => {
    const layer = count > MANY ? window.dots(base.width, base.height) : null, colour = dots.colour(css("--c1"), 0.8);
    const round = new Path2D(), squares = new Path2D();
    for (let i = 0; i < count; i++) {
      const x = on.x0 + on.s * plane[2 * i], y = on.y0 - on.s * plane[2 * i + 1];
      // What is behind the horizon is nowhere: NaN, which is in no range.
      if (!(x > -5 && y > -5 && x < on.w + 5 && y < on.h + 5)) continue;
      const r = radius(i);
      if (rows[4 * i + 3] === 1) squares.rect(x - 4, y - 4, 8, 8);
      else if (layer) layer.put(x * dpr, y * dpr, r * dpr, colour);
      else { round.moveTo(x + r, y); round.arc(x, y, r, 0, 6.2832); }
    }
    ctx.globalAlpha = 0.8; ctx.fillStyle = css("--c1");
    ctx.fill(round);
    ctx.globalAlpha = 1;
    if (layer) { ctx.save(); ctx.setTransform(1, 0, 0, 1, 0, 0); ctx.drawImage(layer.canvas(), 0, 0); ctx.restore(); }
    ctx.strokeStyle = css("--c4"); ctx.lineWidth = 1.5; ctx.stroke(squares);
  };
  const drawBase = (dpr) => {
    const on = onScreen();
    base = new OffscreenCanvas(Math.max(1, on.w * dpr), Math.max(1, on.h * dpr));
    const ctx = base.getContext("2d");
    ctx.scale(dpr, dpr);
    drawGrid(ctx, on);
    ctx.strokeStyle = css("--c3"); ctx.globalAlpha = 0.8;
    for (const f of fields) path(ctx, ring(f.ra_deg, f.dec_deg, f.radius_deg), on);
    drawObjects(ctx, on, dpr);
    ctx.strokeStyle = css("--c2"); ctx.lineWidth = 1.8;
    ctx.beginPath();
    for (const e of events) { const at = e.alert_type === "retraction" ? null : screen(e.ra_deg, e.dec_deg, on); if (at) (shape[e.kind] ?? shape.other)(ctx, ...at); }
    ctx.stroke();
  };
  const paint = () => {
    const { w, h } = size(), dpr = devicePixelRatio, wide = Math.round(w * dpr), high = Math.round(h * dpr);
    if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; canvas.style.height = `${h}px`; base = null; }
    if (!base) drawBase(dpr);
    const ctx = canvas.getContext("2d"), on = onScreen(), glow = new Path2D();
    ctx.setTransform(1, 0, 0, 1, 0, 0); ctx.clearRect(0, 0, wide, high); ctx.drawImage(base, 0, 0);
    // What was just seen glows.
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0); ctx.fillStyle = css("--good");
    for (const i of fresh) {
      const x = on.x0 + on.s * plane[2 * i], y = on.y0 - on.s * plane[2 * i + 1], r = radius(i) + 0.4;
      if (!(x > -5 && y > -5 && x < w + 5 && y < h + 5)) continue;
      if (fresh.size > 4000) glow.rect(x - r / 2, y - r / 2, r, r); else { glow.moveTo(x + r, y); glow.arc(x, y, r, 0, 6.2832); }
    }
    ctx.fill(glow); fresh.clear();
  };
  const nearest = (x, y) => {
    const on = onScreen(), px = (x - on.x0) / on.s, py = (on.y0 - y) / on.s, reach = 150 / on.s ** 2;
    let best = null, d = reach;
    for (const e of events) {
      projection.to(e.ra_deg, e.dec_deg, spot, 0);
      const r = (spot[0] - px) ** 2 + (spot[1] - py) ** 2;
      if (r < d) { d = r; best = { href: `/transients/${e.id}`, text: `${e.kind.replace("_", " ")}, ${e.significance.toFixed(1)} sigma`, at: [e.ra_deg, e.dec_deg] }; }
    }
    if (best) d -= 20 / on.s ** 2;
    let found = -1;
    for (let i = 0; i < count; i++) { const dx = plane[2 * i] - px, dy = plane[2 * i + 1] - py, r = dx * dx + dy * dy; if (r < d) { d = r; found = i; } }
    if (found < 0) return best;
    const named = unit || fields.at(-1)?.unit || "";
    return { href: `/objects/${keysOf[found]}`, text: `object, mean flux ${rows[4 * found + 2].toPrecision(4)} ${named}`, at: [rows[4 * found], rows[4 * found + 1]] };
  };
  const tell = (x, y) => {
    const found = nearest(x, y), on = onScreen(), here = projection.from((x - on.x0) / on.s, (on.y0 - y) / on.s);
    canvas.style.cursor = found ? "pointer" : "default";
    readout.textContent = found ? `${positionText(...found.at)} · ${found.text}` : here ? `${positionText(...here)} · ${count} objects, ${events.length} transients` : `${count} objects, ${events.length} transients`;
  };
  const where = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const show = (next) => { view = next; base = null; schedule(); };
  const zoomAt = (factor, sx, sy) => {
    const { w, h } = size(), cx = sx - w / 2, cy = sy - h / 2, zoom = Math.min(400, Math.max(0.8, view.zoom * factor)), f = zoom / view.zoom;
    show({ zoom, x: cx - (cx - view.x) * f, y: cy - (cy - view.y) * f });
  };
  const zoom = (factor) => { const { w, h } = size(); if (factor) zoomAt(factor, w / 2, h / 2); else show({ zoom: 1, x: 0, y: 0 }); };
  canvas.addEventListener("pointerdown", (event) => { drag = { at: where(event), moved: 0 }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = where(event);
    if (!drag) { tell(x, y); return; }
    const [dx, dy] = [x - drag.at[0], y - drag.at[1]];
    drag = { at: [x, y], moved: drag.moved + Math.abs(dx) + Math.abs(dy) };
    show({ ...view, x: view.x + dx, y: view.y + dy });
  });
  canvas.addEventListener("pointerup", (event) => {
    const found = drag && drag.moved < 4 ? nearest(...where(event)) : null;
    drag = null;
    if (found) location.href = found.href;
  });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoomAt(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...where(event)); }, { passive: false });
  const choose = (next) => {
    mode = next;
    if (mode === "zenith") asked.set("projection", mode); else asked.delete("projection");
    history.replaceState(null, "", asked.size ? `?${asked}` : location.pathname);
    document.querySelectorAll("[data-projection]").forEach((one) => one.setAttribute("aria-pressed", one.dataset.projection === mode));
    view = { zoom: 1, x: 0, y: 0 };
    project(); schedule();
  };
  document.querySelectorAll("[data-projection]").forEach((button) => button.addEventListener("click", () => choose(button.dataset.projection)));
  document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => zoom(+button.dataset.zoom)));
  keys.on("+", () => zoom(1.4)); keys.on("=", () => zoom(1.4)); keys.on("-", () => zoom(1 / 1.4)); keys.on("0", () => zoom(0));
  keys.on("z", () => choose(mode === "zenith" ? "mollweide" : "zenith"));
  keys.pan((dx, dy) => show({ ...view, x: view.x + dx, y: view.y + dy }), canvas);
  document.addEventListener("theme", () => { base = null; schedule(); });
  new ResizeObserver(() => { base = null; schedule(); }).observe(canvas);
  if (asked.get("projection") === "zenith") choose("zenith");
  const live = new EventSource("/events?topics=sky&every=fast");
  live.onmessage = pull;
  let told = -1;
  document.addEventListener("tick", (event) => { if (event.detail.transients !== told) { told = event.detail.transients; loadLayers().then(schedule); } });
  addEventListener("pagehide", () => live.close());
  Promise.all([loadLayers(), loadAll()]).then(schedule);
})();
