"use strict";
// The keys of the desk, as the page "Keys" lists them. Never while somebody types, and not where they are switched off.
{
  const OFF = "keys-off";
  const TYPING = "input:not([type=checkbox], [type=radio]), select, textarea, [contenteditable]";
  const rows = () => [...document.querySelectorAll("#result_list tbody tr, .queue li, .rows li")];
  const link = (row) => row.querySelector("th a, a");
  const here = () => document.activeElement.closest("#result_list tbody tr, .queue li, .rows li");
  const help = () => document.getElementById("keys");

  function step(by) {
    const linked = rows().filter(link);
    const place = linked.indexOf(here());
    const next = linked[place < 0 ? (by > 0 ? 0 : linked.length - 1) : place + by];
    if (next) link(next).focus();
  }

  function search() {
    const field = document.getElementById("searchbar") ?? document.querySelector(".top input[type=search]");
    field?.focus();
    field?.select();
  }

  const keys = {
    "/": search,
    "?": () => help()?.showModal(),
    j: () => step(1),
    k: () => step(-1),
    x: () => here()?.querySelector(".action-select")?.click(),
  };
  const inList = { ArrowDown: keys.j, ArrowUp: keys.k };

  document.addEventListener("keydown", (event) => {
    const held = event.ctrlKey || event.metaKey || event.altKey || event.isComposing;
    if (held || localStorage.getItem(OFF) || event.target.closest(TYPING) || document.querySelector("dialog[open]")) return;
    const act = keys[event.key] ?? (here() && inList[event.key]);
    if (!act) return;
    event.preventDefault();
    act();
  });

  for (const label of document.querySelectorAll(".keys-on")) {
    const box = label.querySelector("input");
    label.hidden = false;
    box.checked = !localStorage.getItem(OFF);
    box.addEventListener("change", () => (box.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "1")));
  }
}
