"use strict";
// The ticks of a list: all of a page at once, up to the last one with Shift, all pages, and how many there are.
{
  const boxes = [...document.querySelectorAll("#result_list .action-select")];
  const all = document.getElementById("action-toggle");
  const counter = document.querySelector(".actions .action-counter");
  const across = document.querySelector(".actions .select-across");
  let last = null;

  function show(everywhere) {
    const ticked = boxes.filter((box) => box.checked).length;
    all.checked = ticked === boxes.length;
    counter.textContent = `${ticked} of ${counter.dataset.actionsIcnt} selected`;
    const hidden = { "action-counter": everywhere, question: everywhere || !all.checked, all: !everywhere, clear: !everywhere };
    for (const [name, isHidden] of Object.entries(hidden)) {
      document.querySelector(`.actions .${name}`)?.classList.toggle("hidden", isHidden);
    }
    if (across) across.value = everywhere ? 1 : 0;
  }

  function tick(some, checked) {
    for (const box of some) box.checked = checked;
    show(false);
  }

  function upToLast(box) {
    const [first, end] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
    return boxes.slice(first, end + 1);
  }

  function onLink(name, act) {
    document.querySelector(`.actions .${name} a`)?.addEventListener("click", (event) => {
      event.preventDefault();
      act();
    });
  }

  if (boxes.length && all && counter) {
    all.addEventListener("change", () => tick(boxes, all.checked));
    for (const box of boxes) {
      box.addEventListener("click", (event) => {
        tick(event.shiftKey && last ? upToLast(box) : [box], box.checked);
        last = box;
      });
    }
    onLink("question", () => show(true));
    onLink("clear", () => tick(boxes, false));
    // What was ticked before the page was left is ticked again by the browser.
    window.addEventListener("pageshow", () => show(false));
  }
}
