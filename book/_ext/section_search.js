// Finds sections of the book in `bookSections` (written by section_search.py): every word, or its beginning, must occur.
(() => {
  "use strict";
  const SHOWN = 40, BEFORE = 60, AFTER = 140;
  const words = text => text.toLowerCase().match(/[\p{L}\p{N}_.-]+/gu) || [];
  const stem = word => word.length > 4 ? word.replace(/(?:ies|ing|es|ed|s|y)$/, "") : word;
  const pattern = word => new RegExp("(?<![\\p{L}\\p{N}])" + stem(word).replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "giu");
  const count = (text, found) => (text.match(found) || []).length;

  // Title counts most, then the page's title, then how often the words occur.
  function rank(query) {
    const patterns = words(query).map(pattern);
    if (!patterns.length) return [];
    const hits = [];
    for (const [page, ...sections] of window.bookSections) {
      const pageTitle = sections.length ? sections[0][1] : page;
      for (const [anchor, title, text] of sections) {
        let score = 0;
        for (const found of patterns) {
          const here = 12 * Math.min(count(title, found), 1) + Math.min(count(text, found), 5);
          if (!here) { score = 0; break; }
          score += here + 3 * Math.min(count(pageTitle, found), 1);
        }
        if (score) hits.push({score, page, anchor, title, text, pageTitle});
      }
    }
    return hits.sort((a, b) => b.score - a.score);
  }

  // A line around the first word that occurs, its words marked.
  function line(text, query) {
    const patterns = words(query).map(pattern);
    const first = Math.min(...patterns.map(found => text.search(found)).filter(at => at >= 0), text.length);
    const start = first < text.length ? Math.max(0, text.lastIndexOf(" ", Math.max(0, first - BEFORE)) + 1) : 0;
    const end = text.indexOf(" ", Math.min(text.length, Math.max(first, start) + AFTER));
    const shown = (start ? "… " : "") + text.slice(start, end < 0 ? undefined : end) + (end < 0 ? "" : " …");
    const found = new RegExp(patterns.map(each => each.source + "[\\p{L}\\p{N}]*").join("|"), "giu");
    const paragraph = document.createElement("p");
    paragraph.className = "search-line";
    let done = 0;
    for (const match of shown.matchAll(found)) {
      const mark = document.createElement("mark");
      mark.textContent = match[0];
      paragraph.append(shown.slice(done, match.index), mark);
      done = match.index + match[0].length;
    }
    paragraph.append(shown.slice(done));
    return paragraph;
  }

  function show(query) {
    const place = document.getElementById("search-results");
    const hits = rank(query);
    const said = document.createElement("p");
    said.setAttribute("role", "status");
    said.textContent = !query.trim() ? "" : !hits.length ? `No section has all words of “${query}”.`
      : `${hits.length} section${hits.length > 1 ? "s" : ""}${hits.length > SHOWN ? `, the best ${SHOWN} are shown` : ""}.`;
    const list = document.createElement("ul");
    list.className = "search-sections";
    for (const hit of hits.slice(0, SHOWN)) {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = `${hit.page}#${hit.anchor}`;
      link.textContent = hit.title;
      item.append(link);
      if (hit.pageTitle !== hit.title) {
        const where = document.createElement("span");
        where.className = "search-page";
        where.textContent = ` ${hit.pageTitle}`;
        item.append(where);
      }
      if (hit.text) item.append(line(hit.text, query));
      list.append(item);
    }
    place.replaceChildren(said, list);
  }

  const query = new URLSearchParams(location.search).get("q") || "";
  for (const input of document.querySelectorAll(".bd-search-container input[type=search]")) {
    input.value = query;
    input.addEventListener("input", () => show(input.value));
  }
  show(query);
})();
