"use strict";
(() => {
  document.addEventListener("click", (event) => {
    if (event.target.matches("figure img")) event.target.closest("figure").classList.toggle("large");
  });
  // Both sides of a sample open and close together; "toggle" does not bubble.
  document.addEventListener("toggle", (event) => {
    if (!event.target.matches(".versus .episode")) return;
    for (const other of event.target.closest(".versus").querySelectorAll(".episode")) other.open = event.target.open;
  }, true);
  const first = document.querySelector(".versus .episode");
  if (first) first.open = true;
})();
