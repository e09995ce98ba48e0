// Sorts the rows of a page of a list by a column: a click on its heading, or Enter. The choice is in the address (sort).
"use strict";
(() => {
  const SCALE = { k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
  const value = (row, at) => {
    const text = row.cells[at]?.innerText.trim().replace("−", "-") ?? "";
    const found = text.match(/^([-+]?[\d.]+(?:e[-+]?\d+)?)([kMGT]?)(?:[\s,]|$)/i);
    return found ? +found[1] * (SCALE[found[2]] ?? 1) : text;
  };
  // What was not measured comes last, in either order; numbers before text.
  const compare = (a, b, sign) => {
    const empty = (v) => v === "" || v === "–";
    if (empty(a) || empty(b)) return empty(a) - empty(b);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
  };
  const asked = () => new URLSearchParams(location.search).get("sort") ?? "";
  const apply = () => {
    document.querySelectorAll("table[data-sortable]").forEach((table) => {
      const heads = [...table.tHead.rows[0].cells], [name, down] = [asked().replace(/^-/, ""), asked().startsWith("-")];
      heads.forEach((head) => { head.tabIndex = 0; head.classList.add("sorts"); head.removeAttribute("aria-sort"); });
      const at = heads.findIndex((head) => head.innerText.trim() === name);
      if (at < 0) return;
      heads[at].setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => [value(row, at), row]);
      rows.sort((a, b) => compare(a[0], b[0], down ? -1 : 1));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  };
  // First the largest, then the smallest, then the list's own order again, which the server has.
  const choose = (head) => {
    const name = head.innerText.trim(), query = new URLSearchParams(location.search), before = asked();
    if (before === name) query.delete("sort"); else query.set("sort", before === `-${name}` ? name : `-${name}`);
    const text = query.toString();
    history.replaceState(null, "", `${location.pathname}${text ? `?${text}` : ""}`);
    if (query.has("sort")) apply(); else location.reload();
  };
  const heading = (event) => event.target.closest?.("table[data-sortable] thead th");
  document.addEventListener("click", (event) => { const head = heading(event); if (head) choose(head); });
  // Before the page's own Enter, which opens the selected row.
  document.addEventListener("keydown", (event) => {
    const head = heading(event);
    if (head && event.key === "Enter") { event.stopImmediatePropagation(); choose(head); }
  }, { capture: true });
  document.addEventListener("swapped", apply);
  apply();
})();
