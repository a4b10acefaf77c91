/* Figures to play with: a drawing with controls in the place of a cell's table, or of the figure that data-figure names,
 * from numbers as JSON (book/atrank_book/play.py). A play is a function of the numbers: it returns its controls and, of
 * their state, `draw`, the marks at a width in pixels, and `say`, the same in words.
 */
"use strict";

(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const PAPER = "var(--pst-color-background)";
  const CARD = "var(--pst-color-surface)";
  const ACCENT = "var(--pst-color-accent)";
  const PRIMARY = "var(--pst-color-primary)";
  const BORDER = "var(--pst-color-border)";

  // --- numbers and words

  const fixed = (x, digits = 2) => x.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "\u2212");
  const signed = (x, digits = 3) => (x < 0 ? "" : "+") + fixed(x, digits);
  const count = (n) => n.toLocaleString("en-US");
  const several = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
  const percent = (x) => `${Math.round(100 * x)}\u00a0%`;
  const pair = (vector) => `(${vector.map((x) => fixed(x)).join(", ")})`;
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  const dot = (a, b) => sum(a.map((x, i) => x * b[i]));
  const groupColor = (name) => `var(--group-${name}, currentColor)`;

  function softmax(scores) {
    const powers = scores.map((s) => Math.exp(s - Math.max(...scores)));
    return powers.map((p) => p / sum(powers));
  }

  function duration(seconds) {
    const [word, size] = [["day", 86400], ["hour", 3600], ["minute", 60]].find(([, s]) => seconds >= s) ?? ["second", 1];
    const number = seconds / size;
    const text = number >= 100 ? count(Math.round(number)) : String(Number(number.toPrecision(3)));
    return `${text} ${word}${text === "1" ? "" : "s"}`;
  }

  /** Places of values from `low` to `high` on pixels from `start` to `end`. */
  function scale(low, high, start, end, log = false) {
    const f = log ? Math.log : (x) => x;
    return (x) => start + ((f(x) - f(low)) / (f(high) - f(low))) * (end - start);
  }

  // --- marks: [key, element, attributes, text]

  const line = (key, x1, y1, x2, y2, more = {}) => [key, "line", { x1, y1, x2, y2, stroke: "currentColor", ...more }];
  const rect = (key, x, y, width, height, more = {}) => [key, "rect", { x, y, width: Math.max(0, width), height, ...more }];
  const circle = (key, cx, cy, r, more = {}) => [key, "circle", { cx, cy, r, fill: "currentColor", ...more }];
  const text = (key, x, y, words, more = {}) => [key, "text", { x, y, ...more }, words];
  const path = (key, points, more = {}) =>
    [key, "path", { d: "M" + points.map((p) => p.map((x) => x.toFixed(1)).join(" ")).join("L"), fill: "none", ...more }];
  const MIDDLE = { "text-anchor": "middle" };
  const END = { "text-anchor": "end" };
  const STRONG = { "font-weight": 600 };
  const FAINT = { stroke: BORDER };
  const THICK = { "stroke-width": 2 };
  const DASHED = { "stroke-dasharray": "3 3" };

  /** Lines across a plane, with their numbers. */
  const ruled = (x, y, values) => {
    const [low, high] = [values[0], values.at(-1)];
    return values.flatMap((v) => [
      line(`x${v}`, x(v), y(low), x(v), y(high), FAINT), text(`x${v} number`, x(v), y(low) + 16, fixed(v, v % 1 ? 1 : 0), MIDDLE),
      line(`y${v}`, x(low), y(v), x(high), y(v), FAINT), text(`y${v} number`, x(low) - 6, y(v) + 4, fixed(v, v % 1 ? 1 : 0), END),
    ]);
  };

  /** Bring a drawing to these marks. An element stays in its place, so that it can be dragged, and its change be seen. */
  function paint(svg, marks) {
    const old = new Map([...svg.children].map((child) => [child.dataset.key, child]));
    let next = svg.firstChild;
    for (const [key, tag, attributes, words] of marks) {
      const node = old.get(key) ?? document.createElementNS(SVG, tag);
      node.dataset.key = key;
      for (const name of node.getAttributeNames()) if (name !== "data-key" && !(name in attributes)) node.removeAttribute(name);
      for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
      if (words !== undefined) node.textContent = words;
      if (node === next) next = next.nextSibling;
      else svg.insertBefore(node, next);
    }
    while (next) {
      const last = next;
      next = next.nextSibling;
      last.remove();
    }
  }

  // --- the plays

  /** Chapter 3: an age, and the bucket it falls into in each group. */
  function ages({ groups, start }) {
    const [low, high, steps] = [60, 1000 * 86400, 12]; // seconds; steps of the slider a doubling
    const known = [low, start, ...groups.flatMap((group) => group.edges)]; // ages that the slider does not miss
    const last = Math.floor(steps * Math.log2(high / low));
    const ages = Array.from({ length: last + 1 }, (_, step) => {
      const age = low * 2 ** (step / steps);
      return known.find((exact) => Math.abs(exact / age - 1) < 0.02) ?? Math.round(age);
    });
    const bucket = (group, age) => group.edges.filter((edge) => edge <= age).length;
    const plural = (group, n) => several(n / group.edges[0], group.unit);
    function range(group, b) {
      if (b === 0) return `less than ${plural(group, group.edges[0])}`;
      if (b === group.edges.length) return `${plural(group, group.edges[b - 1])} or more`;
      return `from ${count(group.edges[b - 1] / group.edges[0])} to ${plural(group, group.edges[b])}`;
    }
    return {
      title: "An age and its buckets",
      alt: "A ruler of time buckets for each group, and a line across them at the age.",
      controls: [
        { id: "age", label: "Age of the behavior", min: 0, max: last, value: ages.indexOf(start), text: (step) => duration(ages[step]) },
      ],
      height: () => 70 * groups.length + 30,
      draw({ age }, width) {
        const x = scale(low, high, 8, width - 8, true);
        const rulers = groups.flatMap((group, row) => {
          const top = 70 * row + 24;
          const now = bucket(group, ages[age]);
          const ends = [low, ...group.edges.filter((edge) => edge < high), high];
          const cells = ends.slice(1).flatMap((end, b) => {
            const [from, wide] = [x(ends[b]), x(end) - x(ends[b])];
            const fill = b === now ? groupColor(group.name) : CARD;
            const ink = b === now ? PAPER : "currentColor";
            const crowded = wide < 18 && b > 9 && b % 2 && b !== now;
            return [
              rect(`${row} ${b}`, from, top, wide, 30, { fill, stroke: PAPER }),
              text(`${row} ${b} number`, from + wide / 2, top + 20, crowded ? "" : String(b), { ...MIDDLE, fill: ink }),
            ];
          });
          const name = { fill: groupColor(group.name), ...STRONG };
          return [text(`${row}`, 8, top - 8, `${group.name}: buckets in ${group.unit}s`, name), ...cells];
        });
        const [at, bottom] = [x(ages[age]), 70 * groups.length - 8];
        const ticks = [["1 minute", 60], ["1 hour", 3600], ["1 day", 86400], ["1 week", 604800], ["1 year", 31536000]];
        return [
          ...rulers,
          line("now", at, 20, at, bottom, THICK),
          circle("knob", at, bottom, 5),
          ...ticks.map(([words, s], i) => text(words, x(s), bottom + 22, words, i ? MIDDLE : {})),
        ];
      },
      say({ age }) {
        const parts = groups.map((group) => {
          const b = bucket(group, ages[age]);
          return `${group.name}: bucket ${b}, ${range(group, b)}`;
        });
        return [`${duration(ages[age])} is ${several(ages[age], "second")}.`, ...parts].join("\n");
      },
    };
  }

  /** Chapter 4: what one weight, or one in each space, keeps of two behaviors. */
  function weight({ first, second, wanted, names }) {
    const side = (width) => Math.min(330, width);
    const mean = ({ one, own, other }) => {
      const half = wanted.length / 2;
      return wanted.map((_, i) => {
        const a = own && i >= half ? other : one;
        return a * first[i] + (1 - a) * second[i];
      });
    };
    const distance = (c) => Math.hypot(...c.map((x, i) => x - wanted[i]));
    const weights = { min: 0, max: 1, step: 0.01, text: (a) => fixed(a) };
    return {
      title: "One weight, or one in each space",
      alt: "A square with a falling diagonal, a star at the top right, and a dot that the weights move.",
      controls: [
        { id: "one", label: `Weight of the ${names[0]}`, value: 0.5, ...weights },
        { id: "own", label: "The kind gets a weight of its own", value: false },
        { id: "other", label: `Weight of the ${names[0]} for the kind`, value: 0.5, ...weights, off: (state) => !state.own },
      ],
      height: side,
      draw(state, width) {
        const size = side(width);
        const [x, y] = [scale(0, 1, 40, size - 16), scale(0, 1, size - 40, 14)];
        const c = mean(state);
        const [keptColor, keptKind] = [c[wanted.indexOf(1)], c[wanted.lastIndexOf(1)]];
        const [at, goal] = [[x(keptColor), y(keptKind)], [x(1), y(1)]];
        const gap = Math.hypot(at[0] - goal[0], at[1] - goal[1]) < 60 ? "" : fixed(distance(c));
        return [
          ...ruled(x, y, [0, 0.5, 1]),
          text("across", x(0.5), y(0) + 34, `red kept, of the ${names[0]}`, MIDDLE),
          text("up", 0, 0, `bag kept, of the ${names[1]}`, { ...MIDDLE, transform: `translate(11 ${y(0.5)}) rotate(-90)` }),
          line("diagonal", x(0), y(1), x(1), y(0), { "stroke-width": 3, stroke: "var(--space-1)" }),
          text("one weight", x(0.08), y(0.42), "one weight"),
          line("gap", ...at, ...goal, DASHED),
          text("distance", (at[0] + goal[0]) / 2 + 8, (at[1] + goal[1]) / 2 + 4, gap),
          text("wanted", goal[0], goal[1] + 8, "★", { ...MIDDLE, fill: ACCENT, "font-size": 24 }),
          circle("mean", ...at, 7),
        ];
      },
      say(state) {
        const c = mean(state);
        return `C = ${pair(c)}, wanted ${pair(wanted)}\ndistance ${fixed(distance(c))}, match ${fixed(dot(c, wanted))}`;
      },
    };
  }

  /** Chapter 5: vectors to drag, and what each takes from the others. */
  function vectors({ names, axes, S, W }) {
    const matrix = (letter, given, state) => given.map((row, i) => row.map((_, j) => state[`${letter}${i}${j}`]));
    function attend(state) {
      const [s, w] = [matrix("S", S, state), matrix("W", W, state)];
      const shown = s.map((row) => row.map((x) => Math.max(0, x))); // P = Q = I: queries and values
      const asked = shown.map((q) => w[0].map((_, j) => dot(q, w.map((row) => row[j]))));
      const shares = asked.map((q) => softmax(s.map((key) => dot(q, key))));
      return { s, shares, outputs: shares.map((a) => axes.map((_, j) => dot(a, shown.map((v) => v[j])))) };
    }
    const side = (width) => Math.min(300, width);
    const plane = (width) => {
      const place = side(width);
      return { x: scale(-1, 3, 26, place - 6), y: scale(-1, 3, place - 22, 6) };
    };
    const grid = (letter, given, label, rows, columns, min, max) => ({
      label, rows, columns, cells: given.map((row, i) => row.map((value, j) => ({ id: `${letter}${i}${j}`, value, min, max, step: 0.1 }))),
    });
    return {
      title: "Drag the vectors",
      alt: "A plane with three arrows and their outputs, and a matrix of shares.",
      controls: [
        grid("S", S, "Vectors S", names, axes, -1, 3),
        grid("W", W, "Matrix W", axes.map((a) => `has ${a}`), axes.map((a) => `asks ${a}`), -2, 2),
      ],
      height: (width) => (width < 560 ? side(width) + 190 : 310),
      drag(state, key, px, py, width) {
        const place = side(width);
        const round = (v) => Math.min(3, Math.max(-1, Math.round(10 * v) / 10));
        state[`S${key}0`] = round(scale(26, place - 6, -1, 3)(px));
        state[`S${key}1`] = round(scale(place - 22, 6, -1, 3)(py));
      },
      draw(state, width) {
        const { s, shares, outputs } = attend(state);
        const { x, y } = plane(width);
        const arrows = names.flatMap((name, i) => {
          const [tip, out] = [[x(s[i][0]), y(s[i][1])], [x(outputs[i][0]), y(outputs[i][1])]];
          return [
            line(`${name} arrow`, x(0), y(0), ...tip, THICK),
            line(`${name} moves`, ...tip, ...out, { stroke: ACCENT, ...DASHED }),
            rect(`${name} output`, out[0] - 4.5, out[1] - 4.5, 9, 9, { fill: ACCENT }),
          ];
        });
        const handles = names.flatMap((name, i) => [
          circle(`${name} tip`, x(s[i][0]), y(s[i][1]), 6),
          text(`${name} name`, x(s[i][0]) + 9, y(s[i][1]) - 8, name, s[i][0] > 2.2 ? { ...END, dx: -18 } : {}),
          circle(`${i}`, x(s[i][0]), y(s[i][1]), 20, { class: "play-handle" }),
        ]);
        const [left, top] = width < 560 ? [64, side(width) + 44] : [side(width) + 110, 70];
        const cell = Math.min(84, (width - left - 4) / 3);
        const heat = shares.flatMap((row, i) => [
          text(`row ${i}`, left - 8, top + 44 * i + 26, names[i], END),
          text(`column ${i}`, left + cell * (i + 0.5), top - 8, names[i], MIDDLE),
          ...row.flatMap((share, j) => [
            rect(`share ${i} ${j}`, left + cell * j, top + 44 * i, cell - 2, 42, { fill: "var(--space-1)", "fill-opacity": 0.45 * share, stroke: "currentColor", "stroke-opacity": 0.5 }),
            text(`number ${i} ${j}`, left + cell * (j + 0.5), top + 44 * i + 26, fixed(share), MIDDLE),
          ]),
        ]);
        const heads = [
          text("shares", left - 56, top - 28, "Shares: who takes (row) from whom", STRONG),
          text("key", x(-1) + 6, y(3) + 12, `across ${axes[0]}, up ${axes[1]}; squares: outputs`),
        ];
        return [...ruled(x, y, [-1, 0, 1, 2, 3]), ...arrows, ...handles, ...heads, ...heat];
      },
      say(state) {
        const { shares, outputs } = attend(state);
        return names.map((name, i) => `${name}: ${shares[i].map((a, j) => `${fixed(a)} of ${names[j]}`).join(", ")}; becomes ${pair(outputs[i])}`).join("\n");
      },
    };
  }

  /** Chapter 1: a life up to a moment, and what simple rules say comes next. */
  function life({ behaviors, groups, moments, scorers }) {
    const units = behaviors.map((b, i) => i + b.visit);
    const last = behaviors.length - 1;
    const history = (now) => [...behaviors.keys()].filter((i) => i < now && !moments[now].unseen.includes(i));
    return {
      title: "Move “now” through a life",
      alt: "A timeline with a row for each group: history is filled, what comes next is ringed. Below, a scale for each scorer.",
      controls: [
        { id: "now", label: "Now: just before behavior", min: 1, max: last, value: Math.round(last / 2), text: (i) => `${i + 1} of ${last + 1}` },
      ],
      height: () => 34 * groups.length + 44 * scorers.length + 58,
      draw({ now }, width) {
        const left = 54;
        const x = scale(-0.8, units[last] + 0.8, left, width - 4);
        const y = (group) => 34 * groups.indexOf(group) + 22;
        const bottom = 34 * groups.length + 4;
        const seen = history(now);
        const bands = [...new Set(behaviors.map((b) => b.visit))].map((visit) => {
          const mine = units.filter((_, i) => behaviors[i].visit === visit);
          const from = x(mine[0] - 0.6);
          return rect(`visit ${visit}`, from, 4, x(mine.at(-1) + 0.6) - from, bottom - 4, { fill: CARD });
        });
        const marks = behaviors.map((b, i) => {
          const color = groupColor(b.group);
          if (seen.includes(i)) return circle(`b${i}`, x(units[i]), y(b.group), 5, { fill: color });
          const future = i === now ? { "stroke-width": 3 } : { "stroke-dasharray": "2 1.5" };
          return circle(`b${i}`, x(units[i]), y(b.group), i === now ? 6 : 4, { fill: PAPER, stroke: color, ...future });
        });
        const at = (x(units[now]) + x(units[now - 1])) / 2;
        const { below } = moments[now];
        const share = scale(0, 1, left, width - 50);
        const scales = scorers.flatMap((name, i) => {
          const top = bottom + 62 + 44 * i;
          return [
            text(`${name}`, left, top - 8, name),
            line(`${name} scale`, share(0), top + 8, share(1), top + 8, { "stroke-opacity": 0.6 }),
            ...(below.length ? [circle(`${name} place`, share(below[i]), top + 8, 6), text(`${name} number`, width - 42, top + 12, percent(below[i]), STRONG)] : []),
          ];
        });
        return [
          ...bands,
          ...groups.map((name) => text(`group ${name}`, 0, y(name) + 4, name, { fill: groupColor(name), ...STRONG })),
          ...marks,
          line("now", at, 0, at, bottom + 4, THICK),
          text("now word", at, bottom + 17, "now", MIDDLE),
          text("heading", 0, bottom + 36, below.length ? "Objects that the scorer puts below the next one" : "", STRONG),
          ...scales,
        ];
      },
      say({ now }) {
        const next = behaviors[now];
        const [seen, { below }] = [history(now), moments[now]];
        const counts = groups.map((name) => `${seen.filter((i) => behaviors[i].group === name).length} ${name}`).join(", ");
        const verdict = below.length
          ? scorers.map((name, i) => `${name}: ${percent(below[i])}`).join("; ")
          : `no sample: nothing of group ${next.group} came before`;
        return `Day ${next.day}: ${several(seen.length, "behavior")} ${seen.length === 1 ? "is" : "are"} history (${counts}).\nNext: ${next.what}. ${verdict}`;
      },
    };
  }

  /** Chapter 8: what reading all groups is worth, by how strongly the groups influence one another. */
  function influence({ factors, groups, one, all, best, gain, low, high }) {
    const values = [one, all, best].flat(2);
    const [from, to] = [Math.floor(20 * Math.min(...values)), Math.ceil(20 * Math.max(...values))]; // twentieths
    return {
      title: "Turn up the influence between groups",
      alt: "A row for each target group, with a ring, a dot and a stroke on a scale of AUC.",
      moves: true,
      controls: [
        { id: "factor", label: "Cross influence", min: 0, max: factors.length - 1, value: factors.indexOf(1), text: (i) => `× ${factors[i]}` },
      ],
      height: () => 56 * groups.length + 58,
      draw({ factor }, width) {
        const x = scale(from / 20, to / 20, 16, width - 16);
        const bottom = 56 * groups.length + 26;
        const ticks = Array.from({ length: to - from + 1 }, (_, i) => (from + i) / 20);
        const rows = groups.flatMap((name, g) => {
          const [y, color] = [56 * g + 62, groupColor(name)];
          const [a, b, top] = [one, all, best].map((table) => x(table[factor][g]));
          return [
            text(`${name}`, 12, y - 18, `${name}: gain ${signed(gain[factor][g])} (${signed(low[factor][g])} to ${signed(high[factor][g])})`, { fill: color, ...STRONG }),
            line(`${name} row`, 12, y, width - 12, y, FAINT),
            rect(`${name} gain`, Math.min(a, b), y - 2, Math.abs(b - a), 4, { fill: color }),
            circle(`${name} one`, a, y, 6, { fill: PAPER, stroke: color, "stroke-width": 2 }),
            circle(`${name} all`, b, y, 6, { fill: color }),
            rect(`${name} best`, top - 1.5, y - 11, 3, 22),
          ];
        });
        return [
          text("legend", 12, 14, "ring: one2one · dot: all2one · stroke: best possible"),
          ...rows,
          ...ticks.map((v, i) => text(`tick ${i}`, x(v), bottom + 14, fixed(v), MIDDLE)),
          text("axis", width / 2, bottom + 30, "test AUC", MIDDLE),
        ];
      },
      say({ factor }) {
        return groups.map((name, g) => `${name}: one2one ${fixed(one[factor][g], 3)}, all2one ${fixed(all[factor][g], 3)}, best possible ${fixed(best[factor][g], 3)}`).join("\n");
      },
    };
  }

  /** Chapter 9: the target's lead without some behaviors: `hundredths` has a place for every set of erased ones. */
  function erase({ behaviors, hundredths, target }) {
    const leads = hundredths.map((lead) => lead / 100);
    const ROW = 40;
    const set = (state) => sum(behaviors.map((_, i) => (state[`b${i}`] ? 2 ** i : 0)));
    const fall = (state, i) => leads[set(state)] - leads[set(state) | (2 ** i)];
    const widest = 2.5 * Math.max(...behaviors.map((_, i) => Math.abs(leads[0] - leads[2 ** i]))); // drawn; wider is cut
    const [least, most] = [Math.min(0, ...leads), Math.max(0, ...leads)];
    return {
      title: `Erase a behavior: what happens to the lead of ${target}?`,
      alt: "A bar for each behavior, the fall of the lead without it; below, a bar for the lead.",
      moves: true,
      beside: true,
      controls: behaviors.map((b, i) => ({ id: `b${i}`, label: `${b.what}\n${duration(b.age)} ago`, value: false, color: groupColor(b.group) })),
      height: () => ROW * behaviors.length + 84,
      draw(state, width) {
        const x = scale(-widest, widest, 4, width - 4);
        const bars = behaviors.flatMap((b, i) => {
          const [y, f] = [ROW * i + ROW / 2, fall(state, i)];
          const end = x(Math.max(-widest, Math.min(widest, f)));
          if (state[`b${i}`]) return [text(`fall ${i}`, x(0) + 6, y + 4, "erased")];
          const side = f < 0 ? 6 : -6;
          return [
            rect(`bar ${i}`, Math.min(x(0), end), y - 9, Math.abs(end - x(0)), 18, { fill: groupColor(b.group) }),
            text(`fall ${i}`, x(0) + side, y + 4, signed(f, 2), f < 0 ? {} : END),
          ];
        });
        const at = scale(least, most, 12, width - 12);
        const y = ROW * behaviors.length + 56;
        const now = leads[set(state)];
        return [
          line("zero", x(0), 2, x(0), ROW * behaviors.length - 2),
          ...bars,
          text("lead word", 4, y - 20, `lead ${signed(now, 2)}, was ${signed(leads[0], 2)}`, STRONG),
          rect("lead", Math.min(at(0), at(now)), y - 7, Math.abs(at(now) - at(0)), 14, { fill: PRIMARY }),
          line("was", at(leads[0]), y - 12, at(leads[0]), y + 12, THICK),
          line("no lead", at(0), y - 12, at(0), y + 12, DASHED),
        ];
      },
      say(state) {
        const gone = behaviors.filter((_, i) => state[`b${i}`]).map((b) => b.what);
        const left = behaviors.map((b, i) => [b.what, fall(state, i), state[`b${i}`]]).filter(([, , erased]) => !erased);
        const needed = left.sort((a, b) => b[1] - a[1])[0];
        const what = gone.length ? `Without ${gone.join(" and ")} the lead is ${signed(leads[set(state)], 2)}.` : `With everything the lead is ${signed(leads[0], 2)}.`;
        return needed ? `${what}\nNeeded most now: ${needed[0]} (${signed(needed[1], 2)})` : what;
      },
    };
  }

  /** Chapter 10: recall of two models, by how many negatives are drawn. */
  function negatives({ drawn, models }) {
    const colors = [PRIMARY, ACCENT];
    return {
      title: "Draw more negatives",
      alt: "Two falling lines over the number of negatives, and a line at the chosen number.",
      controls: [
        { id: "m", label: "Negatives drawn", min: 0, max: drawn.length - 1, value: 0, text: (i) => (i === drawn.length - 1 ? `${count(drawn[i])}: all` : count(drawn[i])) },
      ],
      height: () => 290,
      draw({ m }, width) {
        const [x, y] = [scale(drawn[0], drawn.at(-1), 38, width - 24, true), scale(0, 1, 246, 22)];
        const ticks = [0, 0.25, 0.5, 0.75, 1].flatMap((v) => [
          line(`y${v}`, x(drawn[0]), y(v), x(drawn.at(-1)), y(v), FAINT), text(`y${v} number`, 30, y(v) + 4, fixed(v), END),
        ]);
        const powers = [10, 100, 1000, 10000].filter((v) => v >= drawn[0] && v <= 1.1 * drawn.at(-1));
        const lines = models.flatMap(({ name, recall }, i) => {
          const color = { stroke: colors[i] };
          const label = Math.floor(recall.length * (i ? 0.3 : 0.7));
          return [
            path(`${name} line`, drawn.map((v, j) => [x(v), y(recall[j])]), { ...color, "stroke-width": 2.5, ...(i ? { "stroke-dasharray": "7 4" } : {}) }),
            circle(`${name} dot`, x(drawn[m]), y(recall[m]), 6, { fill: colors[i] }),
            text(`${name} name`, x(drawn[label]) + 8, y(recall[label]) - 10, name, { fill: colors[i], ...STRONG }),
          ];
        });
        return [
          text("recall", 4, 12, "recall at 10"),
          ...ticks,
          ...powers.map((v) => text(`x${v}`, x(Math.min(v, drawn.at(-1))), 264, count(v), MIDDLE)),
          text("axis", width / 2, 284, "negatives drawn", MIDDLE),
          line("drawn", x(drawn[m]), y(0), x(drawn[m]), y(1), DASHED),
          ...lines,
        ];
      },
      say({ m }) {
        const [a, b] = models.map(({ recall }) => recall[m]);
        const ahead = Math.abs(a - b) < 0.005 ? "No model leads." : `The ${models[a > b ? 0 : 1].name} leads by ${fixed(Math.abs(a - b))}.`;
        const all = m === drawn.length - 1 ? "all of them" : several(drawn[m], "negative");
        return `Against ${all}: ${models.map(({ name, recall }) => `${name} ${fixed(recall[m])}`).join(", ")}.\n${ahead}`;
      },
    };
  }
  const PLAYS = { ages, weight, vectors, life, influence, erase, negatives };

  // --- a play on its page

  /** An HTML element; attributes that are functions listen. */
  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") node.addEventListener(name, value);
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  /** The element of a control; `inputs` gets those that hold a part of the state. */
  function control(spec, inputs, changed) {
    if (spec.cells) {
      const cells = spec.cells.flatMap((row, i) => [
        make("span", { class: "play-row" }, spec.rows[i]),
        ...row.map((cell, j) => {
          const input = make("input", { type: "number", min: cell.min, max: cell.max, step: cell.step, "aria-label": `${spec.label}: ${spec.rows[i]}, ${spec.columns[j]}` });
          input.addEventListener("input", () => input.value !== "" && input.validity.valid && changed(cell.id, Number(input.value)));
          inputs.push({ ...cell, input });
          return input;
        }),
      ]);
      const grid = make("div", { class: "play-grid" }, make("span"), ...spec.columns.map((name) => make("span", {}, name)), ...cells);
      grid.style.setProperty("--columns", spec.columns.length);
      return make("fieldset", {}, make("legend", {}, spec.label), grid);
    }
    if (typeof spec.value === "boolean") {
      const input = make("input", { type: "checkbox", change: () => changed(spec.id, input.checked) });
      inputs.push({ ...spec, input });
      const label = make("label", { class: "play-check" }, input, make("span", {}, spec.label));
      if (spec.color) label.style.color = spec.color;
      return label;
    }
    const input = make("input", { type: "range", min: spec.min, max: spec.max, step: spec.step ?? 1, input: () => changed(spec.id, Number(input.value)) });
    const reading = make("span", { class: "play-value" });
    inputs.push({ ...spec, input, reading });
    input.id = `play-${spec.id}`;
    return make("div", { class: "play-range" }, make("label", { for: input.id }, spec.label), reading, input);
  }

  function mount(place) {
    const numbers = place.querySelector("script[type='application/json']");
    const play = numbers && PLAYS[place.dataset.play]?.(JSON.parse(numbers.textContent));
    if (!play) return; // on a page that keeps no scripts, what is there already stays
    const inputs = [];
    const state = {};
    const changed = (id, value) => {
      state[id] = value;
      show();
    };
    const picture = document.createElementNS(SVG, "svg");
    picture.setAttribute("role", "img");
    if (play.moves) picture.classList.add("play-moves");
    picture.setAttribute("aria-label", play.alt);
    const said = make("output", { class: "play-said" });
    const id = `play-${place.dataset.play}-title`;
    const stage = make(
      "div",
      { class: "play-stage", role: "group", "aria-labelledby": id },
      make("p", { class: "play-title", id }, play.title),
      make("div", { class: play.beside ? "play-beside" : "" }, picture, make("div", { class: "play-controls" }, ...play.controls.map((spec) => control(spec, inputs, changed)))),
      said,
      make("button", { type: "button", click: start }, "Start again"),
    );

    function start() {
      for (const { id, value } of inputs) state[id] = value;
      show();
    }

    function show() {
      for (const { id, input, reading, text, off } of inputs) {
        if (input.type === "checkbox") input.checked = state[id];
        else if (Number(input.value) !== state[id] || input.value === "") input.value = state[id];
        if (off) input.disabled = off(state);
        if (text) {
          reading.textContent = text(state[id]);
          input.setAttribute("aria-valuetext", text(state[id]));
        }
      }
      draw();
      said.textContent = play.say(state);
    }

    function draw() {
      const width = Math.floor(picture.getBoundingClientRect().width);
      if (!width) return; // not on the screen, as in print
      const height = play.height(width);
      picture.style.height = `${height}px`;
      picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
      paint(picture, play.draw(state, width));
    }

    // a finger on a handle does not scroll the page; elsewhere it does
    const hold = (event) => event.target.closest(".play-handle") && event.preventDefault();
    picture.addEventListener("touchstart", hold, { passive: false });
    picture.addEventListener("pointerdown", (event) => {
      const handle = event.target.closest(".play-handle");
      if (!handle) return;
      event.preventDefault();
      const box = picture.getBoundingClientRect();
      const held = new AbortController();
      const move = (e) => {
        play.drag(state, handle.dataset.key, e.clientX - box.left, e.clientY - box.top, box.width);
        show();
      };
      addEventListener("pointermove", move, held);
      for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => held.abort(), held);
    });

    const figure = place.dataset.figure && document.getElementById(place.dataset.figure);
    if (figure) figure.insertBefore(stage, figure.querySelector("figcaption"));
    else place.append(stage);
    (figure || place).classList.add("play-live");
    start();
    new ResizeObserver(draw).observe(picture);
  }

  const mountAll = () => document.querySelectorAll(".play").forEach(mount);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", mountAll);
  else mountAll();
})();
