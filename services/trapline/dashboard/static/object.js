// The lightcurve of one object: the whole at a coarse resolution, and what is really there when one zooms in.
"use strict";
(() => {
  const place = document.getElementById("curve");
  const said = document.getElementById("resolution");
  const body = document.querySelector("#points tbody");
  const MOST = 4000, LIMIT = +place.dataset.limit;
  let chart = null, asked = 0, timer = 0, coarse = false, whole = null;

  const get = async (range) => {
    const query = new URLSearchParams({ most: MOST }), unit = new URLSearchParams(location.search).get("unit");
    if (unit) query.set("unit", unit);
    if (range) { query.set("since", range[0]); query.set("until", range[1]); }
    const answer = await fetch(`/objects/${place.dataset.object}/curve?${query}`);
    if (!answer.ok) throw new Error((await answer.text()).trim());
    return (await answer.json()).bands;
  };
  const say = (bands) => {
    const shown = bands.reduce((sum, band) => sum + band.shown, 0), most = Math.max(1, ...bands.map((band) => band.mean_of));
    const bin = Math.max(0, ...bands.map((band) => band.bin_s ?? 0)), width = { 60: "a minute", 3600: "an hour", 86400: "a day" }[bin] ?? `${bin} s`;
    said.textContent = bin > 0 ? `${shown} bins, of up to ${width}: zoom in for finer ones` : most > 1 ? `${shown} means of ${most} neighbouring points: zoom in for each` : `${shown} points, each measurement`;
    const kinds = ["blind", "forced", "monitored", "back in time"];
    const lines = bands.flatMap((band) => band.t.slice(0, 200).map((t, i) => [new Date(t * 1e3).toISOString().slice(0, 23).replace("T", " "), band.name, limitOf(band, i, LIMIT) ?? band.flux[i], band.err[i], (kinds[band.kind[i]] ?? "") + (limitOf(band, i, LIMIT) == null ? "" : ", upper limit")]));
    body.replaceChildren(...lines.map((cells) => {
      const row = document.createElement("tr");
      row.append(...cells.map((cell, i) => Object.assign(document.createElement("td"), { className: i === 2 || i === 3 ? "r" : "", textContent: typeof cell === "number" ? cell.toPrecision(4) : cell ?? "–" })));
      return row;
    }));
  };
  const zoomed = (min, max) => {
    if (!coarse) return;
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const mine = ++asked, wide = max - min;
      const bands = await get([min - wide / 2, max + wide / 2]).catch(() => null);
      if (!bands || mine !== asked || !bands.some((band) => band.t.length)) return;
      // What lies outside stays coarse, so that one can go on panning.
      const merged = bands.map((band) => {
        const old = whole.find((one) => one.name === band.name);
        if (!old || !band.t.length) return old ?? band;
        const a = old.t.findIndex((t) => t >= band.t[0]), b = old.t.findLastIndex((t) => t <= band.t.at(-1));
        const join = (key) => [...old[key].slice(0, a < 0 ? old.t.length : a), ...band[key], ...old[key].slice(b + 1)];
        return { ...band, t: join("t"), flux: join("flux"), err: join("err"), kind: join("kind") };
      });
      const range = { ...chart.plot().scales.x };
      coarse = false;
      chart.set(merged);
      chart.plot().setScale("x", range);
      say(bands);
      coarse = true;
    }, 200);
  };
  const show = async () => {
    try {
      whole = await get();
    } catch (error) { said.textContent = error.message; return; }
    chart = window.curve(place, whole, { zoomed, keep: true, limit: LIMIT });
    say(whole);
    coarse = whole.some((band) => band.mean_of > 1 || band.bin_s > 0);
    place.dataset.ready = "yes";
  };
  const zoom = (factor) => { if (!chart) return; if (factor) chart.zoom(factor); else { chart.set(whole); chart.whole(); say(whole); } };
  document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => zoom(+button.dataset.zoom)));
  keys.on("+", () => zoom(0.5));
  keys.on("=", () => zoom(0.5));
  keys.on("-", () => zoom(2));
  keys.on("0", () => zoom(0));
  keys.pan((dx) => { if (chart) chart.move(dx); }, place);
  document.getElementById("copy").addEventListener("click", async () => {
    const done = await navigator.clipboard?.writeText(document.getElementById("snippet").textContent).then(() => true, () => false);
    document.getElementById("copied").textContent = done ? "copied" : "select it and copy by hand";
  });
  show();
})();
