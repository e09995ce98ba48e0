// One image: stretch, zoom, north up, its sources, and where the pointer is on the sky.
"use strict";
(() => {
  const follow = (id) => () => { const link = document.getElementById(id); if (link) location.href = link.href; };
  keys.on("j", follow("following")); keys.on("k", follow("previous")); keys.on("b", follow("higher")); keys.on("B", follow("lower"));
  const canvas = document.getElementById("image");
  if (!canvas) return;
  const readout = document.getElementById("readout"), marks = document.getElementById("marks"), north = document.getElementById("north"), stretch = document.getElementById("stretch");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const sources = JSON.parse(document.getElementById("source-data")?.textContent ?? "[]");
  let head = null, pixels = null, picture = null, sigma = 1, middle = 0, top = 1, view = { zoom: 1, x: 0, y: 0 }, drag = null;

  const load = async () => {
    const most = Math.min(1024, Math.max(256, canvas.clientWidth * devicePixelRatio));
    const answer = await fetch(`/images/${canvas.dataset.image}/pixels?most=${Math.round(most)}`);
    if (!answer.ok) { readout.textContent = (await answer.text()).trim(); return; }
    const bytes = new Uint8Array(await answer.arrayBuffer()), end = bytes.indexOf(10);
    head = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
    pixels = new Float32Array(bytes.buffer, end + 1, head.nx * head.ny);
    const some = []; const step = Math.max(1, Math.floor(pixels.length / 20000));
    for (let i = 0; i < pixels.length; i += step) if (Number.isFinite(pixels[i])) some.push(pixels[i]);
    some.sort((a, b) => a - b);
    middle = some[some.length >> 1] ?? 0; sigma = ((some[Math.floor(some.length * 0.84)] ?? 1) - (some[Math.floor(some.length * 0.16)] ?? 0)) / 2 || 1e-9;
    for (const p of pixels) if (p > top) top = p;
    whole(); shade(); paint();
    canvas.dataset.ready = "yes";
  };
  const shade = () => {
    picture = new OffscreenCanvas(head.nx, head.ny);
    const ctx = picture.getContext("2d"), data = ctx.createImageData(head.nx, head.ny);
    const softness = 0.2 + (100 - stretch.value) / 10, low = Math.asinh(-2 / softness), peak = (top - middle) / sigma;
    const high = Math.asinh(Math.max(4, peak * (1.02 - stretch.value / 100)) / softness);
    for (let y = 0; y < head.ny; y++) for (let x = 0; x < head.nx; x++) {
      const v = (Math.asinh((pixels[y * head.nx + x] - middle) / sigma / softness) - low) / (high - low);
      const grey = Number.isNaN(v) ? 20 : 255 * Math.min(1, Math.max(0, v)), k = 4 * ((head.ny - 1 - y) * head.nx + x);
      data.data[k] = grey * 0.95; data.data[k + 1] = grey * 0.98; data.data[k + 2] = grey; data.data[k + 3] = 255;
    }
    ctx.putImageData(data, 0, 0);
  };
  // From pixels, seen from the centre, to the screen: right and up. North up has east to the left, as on the sky.
  const turn = () => {
    if (!north.checked || !head.up) return [1, 0, 0, 1];
    const [nx, ny, ex, ey] = head.up, s = Math.sqrt(Math.abs(nx * ey - ny * ex)) || 1;
    return [-ex / s, -ey / s, nx / s, ny / s];
  };
  const size = () => ({ w: canvas.clientWidth, h: Math.min(canvas.clientWidth, innerHeight * 0.78) });
  const whole = () => { const { w, h } = size(); view = { zoom: Math.min(w / head.nx, h / head.ny), x: 0, y: 0 }; };
  const toScreen = (x, y) => { const [a, b, c, d] = turn(), { w, h } = size(), px = x - (head.nx - 1) / 2, py = y - (head.ny - 1) / 2; return [w / 2 + view.x + view.zoom * (a * px + b * py), h / 2 + view.y - view.zoom * (c * px + d * py)]; };
  const toPixel = (sx, sy) => { const [a, b, c, d] = turn(), { w, h } = size(), u = (sx - w / 2 - view.x) / view.zoom, v = -(sy - h / 2 - view.y) / view.zoom, det = a * d - b * c; return [(d * u - b * v) / det + (head.nx - 1) / 2, (a * v - c * u) / det + (head.ny - 1) / 2]; };
  const paint = () => {
    if (!picture) return;
    const { w, h } = size(), scale = devicePixelRatio, ctx = canvas.getContext("2d");
    canvas.width = w * scale; canvas.height = h * scale; canvas.style.height = `${h}px`;
    const [a, b, c, d] = turn(), [x0, y0] = toScreen(-0.5, head.ny - 0.5), z = view.zoom;
    ctx.fillStyle = "#0a0e13"; ctx.fillRect(0, 0, canvas.width, canvas.height);
    ctx.imageSmoothingEnabled = z < 2;
    ctx.setTransform(scale * z * a, -scale * z * c, -scale * z * b, scale * z * d, scale * x0, scale * y0);
    ctx.drawImage(picture, 0, 0);
    ctx.setTransform(scale, 0, 0, scale, 0, 0);
    if (marks.checked) for (const s of sources) {
      if (s.x == null || s.y == null) continue;
      const [x, y] = toScreen((s.x + 0.5) / head.block - 0.5, (s.y + 0.5) / head.block - 0.5), r = Math.max(6, Math.min(22, 4 + 1.4 * Math.sqrt(s.snr || 1)));
      ctx.strokeStyle = s.kind === 0 ? "#6cb6ff" : "#f0a36b"; ctx.lineWidth = 1.3;
      ctx.beginPath();
      if (s.kind === 0) ctx.arc(x, y, r, 0, 6.2832); else ctx.rect(x - 6, y - 6, 12, 12);
      ctx.stroke();
    }
    compass(ctx, w);
  };
  const compass = (ctx, w) => {
    if (!head.up) return;
    const [a, b, c, d] = turn(), [nx, ny, ex, ey] = head.up;
    ctx.font = "12px system-ui, sans-serif"; ctx.fillStyle = ctx.strokeStyle = "#e2e9f1"; ctx.lineWidth = 1.2; ctx.textAlign = "center";
    for (const [name, vx, vy] of [["N", nx, ny], ["E", ex, ey]]) {
      const l = Math.hypot(vx, vy) || 1, dx = (a * vx + b * vy) / l * 24, dy = -(c * vx + d * vy) / l * 24;
      ctx.beginPath(); ctx.moveTo(w - 40, 46); ctx.lineTo(w - 40 + dx, 46 + dy); ctx.stroke(); ctx.fillText(name, w - 40 + dx * 1.4, 50 + dy * 1.4);
    }
  };
  const sky = (x, y) => {
    if (!head.grid) return "";
    const n = head.n, u = Math.min(n - 1.001, Math.max(0, (x + 0.5) / head.nx * (n - 1))), v = Math.min(n - 1.001, Math.max(0, (y + 0.5) / head.ny * (n - 1)));
    const i = Math.floor(u), j = Math.floor(v), fu = u - i, fv = v - j, out = [0, 0, 0];
    for (const [di, dj, weight] of [[0, 0, (1 - fu) * (1 - fv)], [1, 0, fu * (1 - fv)], [0, 1, (1 - fu) * fv], [1, 1, fu * fv]]) for (let k = 0; k < 3; k++) { const g = head.grid[3 * ((j + dj) * n + i + di) + k]; if (g == null) return "beyond the sky"; out[k] += weight * g; }
    const ra = ((Math.atan2(out[1], out[0]) * 180 / Math.PI) + 360) % 360, dec = Math.atan2(out[2], Math.hypot(out[0], out[1])) * 180 / Math.PI;
    return positionText(ra, dec);
  };
  const where = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const zoomAt = (factor, sx, sy) => { const { w, h } = size(), cx = sx - w / 2, cy = sy - h / 2; view = { zoom: view.zoom * factor, x: cx - (cx - view.x) * factor, y: cy - (cy - view.y) * factor }; paint(); };
  const zoom = (factor) => { if (!head) return; if (!factor) { whole(); paint(); } else { const { w, h } = size(); zoomAt(factor, w / 2, h / 2); } };
  canvas.addEventListener("pointermove", (event) => {
    if (!head) return;
    const [sx, sy] = where(event);
    if (drag) { view.x += sx - drag[0]; view.y += sy - drag[1]; drag = [sx, sy]; paint(); return; }
    const [x, y] = toPixel(sx, sy), i = Math.round(x), j = Math.round(y), inside = i >= 0 && j >= 0 && i < head.nx && j < head.ny;
    readout.textContent = inside ? `${sky(x, y)} · pixel ${((x + 0.5) * head.block - 0.5).toFixed(1)}, ${((y + 0.5) * head.block - 0.5).toFixed(1)} · ${(pixels[j * head.nx + i] * canvas.dataset.factor).toPrecision(4)} ${canvas.dataset.unit}` : "";
  });
  canvas.addEventListener("pointerdown", (event) => { drag = where(event); canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", () => { drag = null; });
  canvas.addEventListener("wheel", (event) => { if (!head) return; event.preventDefault(); zoomAt(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...where(event)); }, { passive: false });
  stretch.addEventListener("input", () => { if (head) { shade(); paint(); } });
  for (const box of [marks, north]) box.addEventListener("change", paint);
  document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => zoom(+button.dataset.zoom)));
  keys.on("+", () => zoom(1.5)); keys.on("=", () => zoom(1.5)); keys.on("-", () => zoom(1 / 1.5)); keys.on("0", () => zoom(0));
  keys.pan((dx, dy) => { if (head) { view = { ...view, x: view.x + dx, y: view.y + dy }; paint(); } }, canvas);
  new ResizeObserver(() => { if (head && canvas.width !== Math.round(canvas.clientWidth * devicePixelRatio)) paint(); }).observe(canvas);
  load();
})();
