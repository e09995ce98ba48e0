// Light, dark, or as the system says: before anything is painted.
"use strict";
(() => {
  const root = document.documentElement;
  const modes = ["auto", "light", "dark"];
  const read = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const show = (mode) => {
    root.dataset.theme = mode;
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.shown = mode === "auto" ? system : mode;
    document.dispatchEvent(new Event("theme"));
  };
  const stored = read();
  show(modes.includes(stored) ? stored : "auto");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(root.dataset.theme));
  window.nextTheme = () => {
    const mode = root.dataset.shown === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", mode); } catch { /* private windows forget */ }
    show(mode);
  };
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", window.nextTheme);
  });
})();
