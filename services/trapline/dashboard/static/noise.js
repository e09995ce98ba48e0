// Noise per band in the course of time, as the lightcurve plot draws it; rejected images are rings.
"use strict";
(async () => {
  const place = document.getElementById("noise"), said = document.getElementById("noise-said");
  const answer = await fetch(`/images/noise${location.search}`).catch(() => null);
  if (!answer?.ok) { said.textContent = "the store does not answer"; return; }
  const bands = (await answer.json()).bands.slice(0, 6);
  if (!bands.length) { said.textContent = "no image with a noise"; return; }
  window.curve(place, bands, { height: 220 });
  said.textContent = `the newest ${bands.reduce((sum, band) => sum + band.t.length, 0)} images`;
})();
