// The keyboard on every page. Pages add their own keys with `keys.on`.
"use strict";
(() => {
  const own = new Map();
  // The choice is in the address, so that a link shows the same; the cookie is for the pages after this one.
  document.getElementById("unit")?.addEventListener("change", ({ target }) => {
    document.cookie = `trapline_unit=${target.value}; path=/; max-age=31536000; samesite=strict`;
    const query = new URLSearchParams(location.search);
    if (target.value) query.set("unit", target.value); else query.delete("unit");
    location.search = query;
  });
  let went = 0;
  const help = document.getElementById("keys");
  const rows = () => [...document.querySelectorAll("tr[data-href]")];
  const selected = () => document.querySelector("tr[aria-selected=true]");
  const select = (row) => {
    selected()?.removeAttribute("aria-selected");
    row?.setAttribute("aria-selected", "true");
    row?.scrollIntoView({ block: "nearest" });
    if (row) document.dispatchEvent(new CustomEvent("selected", { detail: row }));
  };
  const step = (by) => {
    const all = rows();
    const at = all.indexOf(selected());
    if (all.length) select(all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))]);
  };
  const follow = (rel) => { const link = document.querySelector(`a[rel~="${rel}"]`); if (link) location.href = link.href; };

  const common = {
    "?": () => (help.open ? help.close() : help.showModal()),
    d: () => window.nextTheme(),
    g: () => { went = Date.now(); },
    j: () => step(1), k: () => step(-1), 
    Enter: () => { const row = selected(); if (row) location.href = row.dataset.href; },
    "/": () => document.querySelector("form.filters input, form.filters select")?.focus(),
    "[": () => follow("prev"), "]": () => follow("next"),
  };
  // While a map or an image has the focus, arrows move it.
  const pan = (move, element) => element.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (by && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); move(...by); }
  });
  window.keys = { on: (key, action) => own.set(key, action), selected, select, rows, step, pan };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const where = event.target;
    if (where.matches("input, select, textarea, [contenteditable]")) {
      if (event.key === "Escape") where.blur();
      return;
    }
    if (help.open && event.key !== "?") return;
    if (event.key === "Enter" && where.matches("a, button, summary")) return;
    if (went && Date.now() - went < 1500) {
      went = 0;
      const link = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
      if (link) { event.preventDefault(); location.href = link.href; return; }
    }
    const action = own.get(event.key) ?? common[event.key];
    if (action) { event.preventDefault(); action(event); }
  });
  document.getElementById("help").addEventListener("click", () => help.showModal());
  document.addEventListener("click", (event) => {
    const row = event.target.closest?.("tr[data-href]");
    if (!row || event.target.closest("a, button, input, select, textarea, label")) return;
    if (row.getAttribute("aria-selected") === "true") location.href = row.dataset.href; else select(row);
  });
})();
