"use strict";
// Django's autocomplete (Select2) leaves its parts without names and says nothing of the list that it opens.
django.jQuery(() => {
  for (const select of document.querySelectorAll("select.admin-autocomplete")) {
    const label = select.labels[0].textContent.trim();
    const selection = select.nextElementSibling.querySelector(".select2-selection");
    const rendered = selection.querySelector(".select2-selection__rendered");
    selection.removeAttribute("aria-labelledby");
    selection.setAttribute("aria-label", label);
    rendered.setAttribute("aria-label", label);
    django.jQuery(select).on("select2:open", () => {
      const results = `select2-${select.id}-results`;
      selection.setAttribute("aria-controls", results);
      const search = document.querySelector(".select2-search__field");
      search.setAttribute("aria-label", `${label}: number or name`);
      search.focus();
    });
  }
});
