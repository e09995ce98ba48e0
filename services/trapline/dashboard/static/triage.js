// Verdicts with the keyboard or with buttons; what is said goes to a channel, and comes back with the next tick.
"use strict";
(() => {
  const note = document.getElementById("note");
  const status = document.getElementById("said");
  const person = () => { try { return localStorage.getItem("person") ?? ""; } catch { return ""; } };
  const chosen = () => document.getElementById("event")?.dataset.id ?? keys.selected()?.dataset.id;
  const present = (id) => document.querySelector(`tr[data-id="${CSS.escape(id)}"]`)?.dataset.verdict
    ?? document.querySelector("button[data-verdict][aria-pressed=true]")?.dataset.verdict ?? "undecided";

  const say = async (id, verdict, text = "") => {
    const body = JSON.stringify({ verdict, note: text, person: person() });
    const answer = await fetch(`/transients/${id}/verdict`, {
      method: "POST", body, headers: { "Content-Type": "application/json" },
    }).catch(() => null);
    const done = { accept: "accepted", reject: "rejected", undecided: "undecided" };
    status.textContent = answer?.ok ? done[verdict] : answer ? (await answer.text()).trim() : "dashboard does not answer";
    if (answer?.ok) live.pull();
    return answer?.ok;
  };
  const judge = (verdict) => async () => {
    const id = chosen();
    if (!id) { keys.step(1); return; }
    if (await say(id, verdict) && !document.getElementById("event")) keys.step(1);
  };
  keys.on("a", judge("accept"));
  keys.on("r", judge("reject"));
  keys.on("u", judge("undecided"));
  keys.on("n", () => {
    const id = chosen();
    if (!id || !note) return;
    note.returnValue = "";
    note.querySelector("[name=person]").value = person();
    note.querySelector("[name=note]").value = "";
    note.addEventListener("close", () => {
      if (note.returnValue !== "keep") return;
      try { localStorage.setItem("person", note.querySelector("[name=person]").value.trim()); } catch { /* not kept */ }
      say(id, present(id), note.querySelector("[name=note]").value.trim());
    }, { once: true });
    note.showModal();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button[data-verdict]");
    if (!button) return;
    const pressed = button.getAttribute("aria-pressed") === "true";
    say(button.dataset.id, pressed ? "undecided" : button.dataset.verdict);
  });
  // A picture whose image is gone is an empty square, not a broken one.
  document.addEventListener("error", (event) => {
    if (event.target.matches?.("img.cutout")) event.target.replaceWith(Object.assign(document.createElement("span"), { className: event.target.className, title: "the image is in the journal no more" }));
  }, true);
})();
