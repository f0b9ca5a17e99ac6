"use strict";
(() => {
  const list = document.getElementById("episodes");
  const episodes = [...list.children];
  const find = document.getElementById("find");
  const ended = document.getElementById("ended");
  const sort = document.getElementById("sort");
  const shown = document.getElementById("shown");
  const open = document.getElementById("open");

  const update = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const episode of episodes) {
      const fits = words.every((word) => episode.dataset.text.includes(word))
        && (!ended.value || episode.dataset.ended === ended.value);
      episode.hidden = !fits;
      count += fits;
    }
    const key = sort.value.replace("-", "");
    const sign = sort.value.startsWith("-") ? -1 : 1;
    const order = (a, b) => sign * (a.dataset[key] - b.dataset[key]) || a.dataset.order - b.dataset.order;
    list.append(...[...episodes].sort(order));
    shown.textContent = `${count} of ${episodes.length} episodes`;
  };

  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.matches("details")) {
      target.hidden = false;
      target.open = true;
      target.scrollIntoView();
    }
  };

  for (const control of [find, ended, sort]) control.addEventListener("input", update);
  open.addEventListener("click", () => {
    const all = episodes.every((episode) => episode.open || episode.hidden);
    for (const episode of episodes) episode.open = !all && !episode.hidden;
    open.textContent = all ? "Open all" : "Close all";
  });
  document.addEventListener("click", (event) => {
    if (event.target.matches("figure img")) event.target.closest("figure").classList.toggle("large");
  });
  window.addEventListener("hashchange", reveal);
  update();
  if (!location.hash && episodes.length) episodes[0].open = true;
  reveal();
})();
