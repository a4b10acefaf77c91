/* A tour through the live model: the six steps of ATRank, one a chapter, each at the part of the page that shows it.
 *
 * It speaks about the model and the user on the page: every number is read from atrankLive.view, nothing is written here.
 */
"use strict";

(() => {
  const STYLE = `
    .atl-tour-start { display: block; margin: 0 0 .8rem; }
    .atl-tour { border: 2px solid var(--pst-color-primary, #00487f); border-radius: 6px; background: var(--pst-color-background, Canvas); margin: 0 0 .7rem;
      padding: .6rem .75rem; scroll-margin-top: 4rem; }
    .atl-tour .atl-row { align-items: center; margin: 0; }
    .atl .atl-tour:focus-visible { outline-offset: -2px; }
    .atl-tour p { margin-bottom: .6rem; }
  `;
  const OUTLINE = "outline: 2px solid var(--pst-color-accent, #8a3600); outline-offset: 2px; border-radius: 3px;";

  const percent = (x) => `${Math.round(100 * x)}\u00a0%`;
  const quoted = (view, behavior) => `${view.behaviors.indexOf(behavior) + 1} (${view.words(behavior)})`;

  /** The behavior that the target takes most from, on the mean over the spaces. */
  function mostAsked(view) {
    const weights = view.result.targetAttention;
    const mean = view.behaviors.map((_, j) => weights.reduce((sum, w) => sum + w[j], 0) / weights.length);
    const at = mean.indexOf(Math.max(...mean));
    return { behavior: view.behaviors[at], share: mean[at] };
  }

  /** The strongest look of one behavior at another: space, from, to, weight. */
  function strongestLook(view) {
    const n = view.behaviors.length;
    let best = { weight: 0 };
    view.result.selfAttention[0].forEach((m, space) =>
      m.data.forEach((weight, at) => {
        const [i, j] = [Math.floor(at / n), at % n];
        if (i !== j && weight > best.weight) best = { space, i, j, weight };
      }),
    );
    return best;
  }

  // each step: its chapter, the section of the page, what is outlined there, and what is said about it
  const STEPS = [
    {
      title: "Behaviors", chapter: "01_behaviors", section: "user", shown: ".atl-user ol",
      text: (view) => `A user is a list of behaviors: somebody did something to an object at some time. Here are ${view.behaviors.length}. The target is what may come next.`,
    },
    {
      title: "Grouping", chapter: "02_grouping", section: "user", shown: ".atl-number",
      text: (view) => {
        const groups = view.model.groups.filter((_, g) => view.behaviors.some((b) => b.group === g)).map((g) => g.name);
        return `Objects of different kinds have different features. So each kind is a group, kept in a block of its own: ${groups.join(", ")}. A stripe beside the number tells them apart.`;
      },
    },
    {
      title: "Time and embedding", chapter: "03_time_encoding", section: "user", shown: ".atl-age",
      text: (view) => {
        const newest = view.behaviors.reduce((a, b) => (b.elapsed < a.elapsed ? b : a));
        const { time } = view.model.groups[newest.group];
        return `Object, action and age become one vector. The age is looked up in buckets that double in width: behavior ${quoted(view, newest)} is in bucket ${window.atrankLive.bucketOf({ time }, newest.elapsed)} of ${time.edges.length + 1}, counted from 0 in ${time.name}s. Drag a slider: only a new bucket changes the score.`;
      },
    },
    {
      title: "Projection", chapter: "04_projection", section: "looking", shown: ".atl-look",
      text: (view) => `Vectors of all groups are mapped to ${view.model.config.hidden} numbers, and these to ${view.model.config.sizes.length} spaces of ${view.model.config.sizes[0]}. In each space behaviors of different groups can be compared; each asks a question of its own, and has a column here.`,
    },
    {
      title: "Self-attention", chapter: "05_attention", section: "self", shown: ".atl-maps",
      text: (view) => {
        const { space, i, j, weight } = strongestLook(view);
        if (i === undefined) return "With one behavior alone there is nobody else to look at.";
        view.point(space, i, j);
        return `Every behavior reads the others, in each space. The strongest look at another one is marked: in space ${space + 1}, behavior ${quoted(view, view.behaviors[i])} gives ${percent(weight)} of its attention to ${quoted(view, view.behaviors[j])}.`;
      },
    },
    {
      title: "Ranking", chapter: "06_ranking", section: "user", shown: ".atl-status, .atl-target ol",
      text: (view) => {
        const { behavior, share } = mostAsked(view);
        return `The target asks the behaviors, too, and takes most from ${quoted(view, behavior)}: ${percent(share)}. What it takes, and the target itself, give the score; the scores of all objects give the rank. Remove a behavior, and watch the rank: is the one that matters the one that is looked at most? The planted causes tell.`;
      },
    },
  ];

  const el = window.atrankLive.el;

  class Tour {
    constructor(view) {
      this.view = view;
      this.startButton = el("button", { type: "button", class: "atl-tour-start", onclick: () => this.go(1) }, "Tour: ATRank in six steps");
      this.title = el("h2", { id: "atl-tour-title" });
      this.text = el("p", { id: "atl-tour-text" });
      this.chapter = el("a");
      this.back = el("button", { type: "button", onclick: () => this.go(view.tour - 1) }, "Back");
      this.next = el("button", { type: "button", onclick: () => this.go(view.tour + 1) }, "Next");
      const close = el("button", { type: "button", onclick: () => this.go(0) }, "Close");
      this.card = el(
        "div",
        { class: "atl-tour", role: "group", tabindex: -1, "aria-labelledby": "atl-tour-title", "aria-describedby": "atl-tour-text", onkeydown: (event) => this.key(event) },
        this.title, this.text, el("div", { class: "atl-row" }, this.back, this.next, close, this.chapter),
      );
      const outlines = STEPS.map(({ shown }, i) => `.atl[data-tour="${i + 1}"] :is(${shown}) { ${OUTLINE} }`);
      view.place.prepend(el("style", {}, STYLE + outlines.join("\n")), this.startButton);
      view.place.addEventListener("atl-opened", () => this.show());
      view.place.addEventListener("atl-updated", () => view.tour && this.tell());
      view.place.addEventListener("keydown", (event) => event.key === "Escape" && view.tour && this.go(0));
      if (view.tour) this.show();
    }

    key(event) {
      const step = this.view.tour + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] || 0);
      if (step === this.view.tour || step < 1 || step > STEPS.length) return;
      event.preventDefault();
      this.go(step);
    }

    /** Show a step; 0 ends the tour. */
    go(step) {
      this.view.tour = step;
      this.view.save();
      this.show();
      if (!step) this.startButton.focus();
    }

    /** What the step says, with the numbers of now. */
    tell() {
      this.text.textContent = this.view.behaviors.length ? STEPS[this.view.tour - 1].text(this.view) : "Nothing is known about this user: undo all changes.";
    }

    show() {
      const { view } = this;
      const { place } = view;
      place.dataset.tour = view.tour;
      this.card.remove();
      if (!view.tour) return;
      if (!view.behaviors.length) view.choose(0); // a tour needs something to look at
      const { title, chapter, section } = STEPS[view.tour - 1];
      this.title.textContent = `Step ${view.tour} of ${STEPS.length}: ${title}`;
      this.tell();
      this.chapter.href = `${chapter}.html`;
      this.chapter.textContent = `Chapter ${view.tour}`;
      this.back.disabled = view.tour === 1;
      this.next.disabled = view.tour === STEPS.length;
      place.querySelector(`.atl-${section}`).prepend(this.card);
      this.card.focus({ preventScroll: true });
      const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
      this.card.scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
    }
  }

  function start() {
    if (window.atrankLive.view) window.atrankLive.tour = new Tour(window.atrankLive.view);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
