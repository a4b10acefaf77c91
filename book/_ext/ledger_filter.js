// The field above the ledger: lines that have all words stay, groups with such lines open.
(() => {
  "use strict";
  const field = document.getElementById("ledger-field");
  if (!field) return;
  const said = document.getElementById("ledger-said");
  const groups = [...document.querySelectorAll("details.ledger-group")];
  const lines = groups.map(group => [...group.querySelectorAll("tbody tr")]);
  const texts = lines.map((rows, i) => {
    const heading = groups[i].closest("section").querySelector("h2").textContent;
    return rows.map(row => `${heading} ${row.textContent}`.toLowerCase());
  });

  function filter() {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    groups.forEach((group, i) => {
      let here = 0;
      lines[i].forEach((row, j) => {
        row.hidden = !words.every(word => texts[i][j].includes(word));
        here += !row.hidden;
      });
      group.open = words.length > 0 && here > 0;
      group.closest("section").hidden = words.length > 0 && here === 0;
      found += here;
    });
    said.textContent = words.length ? `${found} of ${lines.flat().length} lines` : "";
  }

  function openTarget() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const group = target?.closest("details") ?? target?.querySelector("details");
    if (!group) return;
    group.open = true;
    target.scrollIntoView();
  }

  document.getElementById("ledger-find").hidden = false;
  field.addEventListener("input", filter);
  window.addEventListener("hashchange", openTarget);
  openTarget();
})();
