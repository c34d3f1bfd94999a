"use strict";
// Follows a page while something is to come: asks its address for what changed, and puts that in place part by part.
// A part that someone types in, or that holds the focus, stays; then a link shows what changed.
const root = document.querySelector("[data-live]");
const said = document.getElementById("live");
const LONGEST = 60;
let wait = Number(root.dataset.every);
let timer = 0;

const changed = (control) => {
  if (control.type === "checkbox" || control.type === "radio") return control.checked !== control.defaultChecked;
  if (control instanceof HTMLSelectElement) {
    const first = [...control.options].findIndex((option) => option.defaultSelected);
    return control.selectedIndex !== Math.max(first, 0);
  }
  return control.type !== "hidden" && control.value !== control.defaultValue;
};
const inUse = (part) =>
  part.contains(document.activeElement) || [...part.querySelectorAll("input, select, textarea")].some(changed);
const named = (details) => details.id || details.querySelector("summary").textContent;

const putIn = (part, fresh) => {
  const open = new Set([...part.querySelectorAll("details[open]")].map(named));
  for (const details of fresh.querySelectorAll("details")) details.open ||= open.has(named(details));
  part.replaceWith(fresh);
};

const show = (text) => {
  const fresh = new DOMParser().parseFromString(text, "text/html").querySelector("[data-live]");
  if (!fresh) return location.reload();
  let kept = 0;
  for (const part of root.querySelectorAll("[data-part]")) {
    const other = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!other) continue;
    if (inUse(part)) kept += 1;
    else putIn(part, other);
  }
  document.title = fresh.dataset.title;
  for (const name of ["stamp", "every", "title"]) root.dataset[name] = fresh.dataset[name];
  const link = Object.assign(document.createElement("a"), { href: location.href, textContent: "Show all of it" });
  said.replaceChildren(fresh.dataset.news, ...(kept ? [" What you are working at was left as it is. ", link] : []));
};

const stop = (why) => {
  const link = Object.assign(document.createElement("a"), { href: location.href, textContent: "Refresh" });
  said.replaceChildren(`${why} This page is no longer followed. `, link);
};

const ask = async () => {
  const address = new URL(root.dataset.live, location);
  address.search = location.search;
  address.searchParams.set("stamp", root.dataset.stamp);
  try {
    const answer = await fetch(address, { redirect: "manual", headers: { Accept: "text/html" } });
    if (answer.type === "opaqueredirect" || answer.status === 403) return stop("You are signed out.");
    if (answer.status === 200) show(await answer.text());
    else if (answer.status !== 204) return stop("It can't be read.");
    wait = Number(root.dataset.every);
  } catch {
    wait = Math.min(wait * 2, LONGEST);
  }
  next();
};

const next = () => {
  clearTimeout(timer);
  if (wait && !document.hidden) timer = setTimeout(ask, wait * 1000);
};
document.addEventListener("visibilitychange", next);
next();
