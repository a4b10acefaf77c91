// Shows what a term or the symbols of a formula stand for: on pointing, on focus, on a tap. Escape hides it.
"use strict";

(() => {
  const FIRST_USE = new Set();
  let card, owner, timer, mathjax;

  function content(element) {
    const known = window.bookDefinitions;
    if (element.dataset.symbols) {
      const entries = element.dataset.symbols.split(" ").map((key) => known.symbols[key]);
      return `<dl>${entries.join("")}</dl><a href="${known.notation}">All symbols</a>`;
    }
    const entry = known.terms[element.hash.slice(1)];
    return entry ? `<dl>${entry}</dl><a href="${element.getAttribute("href")}">In the glossary</a>` : "";
  }

  function place(element) {
    const box = element.getBoundingClientRect();
    const width = Math.min(360, document.documentElement.clientWidth - 16);
    card.style.width = `${width}px`;
    const left = Math.max(8, Math.min(box.left, document.documentElement.clientWidth - width - 8));
    const above = box.bottom + card.offsetHeight + 8 > window.innerHeight && box.top > card.offsetHeight + 8;
    card.style.left = `${left + window.scrollX}px`;
    card.style.top = `${(above ? box.top - card.offsetHeight - 4 : box.bottom + 4) + window.scrollY}px`;
  }

  function show(element) {
    clearTimeout(timer);
    if (owner === element) return;
    hide();
    const html = content(element);
    if (!html) return;
    owner = element;
    card.innerHTML = html;
    card.hidden = false;
    element.setAttribute("aria-describedby", card.id);
    place(element);
    if (html.includes("\\(")) {
      loadMathJax()
        .then(() => window.MathJax.typesetPromise([card]))
        .then(() => owner === element && place(element));
    }
  }

  // A page without formulas comes without MathJax; a card with one fetches it.
  function loadMathJax() {
    mathjax ??=
      window.MathJax?.startup?.promise ??
      new Promise((resolve, reject) => {
        window.MathJax = { options: { enableMenu: false } };
        const script = document.createElement("script");
        script.src = window.bookDefinitions.mathjax;
        script.onload = () => resolve(window.MathJax.startup.promise);
        script.onerror = reject;
        document.head.append(script);
      });
    return mathjax;
  }

  function hide() {
    clearTimeout(timer);
    if (!owner) return;
    owner.removeAttribute("aria-describedby");
    if (window.MathJax?.typesetClear) window.MathJax.typesetClear([card]);
    owner = null;
    card.hidden = true;
  }

  function start() {
    card = document.createElement("div");
    card.id = "definition-card";
    card.className = "definition-card";
    card.setAttribute("role", "tooltip");
    card.hidden = true;
    (document.querySelector("main") ?? document.body).append(card);

    for (const formula of document.querySelectorAll("article .math[data-symbols]")) {
      if (formula.closest("a, summary, button, table")) continue;
      const fresh = formula.dataset.symbols.split(" ").filter((key) => !FIRST_USE.has(key));
      fresh.forEach((key) => FIRST_USE.add(key));
      // A formula on a line of its own, and the first that uses a symbol, can be reached with the tab key.
      if (fresh.length || formula.tagName === "DIV") {
        formula.tabIndex = 0;
        formula.setAttribute("role", "group");
        formula.setAttribute("aria-label", "Formula with explained symbols");
      }
    }

    const target = (event) => event.target.closest?.("article a.defined-term, article .math[data-symbols]");
    document.addEventListener("pointerover", (event) => {
      if (event.pointerType !== "mouse") return;
      const element = target(event);
      if (element) show(element);
      else if (card.contains(event.target)) clearTimeout(timer);
      else if (owner && document.activeElement !== owner) {
        clearTimeout(timer);
        timer = setTimeout(hide, 250);
      }
    });
    document.addEventListener("focusin", (event) => {
      const element = target(event);
      if (element) show(element);
      else if (!card.contains(event.target)) hide();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
    });
    // On a touch screen the first tap explains; the link to the page is in the card.
    let touched = false;
    document.addEventListener("pointerdown", (event) => {
      touched = event.pointerType !== "mouse";
    });
    document.addEventListener("click", (event) => {
      const element = target(event);
      if (element && touched) {
        if (element.tagName === "A") event.preventDefault();
        show(element);
      } else if (!element && !card.contains(event.target)) hide();
    });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
