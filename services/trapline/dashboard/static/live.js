// Live pages: a tick says that there is news, and the page pulls its live part again. One pull at a time: what comes
// meanwhile is one more pull afterwards. A hidden page is no viewer.
"use strict";
(() => {
  const area = document.getElementById("live");
  const light = document.getElementById("link");
  const topics = area?.dataset.topics?.trim();
  if (!topics) return;
  let events = null, pulling = false, again = false, paused = false;

  const say = (state, text) => {
    light.dataset.state = state;
    light.querySelector("span").textContent = text;
  };

  // Keeps what a person is using: the selected row, the focus, how far tables are scrolled.
  const swap = (html) => {
    const selected = area.querySelector("tr[aria-selected=true]")?.dataset.id;
    const focused = area.contains(document.activeElement) ? document.activeElement : null;
    const path = focused?.id ? `#${focused.id}` : focused?.getAttribute("href") ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]` : "";
    const open = [...area.querySelectorAll("details")].map((one) => one.open);
    const scrolled = [...area.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    area.innerHTML = html;
    area.querySelectorAll(".scroll").forEach((one, i) => { one.scrollLeft = scrolled[i] ?? 0; });
    area.querySelectorAll("details").forEach((one, i) => { one.open = open[i] ?? one.open; });
    if (selected) area.querySelector(`tr[data-id="${CSS.escape(selected)}"]`)?.setAttribute("aria-selected", "true");
    if (path) area.querySelector(path)?.focus({ preventScroll: true });
    document.dispatchEvent(new Event("swapped"));
  };

  // Whoever writes in a live part is not interrupted.
  const busy = () => paused || (area.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"));

  const pull = async () => {
    if (pulling || busy()) { again = true; return; }
    pulling = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Fragment": "1" } });
      if (answer.status === 401) { location.reload(); return; }
      const html = await answer.text();
      if (busy()) again = true; else swap(html);
      say("live", "live");
    } catch {
      say("lost", "dashboard does not answer");
    } finally {
      pulling = false;
      if (again && !busy()) { again = false; pull(); }
    }
  };

  const open = () => {
    if (events || document.hidden) return;
    let first = true;
    events = new EventSource(`/events?topics=${encodeURIComponent(topics)}&every=${area.dataset.every ?? ""}`);
    events.onopen = () => say("live", "live");
    events.onmessage = (event) => {
      document.dispatchEvent(new CustomEvent("tick", { detail: JSON.parse(event.data) }));
      // The page was made a moment ago: its first tick brings nothing new.
      if (first) { first = false; return; }
      if (area.dataset.pull !== "no") pull();
    };
    events.onerror = () => say("lost", "dashboard does not answer");
  };
  const close = () => { events?.close(); events = null; say("still", "not live"); };

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close(); else { open(); pull(); }
  });
  area.addEventListener("focusout", () => setTimeout(() => { if (again && !busy()) { again = false; pull(); } }));
  window.live = {
    pull,
    pause() { paused = true; },
    resume() { paused = false; if (again) { again = false; pull(); } },
  };
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
})();
