"use strict";
// While an account is typed, those found are listed below: a combobox. Enter chooses one.
for (const form of document.querySelectorAll("form[data-finds]")) {
  const box = form.querySelector("input[type=search]");
  const list = form.querySelector("ul.found");
  const said = form.querySelector("[role=status]");
  const button = form.querySelector("button");
  let asked = box.value.trim();
  let waiting;

  const options = () => [...list.querySelectorAll("[role=option]")];
  const chosen = () => list.querySelector("[aria-selected=true]");

  function choose(option) {
    chosen()?.setAttribute("aria-selected", "false");
    option?.setAttribute("aria-selected", "true");
    option?.scrollIntoView({ block: "nearest" });
    if (option) box.setAttribute("aria-activedescendant", option.id);
    else box.removeAttribute("aria-activedescendant");
  }

  function show(found, words) {
    list.replaceChildren(...found.map(({ name, about, url }, place) => {
      const option = document.createElement("li");
      option.setAttribute("role", "option");
      option.id = `found-${place}`;
      option.dataset.url = url;
      option.append(Object.assign(document.createElement("b"), { textContent: name }), " ");
      option.append(Object.assign(document.createElement("span"), { className: "muted small", textContent: about }));
      option.addEventListener("click", () => location.assign(url));
      return option;
    }));
    list.hidden = !found.length;
    box.setAttribute("aria-expanded", String(found.length > 0));
    said.hidden = !words;
    said.textContent = words;
    choose(found.length === 1 ? options()[0] : null);
  }

  function count({ accounts, more }, term) {
    if (!accounts.length) return `No active account was found for “${term}”.`;
    if (more) return `${accounts.length} accounts or more. Type another word.`;
    return accounts.length === 1 ? "1 account. Enter chooses it." : `${accounts.length} accounts.`;
  }

  async function find() {
    const term = box.value.trim();
    if (term === asked) return;
    asked = term;
    if (!term) return show([], "");
    const query = new URLSearchParams(new FormData(form));
    try {
      const answer = await fetch(`${form.dataset.finds}?${query}`, { headers: { Accept: "application/json" } });
      if (!answer.ok || answer.redirected) throw new Error(answer.status);
      const found = await answer.json();
      if (term === asked) show(found.accounts, count(found, term));
    } catch {
      if (term === asked) show([], "The search did not answer. Press Enter to search on a page of its own.");
    }
  }

  function move(step) {
    const all = options();
    const at = all.indexOf(chosen());
    choose(all[at < 0 ? (step > 0 ? 0 : all.length - 1) : (at + step + all.length) % all.length]);
  }

  box.setAttribute("role", "combobox");
  box.setAttribute("aria-autocomplete", "list");
  box.setAttribute("aria-expanded", "false");
  box.setAttribute("aria-controls", list.id);
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Accounts found");
  button.hidden = true;
  const links = [...list.querySelectorAll("a")];
  const there = links.map((link) => ({
    name: link.querySelector("b").textContent,
    about: link.querySelector("span").textContent,
    url: link.href,
  }));
  show(there, said.textContent);
  box.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(find, 120);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (options().length) event.preventDefault();
      move(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Enter" && chosen() && asked === box.value.trim()) {
      event.preventDefault();
      location.assign(chosen().dataset.url);
    } else if (event.key === "Escape" && box.getAttribute("aria-expanded") === "true") {
      event.preventDefault();
      show([], "");
      asked = "";
    }
  });
}
