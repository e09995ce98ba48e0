// Noise, and number of sources, per band in the course of time, as the lightcurve plot draws them; rejected are rings.
"use strict";
(() => {
  const EVERY_MS = 10000, charts = new Map();
  const isZoomed = ({ scales, data: [x] }) => scales.x.min > x[0] || scales.x.max < x[x.length - 1];
  const show = async (place) => {
    // Whoever looks closely at some of it is left alone.
    if (charts.has(place) && isZoomed(charts.get(place).plot())) return;
    const said = document.getElementById(`${place.id}-said`);
    const answer = await fetch(`${place.dataset.from}${location.search}`).catch(() => null);
    if (!answer?.ok) { said.textContent = answer ? (await answer.text()).trim() : "dashboard does not answer"; return; }
    const bands = (await answer.json()).bands.slice(0, 6);
    if (!bands.length) { said.textContent = place.dataset.none; return; }
    if (charts.has(place)) charts.get(place).set(bands); else charts.set(place, window.curve(place, bands, { height: 200 }));
    said.textContent = `the newest ${bands.reduce((sum, band) => sum + band.t.length, 0)} images`;
  };
  let shown = 0;
  const showAll = () => { shown = Date.now(); document.querySelectorAll(".plot[data-from]").forEach(show); };
  // Live, but no more often than somebody can see.
  document.addEventListener("swapped", () => { if (Date.now() - shown > EVERY_MS) showAll(); });
  showAll();
})();
