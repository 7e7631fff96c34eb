"use strict";
// Reading needs no script: this one shows the text of a mark, and highlights a trial in every figure of its study.
(() => {
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const studies = new Map();
  const tipsOf = (study) => {
    if (!studies.has(study)) studies.set(study, JSON.parse(study.querySelector("script.tips").textContent));
    return studies.get(study);
  };
  let shown = [];
  const clear = () => {
    shown.forEach((mark) => mark.classList.remove("on"));
    shown = [];
    tip.hidden = true;
  };
  document.addEventListener("pointerover", (event) => {
    clear();
    const mark = event.target.closest?.("[data-tip], [data-k]");
    if (!mark) return;
    const study = mark.closest(".study");
    if (mark.dataset.k !== undefined && study) {
      tip.textContent = tipsOf(study)[Number(mark.dataset.k)];
      shown = [...study.querySelectorAll(`[data-k="${Number(mark.dataset.k)}"]`)];
      shown.forEach((mark) => mark.classList.add("on"));
    } else {
      tip.textContent = mark.dataset.tip;
    }
    tip.hidden = false;
  });
  document.addEventListener("pointermove", (event) => {
    if (tip.hidden) return;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
    tip.style.top = `${event.clientY + height + 24 > innerHeight ? event.clientY - height - 10 : event.clientY + 16}px`;
  });
  document.addEventListener("scroll", clear, { passive: true });
  let opened = [];  // opens small sections for printing, because paper cannot be unfolded
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.prints:not([open])")];
    opened.forEach((section) => { section.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((section) => { section.open = false; }));
})();
