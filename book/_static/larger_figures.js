// A figure opens at full width when it is chosen; Escape, the button, or a click closes it. Without this script its link leads to the drawing.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a.figure-larger");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const dialog = document.createElement("dialog");
  dialog.className = "figure-dialog";
  dialog.setAttribute("aria-label", "Figure, enlarged");
  const close = document.createElement("button");
  close.className = "figure-close";
  close.textContent = "Close";
  dialog.append(close);
  for (const picture of link.querySelectorAll("picture")) {
    const wide = picture.cloneNode(true);
    wide.querySelector("source").remove(); // the narrow drawing
    dialog.append(wide);
  }
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    link.focus();
  });
  link.closest(".bd-article").append(dialog);
  dialog.showModal();
});
