// Noise, and number of sources, per band in the course of time, as the lightcurve plot draws them; rejected are rings.
"use strict";
(() => {
  const show = async (place) => {
    const said = document.getElementById(`${place.id}-said`);
    const answer = await fetch(`${place.dataset.from}${location.search}`).catch(() => null);
    if (!answer?.ok) { said.textContent = "the store does not answer"; return; }
    const bands = (await answer.json()).bands.slice(0, 6);
    if (!bands.length) { said.textContent = place.dataset.none; return; }
    window.curve(place, bands, { height: 200 });
    said.textContent = `the newest ${bands.reduce((sum, band) => sum + band.t.length, 0)} images`;
  };
  document.querySelectorAll(".plot[data-from]").forEach(show);
})();
