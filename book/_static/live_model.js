/* A trained ATRank that runs in this page.
 *
 * `atrank export --format browser` writes a model as one JSON document. A page that holds the document in a script
 * element of type "application/json" with the id "atrank-live-data", and an empty div with the id "atrank-live", needs
 * nothing but this file: no server, no library, no network.
 *
 * First the engine: the equations of the paper on plain arrays. Then the user interface.
 * The engine is open to the console: atrankLive.run(atrankLive.model, behaviors, group, objects).
 */
"use strict";

(() => {
  // ---------------------------------------------------------------- engine

  const FORMAT = "atrank-browser-1";

  /** A 16-bit float as a number. */
  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  /** Read a document: the same, with its weights unpacked as {shape, data} by name. */
  function load(document) {
    if (document.format !== FORMAT) throw new Error(`a document of format ${document.format}, not ${FORMAT}`);
    const text = atob(document.weights.data);
    const weights = {};
    let at = 0;
    for (const [name, shape] of Object.entries(document.weights.shapes)) {
      const data = new Float64Array(shape.reduce((a, b) => a * b, 1));
      for (let i = 0; i < data.length; i++, at += 2) data[i] = half(text.charCodeAt(at) | (text.charCodeAt(at + 1) << 8));
      weights[name] = { shape, data };
    }
    return { ...document, weights };
  }

  const matrix = (rows, columns) => ({ rows, columns, data: new Float64Array(rows * columns) });
  const row = (m, i) => m.data.subarray(i * m.columns, (i + 1) * m.columns);

  function parameter(model, name) {
    const found = model.weights[name];
    if (!found) throw new Error(`the document holds no weight ${name}`);
    return found;
  }

  /** x W^T + b, where the layer may have no bias. */
  function linear(model, name, x) {
    const { shape: [outputs, inputs], data: w } = parameter(model, `${name}.weight`);
    const bias = model.weights[`${name}.bias`];
    const y = matrix(x.rows, outputs);
    for (let i = 0; i < x.rows; i++) {
      for (let o = 0; o < outputs; o++) {
        let sum = bias ? bias.data[o] : 0;
        for (let j = 0; j < inputs; j++) sum += w[o * inputs + j] * x.data[i * inputs + j];
        y.data[i * outputs + o] = sum;
      }
    }
    return y;
  }

  function relu(x) {
    for (let i = 0; i < x.data.length; i++) if (x.data[i] < 0) x.data[i] = 0;
    return x;
  }

  function plus(x, y) {
    const z = matrix(x.rows, x.columns);
    for (let i = 0; i < z.data.length; i++) z.data[i] = x.data[i] + y.data[i];
    return z;
  }

  function layerNorm(model, name, x) {
    const scale = parameter(model, `${name}.weight`).data;
    const shift = parameter(model, `${name}.bias`).data;
    for (let i = 0; i < x.rows; i++) {
      const values = row(x, i);
      const mean = values.reduce((a, b) => a + b, 0) / values.length;
      const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
      for (let j = 0; j < values.length; j++) {
        values[j] = ((values[j] - mean) / Math.sqrt(variance + 1e-5)) * scale[j] + shift[j];
      }
    }
    return x;
  }

  const feedForward = (model, name, x) => linear(model, `${name}.2`, relu(linear(model, `${name}.0`, x)));

  /** Features of an object; null is an object of which nothing is known. */
  function featuresOf(group, object) {
    const unknown = { categorical: 0, tokens: [], continuous: null };
    return group.features.map((f, i) => (object === null ? unknown[f.kind] : group.objects.columns[i][object]));
  }

  /** emb_g(o): the features' embeddings, one after the other, filled with zeros to `width`. */
  function embedObject(model, group, object, width) {
    const size = parameter(model, `embeddings.${group.module}.actions.weight`).shape[1] / group.features.length;
    const u = new Float64Array(width);
    const values = featuresOf(group, object);
    group.features.forEach((feature, number) => {
      const part = u.subarray(number * size, (number + 1) * size);
      const value = values[number];
      if (feature.kind === "continuous") {
        const name = `embeddings.${group.module}.objects.lines.${feature.module}`;
        const x = matrix(1, 2);
        x.data.set(value === null ? [0, 1] : [(value - feature.mean) / feature.deviation, 0]);
        part.set(linear(model, name, x).data);
        return;
      }
      const table = parameter(model, `tables.${feature.table}.weight`).data;
      const rows = feature.kind === "tokens" ? value : [value];
      for (const r of rows) for (let j = 0; j < size; j++) part[j] += table[r * size + j] / rows.length;
    });
    return u;
  }

  /** b_g: how wide the group's behaviors are before eq. 1. */
  function widthOf(model, group) {
    const objects = parameter(model, `embeddings.${group.module}.actions.weight`).shape[1];
    return objects + (model.config.time === "one_hot" ? group.time.edges.length + 1 : 0);
  }

  /** The time bucket of an age: how many edges it has reached. */
  const bucketOf = (group, elapsed) => group.time.edges.filter((edge) => edge <= elapsed).length;

  /** u_ij = emb(o) + lookup(time) + lookup(action). */
  function embedBehavior(model, behavior) {
    const group = model.groups[behavior.group];
    const u = embedObject(model, group, behavior.object, widthOf(model, group));
    const prefix = `embeddings.${group.module}`;
    const { shape: [, width], data: actions } = parameter(model, `${prefix}.actions.weight`);
    for (let j = 0; j < width; j++) u[j] += actions[behavior.action * width + j];
    const bucket = bucketOf(group, behavior.elapsed);
    if (model.config.time === "one_hot") u[width + bucket] = 1;
    if (model.config.time === "lookup") {
      const table = parameter(model, `${prefix}.time.table.weight`).data;
      for (let j = 0; j < width; j++) u[j] += table[bucket * width + j];
    }
    if (model.config.time === "continuous") {
      const x = matrix(1, 1);
      x.data[0] = behavior.elapsed / group.time.unit;
      const line = linear(model, `${prefix}.time.line`, x).data;
      for (let j = 0; j < width; j++) u[j] += line[j];
    }
    return u;
  }

  /** Eq. 1 for the rows u of one group. */
  function project(model, group, u) {
    const x = matrix(u.length, widthOf(model, group));
    u.forEach((values, i) => row(x, i).set(values));
    const name = `projection.maps.${group.module}`;
    return model.config.linear_projection ? linear(model, name, x) : relu(linear(model, `${name}.0`, x));
  }

  /** What the rows of c offer to whoever asks: keys and values of all spaces; raw: they are their own values. */
  function read(model, name, c, raw = false) {
    const bilinear = model.config.attention === "bilinear";
    return {
      keys: bilinear ? linear(model, `${name}.keys`, c) : relu(linear(model, `${name}.keys.0`, c)),
      values: raw ? c : relu(linear(model, `${name}.values.0`, c)),
    };
  }

  /** Eq. 2: what every row of x asks for in all spaces. */
  const ask = (model, name, x) => relu(linear(model, `${name}.queries.map.0`, x));

  /** Eq. 3-5 and 7: what every query takes in all spaces, and the weights of each space. */
  function attend(model, queries, { keys, values }) {
    const taken = matrix(queries.rows, queries.columns);
    const weights = [];
    let first = 0;
    for (const size of model.config.sizes) {
      const a = matrix(queries.rows, keys.rows);
      for (let i = 0; i < queries.rows; i++) {
        const w = row(a, i);
        for (let j = 0; j < keys.rows; j++) {
          for (let s = first; s < first + size; s++) w[j] += queries.data[i * queries.columns + s] * keys.data[j * keys.columns + s];
          w[j] *= model.config.scale;
        }
        const top = w.reduce((x, y) => Math.max(x, y), -Infinity);
        for (let j = 0; j < w.length; j++) w[j] = Math.exp(w[j] - top);
        const sum = w.reduce((x, y) => x + y, 0);
        for (let j = 0; j < w.length; j++) {
          w[j] /= sum;
          for (let s = first; s < first + size; s++) taken.data[i * taken.columns + s] += w[j] * values.data[j * values.columns + s];
        }
      }
      weights.push(a);
      first += size;
    }
    return { taken, weights };
  }

  /** Eq. 1-6: everything about a history that does not depend on the target. */
  function encode(model, behaviors) {
    let c = matrix(behaviors.length, model.config.hidden);
    behaviors.forEach((behavior, i) => {
      const group = model.groups[behavior.group];
      if (!model.histories.includes(group.name)) throw new Error(`this model reads no behaviors of group ${group.name}`);
      row(c, i).set(project(model, group, [embedBehavior(model, behavior)]).data);
    });
    const selfAttention = [];
    for (let l = 0; l < model.config.blocks; l++) {
      const name = `blocks.${l}.attention`;
      const { taken, weights } = attend(model, ask(model, name, c), read(model, name, c));
      const residual = model.config.residual === "input" ? c : taken;
      c = layerNorm(model, `blocks.${l}.norm`, plus(residual, feedForward(model, `blocks.${l}.feed_forward`, taken)));
      selfAttention.push(weights);
    }
    return { selfAttention, told: read(model, targetAttention(model), c, model.config.told === "raw") };
  }

  const targetAttention = ({ config }) => (config.shared ? `blocks.${config.blocks - 1}.attention` : "target.attention");

  /** The part of eq. 7 that does not depend on the history: q_t, h_t and what they ask for. */
  function prepare(model, groupNumber, objects) {
    const group = model.groups[groupNumber];
    const q = objects.map((object) => embedObject(model, group, object, widthOf(model, group)));
    const h = project(model, group, q);
    return { group, objects, q, h, queries: ask(model, targetAttention(model), h) };
  }

  /** Eq. 7 and 8: the scores of prepared objects, and the weights of each space. */
  function score(model, encoding, { group, objects, q, h, queries }) {
    const { config } = model;
    const { taken, weights } = attend(model, queries, encoding.told);
    let e = config.told === "raw" ? taken : feedForward(model, "target.feed_forward", taken);
    if (config.target_residual) e = layerNorm(model, "target.norm", plus(h, e));
    if (config.task_heads) e = plus(e, feedForward(model, `heads.${group.module}`, e));
    const scores = objects.map((object, i) => {
      const t = config.ranked === "raw" ? q[i] : row(h, i);
      const user = row(e, i);
      let sum = 0;
      if (config.ranking === "dot") {
        t.forEach((value, j) => (sum += value * user[j]));
      } else {
        const x = matrix(1, 3 * user.length);
        x.data.set([...t, ...user, ...t.map((value, j) => value * user[j])]);
        sum = linear(model, "rank.layers.3", relu(linear(model, "rank.layers.0", x))).data[0];
      }
      if (config.object_bias) {
        const id = group.features.findIndex((f) => f.name === "object_id");
        sum += parameter(model, `biases.${group.module}.weight`).data[featuresOf(group, object)[id]];
      }
      return sum;
    });
    return { scores, weights };
  }

  const nested = (m) => Array.from({ length: m.rows }, (_, i) => Array.from(row(m, i)));

  /** Everything at once, as nested arrays: scores [c], targetAttention [k][c][n], selfAttention [layer][k][n][n]. */
  function run(model, behaviors, groupNumber, objects) {
    const encoding = encode(model, behaviors);
    const { scores, weights } = score(model, encoding, prepare(model, groupNumber, objects));
    return {
      scores,
      targetAttention: weights.map(nested),
      selfAttention: encoding.selfAttention.map((layer) => layer.map(nested)),
    };
  }

  // ---------------------------------------------------------------- user interface

  // the light ones of book/atrank_book/colors.py: the book's pages have them as variables, for light and dark
  const COLORS = {
    panel: "#fbfaf7", ink: "#2b2b2b", raised: "#efece5", faint: "#d8d5ce",
    "group-item": "#04316c", "group-query": "#9b3902", "group-coupon": "#0f815f",
    "group-other-1": "#a34d85", "group-other-2": "#4c2e00", "group-other-3": "#6041ab",
    "space-1": "#002854", "space-2": "#4c5100", "space-3": "#134f29", "space-4": "#7a234f",
    "space-5": "#3073b5", "space-6": "#a26155", "space-7": "#886c16", "space-8": "#686d7d",
  };
  const color = (name) => `var(--${name}, ${COLORS[name]})`;

  const SHOWN = 7; // best objects listed
  const STEPS = 2; // of the age slider, per doubling
  const LINK = "#live?"; // how a link's state begins
  const ANCHOR = /^#live-([a-z]+)-(\w+)$/; // an anchor of the page that stands for a state: #live-tour-5 for #live?tour=5

  const STYLE = `
    .atl { --atl-panel: ${color("panel")}; --atl-ink: ${color("ink")}; --atl-track: ${color("raised")}; --atl-line: var(--pst-color-border, ${COLORS.faint});
      color: var(--atl-ink); line-height: 1.35; margin: 1rem 0; }
    .atl *, .atl *::before { box-sizing: border-box; }
    .atl-body { display: flex; flex-direction: column; gap: .8rem; }
    .atl-side, .atl-beside { display: contents; }
    .atl section { border: 1px solid var(--atl-line); border-radius: 6px; background: var(--atl-panel); padding: .6rem .75rem; min-width: 0; }
    .atl h2 { border: 0; font-size: 1.05rem; margin: 0 0 .4rem; padding: 0; }
    .atl p { margin: 0 0 .5rem; font-size: .92rem; }
    .atl-field { display: flex; flex-direction: column; font-size: .85rem; gap: .15rem; min-width: 0; }
    .atl select, .atl button { font: inherit; font-size: .9rem; min-height: 2.2rem; max-width: 100%; border-radius: 5px;
      border: 1px solid var(--atl-line); background: var(--pst-color-surface, transparent); color: inherit; padding: .15rem .5rem; }
    .atl select option, .atl select optgroup { background: Canvas; color: CanvasText; }
    .atl select { width: 100%; text-overflow: ellipsis; }
    .atl button { cursor: pointer; }
    .atl button[aria-pressed=true] { border-color: currentColor; font-weight: 600; }
    .atl input[type=range] { width: 100%; min-height: 1.6rem; margin: 0; accent-color: var(--pst-color-primary, #00487f); }
    .atl :focus-visible { outline: 3px solid var(--pst-color-primary, #00487f); outline-offset: 2px; }
    .atl input[type=range]:focus-visible { outline-offset: 0; }
    .atl-row { display: flex; flex-wrap: wrap; gap: .5rem; align-items: end; margin-bottom: .5rem; }
    .atl-row > .atl-field { flex: 1 1 8rem; }
    .atl-row > .atl-wide { flex: 3 1 12rem; }
    .atl ol { list-style: none; margin: 0 0 .6rem; padding: 0; }
    .atl-behavior { display: grid; grid-template-columns: 2rem minmax(0, 1fr) 5rem minmax(5rem, 7rem) 1.8rem; gap: .1rem .4rem;
      align-items: center; padding: .2rem 0; border-bottom: 1px solid var(--atl-line); }
    .atl-behavior button { padding: 0; }
    .atl-behavior select { font-size: .85rem; padding: .1rem; }
    .atl-number { border-left: .45rem solid var(--atl-color); font-size: .85rem; font-variant-numeric: tabular-nums; text-align: center; }
    .atl-words { font-size: .9rem; overflow-wrap: anywhere; }
    .atl-words small { display: block; font-size: .8rem; }
    .atl-cause .atl-words > span { background: var(--pst-color-target, #fff3c9); font-weight: 600; }
    .atl-age { font-size: .8rem; display: flex; flex-direction: column; }
    .atl-empty { font-style: italic; }
    .atl button.atl-score { display: grid; grid-template-columns: 2.4rem minmax(0, 2fr) minmax(0, 1fr) 3.2rem; gap: .1rem .5rem; align-items: center;
      border-color: transparent; background: none; padding: 0 .3rem; min-height: 1.75rem; width: 100%; text-align: left; }
    .atl button.atl-score:hover { background: var(--atl-track); }
    .atl button.atl-score[aria-pressed=true] { border-color: currentColor; }
    .atl-score > * { min-width: 0; }
    .atl-name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
    .atl-num { font-variant-numeric: tabular-nums; text-align: right; font-size: .85rem; }
    .atl-bar { position: relative; display: block; height: .9rem; background: var(--atl-track); border-radius: 2px; }
    .atl-bar > i { position: absolute; inset: 0 auto 0 0; border-radius: 2px; background: var(--atl-color); transition: width .2s; }
    .atl-bar > b { position: absolute; top: -3px; bottom: -3px; width: 2px; background: var(--atl-ink); }
    .atl-look { display: grid; gap: .1rem .4rem; align-items: center; font-size: .85rem;
      grid-template-columns: 2rem minmax(0, 2fr) minmax(0, 1fr) 2.6rem repeat(var(--atl-spaces), minmax(.7rem, 1.8rem)); }
    .atl .atl-look.atl-alone { grid-template-columns: 1fr; }
    .atl-look > span { min-width: 0; }
    .atl-cell { display: block; height: 1.2rem; border: 1px solid var(--atl-line); border-radius: 2px; }
    .atl-head { font-size: .75rem; text-align: center; }
    .atl-maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 12rem), 1fr)); gap: .8rem; }
    .atl-map { min-width: 0; }
    .atl-caption { font-size: .85rem; }
    .atl-swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px; }
    .atl-maps svg { display: block; width: 100%; height: auto; touch-action: manipulation; }
    .atl-maps text { fill: currentColor; }
    .atl .atl-status { order: 1; position: sticky; bottom: 0; z-index: 2; margin: 0; padding: .4rem .6rem; border: 1px solid var(--atl-line); border-radius: 6px;
      background: var(--pst-color-background, Canvas); font-weight: 600; }
    .atl .atl-readout { min-height: 2.8em; margin: .5rem 0 0; }
    .atl :is(button, select, input, svg) { scroll-margin: 4rem 0 6rem; }
    .atl-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
    @media (min-width: 1200px) {
      .atl-body { display: grid; grid-template-columns: minmax(0, 1.25fr) minmax(0, 1fr); align-items: start; }
      .atl-side { display: block; align-self: stretch; }
      .atl-beside { display: grid; gap: .6rem; position: sticky; top: 3.6rem; }
      .atl .atl-status { order: 0; position: static; min-height: 4.2em; }
      .atl-across { grid-column: 1 / -1; }
    }
    @media (max-width: 640px) {
      .atl section { padding: .6rem .5rem; }
      .atl-behavior { grid-template-columns: 2rem minmax(0, 1fr) 2.6rem; }
      .atl-behavior > .atl-words { grid-column: 2; }
      .atl-behavior > button { grid-column: 3; grid-row: 1; }
      .atl-behavior > .atl-act { grid-column: 1 / 3; grid-row: 2; max-width: 7rem; }
      .atl-behavior > .atl-age { grid-column: 1 / 4; grid-row: 2; margin-left: 7.6rem; }
      .atl-behavior > .atl-age.atl-alone { margin-left: 2.4rem; }
      .atl button.atl-score { grid-template-columns: 2.2rem minmax(0, 1fr) 3.4rem; padding: .3rem; }
      .atl-score > .atl-bar { grid-column: 2 / 4; grid-row: 2; height: .6rem; }
      .atl-score > .atl-num:last-child { grid-row: 1; grid-column: 3; }
      .atl .atl-look { gap: .15rem .25rem; font-size: .8rem;
        grid-template-columns: 2rem minmax(0, 1fr) 1.5rem 2.3rem repeat(var(--atl-spaces), minmax(.4rem, calc(4rem / var(--atl-spaces)))); }
      .atl .atl-readout:not(:empty) { position: sticky; bottom: var(--atl-under, 3rem); padding: .3rem 0; background: var(--atl-panel); }
    }
    @media (prefers-reduced-motion: reduce) { .atl-bar > i { transition: none; } }
  `;

  /** An element with attributes and children; listeners are given as on..., text as strings. */
  function el(name, attributes = {}, ...children) {
    const svg = ["svg", "rect", "text", "g"].includes(name);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key === "style") node.style.cssText = value;
      else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children);
    return node;
  }

  const button = (text, onclick) => el("button", { type: "button", onclick }, text);
  const options = (texts, chosen) => texts.map((text, i) => el("option", { value: i, selected: i === chosen }, text));
  const percent = (x) => `${Math.round(100 * x)}\u00a0%`;
  const number = (x) => x.toFixed(2).replace("-", "\u2212");

  const spaceColor = (space) => color(`space-${(space % 8) + 1}`);
  const shade = (space, share) => `color-mix(in oklab, ${spaceColor(space)} ${100 * share}%, var(--atl-panel))`;

  function colorOf(model, groupNumber) {
    const { name } = model.groups[groupNumber];
    if (COLORS[`group-${name}`]) return color(`group-${name}`);
    const others = model.groups.map((g) => g.name).filter((n) => !COLORS[`group-${n}`]);
    return color(`group-other-${(others.indexOf(name) % 3) + 1}`);
  }

  /** The age of a behavior in words. */
  function ageText(seconds) {
    const units = [["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
    const [name, size] = units.find(([, s]) => seconds >= 2 * s) || units[units.length - 1];
    const count = Math.round(seconds / size);
    return `${count} ${name}${count === 1 ? "" : "s"} before`;
  }

  /** An object in words: its name, and what else is known about it. */
  function describe(model, groupNumber, object) {
    if (object === null) return { name: `a new ${model.groups[groupNumber].name}`, details: "nothing known" };
    const group = model.groups[groupNumber];
    const name = group.objects.ids[object];
    const parts = [];
    featuresOf(group, object).forEach((value, i) => {
      const feature = group.features[i];
      const words = model.vocabularies[feature.vocabulary];
      if (feature.name === "object_id") return;
      if (feature.kind === "continuous") parts.push(value === null ? `no ${feature.name}` : `${feature.name} ${value}`);
      else if (feature.kind === "tokens") parts.push(value.map((v) => (v ? words[v - 1] : "?")).join(" ") || "no words");
      else parts.push(value ? words[value - 1] : `unknown ${feature.name}`);
    });
    return { name, details: parts.filter((part) => !name.includes(part)).join(", ") };
  }

  function longName(model, groupNumber, object) {
    const { name, details } = describe(model, groupNumber, object);
    return details ? `${name} (${details})` : name;
  }

  /** The values of an object that others may share: vocabulary and index. */
  function valuesOf(model, groupNumber, object) {
    const group = model.groups[groupNumber];
    const values = new Set();
    if (object === null) return values;
    featuresOf(group, object).forEach((value, i) => {
      const { kind, vocabulary } = group.features[i];
      if (kind !== "continuous") for (const v of [value].flat()) if (v) values.add(`${vocabulary} ${v}`);
    });
    return values;
  }

  const userOf = (example) => example.label.split(":")[0];

  /** The behaviors of an example; a behavior's id is its place there, and stays when others go. */
  const behaviorsOf = (example) => example.behaviors.map(([group, action, object, elapsed], id) => ({ id, group, action, object, elapsed }));

  // In a link, a behavior of the example is its id; a changed or added one has group, action, object and age, too.
  const written = ({ id, group, action, object, elapsed }) => [id, group, action, object ?? "new", elapsed].join(".");

  /** The state that a link carries. Throws a RangeError where it makes no sense. */
  function readLink(model, hash) {
    const given = Object.fromEntries(new URLSearchParams(hash.slice(LINK.length)));
    const { user, target, behaviors, causes = "", tour = "0", ...unknown } = given;
    const whole = (text, below) => {
      if (!/^\d{1,12}$/.test(text) || Number(text) >= below) throw new RangeError(`${text} is no number below ${below}`);
      return Number(text);
    };
    const objectOf = (text, group) => (text === "new" ? null : whole(text, model.groups[group].objects.ids.length));
    const number = user === undefined ? 0 : model.examples.findIndex((example) => userOf(example).toLowerCase() === user.toLowerCase());
    if (number < 0 || !["", "shown"].includes(causes) || Object.keys(unknown).length) throw new RangeError("no such user or key");
    const state = { number, causes: causes === "shown", tour: whole(tour, 7) };
    if (target !== undefined) {
      const [group, object, ...rest] = target.split(".");
      if (rest.length) throw new RangeError("a target has a group and an object");
      state.target = { group: whole(group, model.groups.length), object: objectOf(object, group) };
    }
    if (behaviors !== undefined) {
      const known = model.examples.length ? behaviorsOf(model.examples[number]) : [];
      state.behaviors = (behaviors ? behaviors.split("_") : []).map((text) => {
        const [id, group, action, object, elapsed, ...rest] = text.split(".");
        if (group === undefined) return known[whole(id, known.length)];
        if (rest.length || !model.histories.includes(model.groups[whole(group, model.groups.length)].name)) throw new RangeError("no such behavior");
        const { actions } = model.groups[group];
        return { id: whole(id, 1e6), group: Number(group), action: whole(action, actions.length), object: objectOf(object, group), elapsed: whole(elapsed, 1e12) };
      });
      if (new Set(state.behaviors.map((b) => b.id)).size < state.behaviors.length) throw new RangeError("a behavior comes twice");
    }
    return state;
  }

  class Live {
    constructor(place, model) {
      this.place = place;
      this.model = model;
      this.historyGroups = model.groups.map((g, i) => i).filter((i) => model.histories.includes(model.groups[i].name));
      this.layer = 0;
      this.prepared = new Map(); // all objects of a group, once
      this.second = model.groups[0].time.second;
      this.base = model.groups.some((g) => g.time.name === "second") ? 1 : 60; // seconds at the slider's left end
      const ages = model.examples.flatMap((e) => e.behaviors.map((b) => b[3] / this.second));
      const oldest = ages.reduce((a, b) => Math.max(a, b), 64 * 86400);
      this.longest = STEPS * Math.ceil(Math.log2(oldest / this.base));
      this.build();
      this.open(location.hash);
      window.addEventListener("hashchange", ({ newURL }) => {
        const { hash } = new URL(newURL); // the address itself may have been kept anew since
        if (hash.startsWith(LINK) || ANCHOR.test(hash)) this.open(hash);
      });
    }

    // --- what the reader does

    /** Start from the state of a link; from the first example where there is none. */
    open(hash) {
      let state = { number: 0 };
      let understood = true;
      const link = hash.replace(ANCHOR, `${LINK}$1=$2`);
      if (link.startsWith(LINK)) {
        try {
          state = readLink(this.model, link);
          this.place.scrollIntoView();
        } catch (error) {
          if (!(error instanceof RangeError)) throw error;
          understood = false;
        }
      }
      this.choose(state.number, state);
      this.note.hidden = understood;
      this.place.dispatchEvent(new Event("atl-opened"));
    }

    /** Start from an example, or from a state that began there; without any example, from nothing. */
    choose(number, { behaviors, target, causes = false, tour = this.tour } = {}) {
      const example = this.model.examples[number] || { label: "", group: 0, object: 0, older: 0, behaviors: [] };
      this.example = example;
      this.behaviors = behaviors || behaviorsOf(example);
      this.ids = this.behaviors.reduce((next, { id }) => Math.max(next, id + 1), example.behaviors.length);
      this.target = target || { group: example.group, object: example.object < 0 ? 0 : example.object };
      this.starts = new Map(); // by group: scores before anything was changed
      this.causes = causes && Boolean(example.causes);
      this.tour = tour || 0; // the step shown, for whoever shows it
      this.note.hidden = true;
      if (this.model.examples.length) this.exampleSelect.value = number;
      this.showHistory();
      this.showTarget();
      this.update();
    }

    setTarget(group, object) {
      this.target = { group, object };
      this.showHistory();
      this.showTarget();
      this.update();
    }

    add() {
      const object = this.addObject.value === "new" ? null : Number(this.addObject.value);
      const group = Number(this.addGroup.value);
      const elapsed = Math.round(this.age(Number(this.addAge.value)) * this.second);
      this.behaviors.push({ id: this.ids++, group, action: Number(this.addAction.value), object, elapsed });
      this.showHistory();
      this.update();
    }

    remove(id) {
      const at = this.behaviors.findIndex((b) => b.id === id);
      this.behaviors.splice(at, 1);
      this.showHistory();
      this.update();
      const buttons = this.list.querySelectorAll("button");
      (buttons[Math.min(at, buttons.length - 1)] || this.addButton).focus();
    }

    forget() {
      this.behaviors = [];
      this.showHistory();
      this.update();
    }

    sort() {
      this.behaviors.sort((a, b) => b.elapsed - a.elapsed);
      this.showHistory();
      this.update();
    }

    reveal(shown) {
      this.causes = shown;
      this.showHistory();
      this.save();
    }

    age(step) {
      return this.base * 2 ** (step / STEPS);
    }

    stepOf(elapsed) {
      const step = Math.round(STEPS * Math.log2(Math.max(elapsed / this.second, this.base) / this.base));
      return Math.min(Math.max(step, 0), this.longest);
    }

    // --- the state as a link

    link() {
      const { model, example, target } = this;
      const known = behaviorsOf(example).map(written);
      const parts = new URLSearchParams();
      if (model.examples.indexOf(example) > 0) parts.set("user", userOf(example));
      if (target.group !== example.group || target.object !== example.object) parts.set("target", `${target.group}.${target.object ?? "new"}`);
      const now = this.behaviors.map(written);
      if (now.join() !== known.join()) parts.set("behaviors", now.map((text, i) => (known[this.behaviors[i].id] === text ? this.behaviors[i].id : text)).join("_"));
      if (this.causes) parts.set("causes", "shown");
      if (this.tour) parts.set("tour", this.tour);
      return parts.size ? `${LINK}${parts}` : "";
    }

    /** Keep the state in the page's address, a moment after the last change. */
    save() {
      clearTimeout(this.saving);
      this.saving = setTimeout(() => {
        const link = this.link();
        if (link || location.hash.startsWith(LINK)) history.replaceState(null, "", location.href.split("#")[0] + link);
      }, 200);
    }

    // --- what stays

    build() {
      const { model } = this;
      const all = model.groups.map((g, i) => i);
      const choice = (text, items, onchange, extra = {}) => {
        const id = `atl-${text.toLowerCase().replaceAll(" ", "-")}`;
        const select = el("select", { id, onchange }, ...items);
        return [el("div", { class: "atl-field", ...extra }, el("label", { for: id }, text), select), select];
      };
      const groupOptions = (numbers) => numbers.map((i) => el("option", { value: i }, model.groups[i].name));
      const section = (name, title, ...children) => el("section", { class: `atl-${name}`, "aria-label": title }, el("h2", {}, title), ...children);
      let label;

      const row = el("div", { class: "atl-row" });
      [label, this.exampleSelect] = choice("Start from", options(model.examples.map((e) => e.label), 0), () => this.choose(Number(this.exampleSelect.value)), { class: "atl-field atl-wide" });
      if (model.examples.length) row.append(label);
      row.append(button("Undo all", () => this.choose(Number(this.exampleSelect.value || 0))));
      this.revealButton = button("Show causes", () => this.reveal(!this.causes));
      if (model.examples.some((e) => e.causes)) row.append(this.revealButton);
      this.note = el("p", { role: "note", hidden: true }, "The link's state could not be read, so this is the start.");
      this.list = el("ol", { "aria-label": "Behaviors" });
      this.olderNote = el("p");
      this.causeNote = el("p", { "aria-live": "polite" });

      const adding = el("div", { class: "atl-row", role: "group", "aria-label": "Add a behavior" });
      [label, this.addGroup] = choice("Add a behavior on", groupOptions(this.historyGroups), () => this.showAdd());
      adding.append(label);
      [label, this.addAction] = choice("Action", [], null);
      adding.append(label);
      [label, this.addObject] = choice("Object", [], null, { class: "atl-field atl-wide" });
      adding.append(label);
      const text = el("span");
      this.addAge = el("input", { type: "range", min: 0, max: this.longest, step: 1, value: this.stepOf(3600 * this.second), oninput: () => this.showAddAge() });
      this.showAddAge = () => {
        text.textContent = ageText(this.age(Number(this.addAge.value)));
        this.addAge.setAttribute("aria-valuetext", text.textContent);
      };
      this.showAddAge();
      this.addButton = button("Add", () => this.add());
      adding.append(el("label", { class: "atl-field" }, el("span", {}, "Age: ", text), this.addAge), this.addButton);
      const more = el("div", { class: "atl-row" }, button("Forget everything", () => this.forget()), button("Sort by age", () => this.sort()));
      const user = section("user", "1. A user", row, this.note, this.olderNote, this.causeNote, this.list, adding, more);

      const targetRow = el("div", { class: "atl-row" });
      [label, this.targetGroup] = choice("Rank objects of", groupOptions(all), () => this.setTarget(Number(this.targetGroup.value), 0));
      targetRow.append(label);
      [label, this.targetObject] = choice("Target", [], () => this.setTarget(this.target.group, this.targetObject.value === "new" ? null : Number(this.targetObject.value)), { class: "atl-field atl-wide" });
      targetRow.append(label);
      this.status = el("p", { class: "atl-status", role: "status", "aria-live": "polite" });
      this.scores = el("ol", { "aria-label": "Best objects" });
      const target = section("target", "2. A target, and its score", targetRow, this.scores);

      this.look = el("div", { class: "atl-look" });
      const looking = section("looking", "3. What the target looks at", el("p", {}, "The mean over the spaces as a bar, and every space as a shade."), this.look);

      this.mapsNote = el("p");
      this.maps = el("div", { class: "atl-maps" });
      this.readout = el("p", { class: "atl-readout", "aria-live": "polite" });
      const self = section("self atl-across", "4. What the behaviors look at", this.mapsNote);
      if (model.config.blocks > 1) {
        const layers = options(Array.from({ length: model.config.blocks }, (_, i) => `${i + 1}`), 0);
        [label, this.layerSelect] = choice("Layer", layers, () => { this.layer = Number(this.layerSelect.value); this.update(); });
        self.append(label);
      }
      self.append(this.maps, this.readout);
      const side = el("div", { class: "atl-side" }, el("div", { class: "atl-beside" }, this.status, target, looking));
      const body = el("div", { class: "atl-body" }, user, side, self);
      this.place.replaceChildren(el("style", {}, STYLE), body);
      this.place.classList.add("atl");
      this.shownTarget = null;
    }

    // --- what changes with the history or the target

    objectOptions(groupNumber, chosen, related) {
      const { model } = this;
      const option = (i) => el("option", { value: i, selected: i === chosen }, longName(model, groupNumber, i));
      const everything = model.groups[groupNumber].objects.ids.map((_, i) => i);
      const fresh = el("option", { value: "new", selected: chosen === null }, describe(model, groupNumber, null).name + ", of which nothing is known");
      if (!related) return [...everything.map(option), fresh];
      const shares = (i) => [...valuesOf(model, groupNumber, i)].some((value) => related.has(value));
      const near = everything.filter(shares);
      const far = everything.filter((i) => !shares(i));
      return [
        ...(near.length ? [el("optgroup", { label: "Shares something with the target" }, ...near.map(option))] : []),
        ...(far.length ? [el("optgroup", { label: "Others" }, ...far.map(option))] : []),
        fresh,
      ];
    }

    showTarget() {
      this.targetGroup.value = this.target.group;
      if (this.shownTarget === this.target.group) {
        this.targetObject.value = this.target.object === null ? "new" : this.target.object;
      } else {
        this.targetObject.replaceChildren(...this.objectOptions(this.target.group, this.target.object));
        this.shownTarget = this.target.group;
      }
      this.showAdd();
    }

    showAdd() {
      const group = Number(this.addGroup.value);
      this.addAction.replaceChildren(...options(this.model.groups[group].actions, 0));
      const related = valuesOf(this.model, this.target.group, this.target.object);
      this.addObject.replaceChildren(...this.objectOptions(group, undefined, related));
    }

    chip(i) {
      return el("span", { class: "atl-number", style: `--atl-color:${colorOf(this.model, this.behaviors[i].group)}` }, `${i + 1}`);
    }

    words(behavior) {
      const group = this.model.groups[behavior.group];
      return `${group.actions[behavior.action]} ${describe(this.model, behavior.group, behavior.object).name}`;
    }

    /** Why a behavior happened, as planted: the id of its cause, below 0 for none, null for one that is not shown. */
    because([id, feature]) {
      if (id === null) return "caused by an older behavior";
      if (id < 0) return "caused by nothing before";
      const at = this.behaviors.findIndex((b) => b.id === id);
      return `caused by ${at < 0 ? "one that you removed" : `behavior ${at + 1}`}: the same ${feature}`;
    }

    showHistory() {
      const { older, causes = [], group: task, object: next } = this.example;
      const cause = this.causes && task === this.target.group && next === this.target.object ? causes.at(-1) : null;
      this.revealButton.setAttribute("aria-pressed", this.causes);
      this.causeNote.hidden = !this.causes;
      this.causeNote.textContent = cause
        ? `As planted, the target, ${describe(this.model, task, next).name}, was ${this.because(cause)}.`
        : "This target never happened: nothing caused it.";
      this.olderNote.textContent = older ? `The latest ${this.example.behaviors.length} behaviors; ${older} older ones are left out.` : "";
      const rows = this.behaviors.map((behavior, i) => {
        const group = this.model.groups[behavior.group];
        const { name, details } = describe(this.model, behavior.group, behavior.object);
        const what = el("span", {}, this.words(behavior));
        const age = el("span");
        const small = [el("span", { class: "atl-hidden" }, group.name)];
        if (details) small.push(el("small", {}, details));
        if (this.causes && causes[behavior.id]) small.push(el("small", {}, this.because(causes[behavior.id])));
        const parts = [this.chip(i), el("span", { class: "atl-words" }, what, ...small)];
        const several = group.actions.length > 1;
        if (several) {
          const select = el("select", {
            class: "atl-act",
            "aria-label": `Action of behavior ${i + 1}, on ${name}`,
            onchange: () => {
              behavior.action = Number(select.value);
              what.textContent = this.words(behavior);
              this.update();
            },
          }, ...options(group.actions, behavior.action));
          parts.push(select);
        } else parts.push(el("span", { class: "atl-act" }));
        const slider = el("input", {
          type: "range", min: 0, max: this.longest, step: 1, value: this.stepOf(behavior.elapsed),
          "aria-label": `Age of behavior ${i + 1}, ${this.words(behavior)}`,
          oninput: () => {
            behavior.elapsed = Math.round(this.age(Number(slider.value)) * this.second);
            tell();
            this.update();
          },
        });
        const tell = () => {
          age.textContent = ageText(behavior.elapsed / this.second);
          slider.setAttribute("aria-valuetext", age.textContent);
        };
        tell();
        parts.push(el("span", { class: several ? "atl-age" : "atl-age atl-alone" }, age, slider));
        const label = `Remove behavior ${i + 1}, ${this.words(behavior)}`;
        parts.push(el("button", { type: "button", "aria-label": label, title: "Remove", onclick: () => this.remove(behavior.id) }, "\u00d7"));
        return el("li", { class: cause && cause[0] === behavior.id ? "atl-behavior atl-cause" : "atl-behavior" }, ...parts);
      });
      this.list.replaceChildren(...(rows.length ? rows : [el("li", { class: "atl-empty" }, "Nothing is known about this user.")]));
    }

    // --- the numbers

    update() {
      const { model, target } = this;
      const began = performance.now();
      const encoding = encode(model, this.behaviors);
      if (!this.prepared.has(target.group)) {
        const everything = [...model.groups[target.group].objects.ids.keys(), null];
        this.prepared.set(target.group, prepare(model, target.group, everything));
      }
      const candidates = this.prepared.get(target.group);
      const { objects } = candidates;
      const { scores } = score(model, encoding, candidates);
      const own = score(model, encoding, prepare(model, target.group, [target.object]));
      this.milliseconds = performance.now() - began;
      const weights = own.weights.map((w) => Array.from(w.data));
      if (!this.starts.has(target.group)) {
        this.starts.set(target.group, score(model, encode(model, behaviorsOf(this.example)), candidates).scores);
      }
      this.result = { objects, scores, score: own.scores[0], targetAttention: weights, selfAttention: encoding.selfAttention };
      this.showScores();
      this.showLook();
      this.showMaps();
      this.save();
      this.place.dispatchEvent(new Event("atl-updated"));
    }

    showScores() {
      const { model, target } = this;
      const start = this.starts.get(target.group);
      const { objects, scores } = this.result;
      const at = objects.indexOf(target.object);
      const order = [...objects.keys()].filter((i) => objects[i] !== null || i === at);
      const rankIn = (values, i) => 1 + order.filter((j) => values[j] > values[i]).length;
      order.sort((a, b) => scores[b] - scores[a] || a - b);
      const shown = order.slice(0, SHOWN);
      if (!shown.includes(at)) shown.push(at);
      const everything = [...scores, ...start];
      const low = everything.reduce((a, b) => Math.min(a, b));
      const high = everything.reduce((a, b) => Math.max(a, b));
      const place = (s) => (high > low ? (100 * (s - low)) / (high - low) : 50);
      this.scores.style.setProperty("--atl-color", colorOf(model, target.group));
      // every row is kept and refilled, so that the focus stays where it is
      while (this.scores.children.length > shown.length) this.scores.lastChild.remove();
      while (this.scores.children.length < shown.length) this.scores.append(el("li", {}, this.scoreRow()));
      shown.forEach((i, line) => {
        const chosen = this.scores.children[line].firstChild;
        const [rank, name, bar, value] = chosen.children;
        const text = longName(model, target.group, objects[i]);
        chosen.object = objects[i];
        chosen.setAttribute("aria-pressed", i === at);
        chosen.title = text;
        rank.textContent = `${rankIn(scores, i)}.`;
        name.textContent = text;
        bar.firstChild.style.width = `${place(scores[i])}%`;
        bar.lastChild.style.left = `calc(${place(start[i])}% - 1px)`;
        bar.lastChild.hidden = Math.abs(start[i] - scores[i]) < 1e-9;
        value.textContent = number(scores[i]);
      });
      const { name } = describe(model, target.group, target.object);
      const now = `${name} scores ${number(scores[at])}, rank ${rankIn(scores, at)} of ${order.length}.`;
      const changed = scores.some((s, i) => s !== start[i]);
      const before = changed ? ` Before your changes: ${number(start[at])}, rank ${rankIn(start, at)} (the marks on the bars).` : " Remove or change a behavior, and see.";
      this.status.textContent = now + before;
      this.place.style.setProperty("--atl-under", `${this.status.offsetHeight}px`);
    }

    scoreRow() {
      const parts = [el("span", { class: "atl-num" }), el("span", { class: "atl-name" }), el("span", { class: "atl-bar" }, el("i"), el("b")), el("span", { class: "atl-num" })];
      const chosen = el("button", { type: "button", class: "atl-score", onclick: () => this.setTarget(this.target.group, chosen.object) }, ...parts);
      return chosen;
    }

    showLook() {
      const weights = this.result.targetAttention;
      const k = weights.length;
      if (!this.behaviors.length) {
        this.look.classList.add("atl-alone");
        this.look.replaceChildren(el("span", {}, "There is nothing to look at: every object is scored by itself alone."));
        return;
      }
      const most = weights.flat().reduce((a, b) => Math.max(a, b), 0);
      const mean = this.behaviors.map((_, j) => weights.reduce((sum, w) => sum + w[j], 0) / k);
      const widest = mean.reduce((a, b) => Math.max(a, b), 0);
      this.look.classList.remove("atl-alone");
      this.look.style.setProperty("--atl-spaces", k);
      const head = [el("span"), el("span", { class: "atl-head", style: "text-align:left" }, "behavior"), el("span", { class: "atl-head", style: "grid-column: span 2; text-align:left" }, "mean"), ...weights.map((_, i) => el("span", { class: "atl-head" }, `${i + 1}`))];
      const rows = this.behaviors.flatMap((behavior, j) => [
        this.chip(j),
        el("span", { class: "atl-name" }, this.words(behavior)),
        el("span", { class: "atl-bar" }, el("i", { style: `width:${(100 * mean[j]) / widest}%;--atl-color:${colorOf(this.model, behavior.group)}` })),
        el("span", { class: "atl-num" }, percent(mean[j])),
        ...weights.map((w, i) => {
          const text = `space ${i + 1}: ${percent(w[j])}`;
          return el("span", { class: "atl-cell", title: text, style: `background:${shade(i, w[j] / most)}` }, el("span", { class: "atl-hidden" }, text));
        }),
      ]);
      this.look.replaceChildren(...head, ...rows);
    }

    showMaps() {
      const layers = this.result.selfAttention;
      const n = this.behaviors.length;
      if (!layers.length || !n) {
        this.mapsNote.textContent = "";
        this.maps.replaceChildren(el("span", {}, layers.length ? "There is no behavior to look." : "This model has no self-attention."));
        this.readout.textContent = "";
        return;
      }
      const matrices = layers[this.layer];
      const most = matrices.reduce((top, m) => m.data.reduce((a, b) => Math.max(a, b), top), 0);
      this.mapsNote.textContent =
        `One square for each space. A row shows how behavior i divides its attention over all behaviors; the strongest square is ${percent(most)}. ` +
        "Point at a square, or move over it with the arrow keys, to read it.";
      // maps are kept while their size is the same, so that the focus stays
      if (this.maps.children.length !== matrices.length || this.mapSize !== n) {
        this.maps.replaceChildren(...matrices.map((_, i) => this.map(i, n)));
        this.mapSize = n;
        this.readout.textContent = "";
      }
      matrices.forEach((m, space) => {
        const svg = this.maps.children[space].firstChild;
        svg.cells.forEach((cell, at) => (cell.style.fill = shade(space, m.data[at] / most)));
        svg.labels.forEach((label, at) => (label.firstChild.style.fill = colorOf(this.model, this.behaviors[at % n].group)));
      });
      if (this.cursor) this.point(...this.cursor);
    }

    map(space, n) {
      const size = 20;
      const from = 24;
      const full = from + n * size;
      const svg = el("svg", { viewBox: `0 0 ${full} ${full}`, role: "img", tabindex: 0, "aria-label": `Self-attention in space ${space + 1}: ${n} behaviors look at ${n}; move with the arrow keys` });
      svg.cells = [];
      svg.labels = [];
      const chip = (stripe, x, y, text) => el("g", {}, el("rect", stripe), el("text", { x, y, "text-anchor": "middle", "font-size": 13 }, text));
      for (let i = 0; i < n; i++) svg.labels.push(chip({ x: 0, y: from + i * size, width: 4, height: size - 1 }, 13, from + (i + 0.5) * size + 4, `${i + 1}`));
      for (let j = 0; j < n; j++) svg.labels.push(chip({ x: from + j * size, y: 0, width: size - 1, height: 4 }, from + (j + 0.5) * size - 0.5, 18, `${j + 1}`));
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < n; j++) {
          const cell = el("rect", { x: from + j * size, y: from + i * size, width: size - 1, height: size - 1, onclick: () => this.point(space, i, j), onpointerenter: () => this.point(space, i, j) });
          svg.cells.push(cell);
        }
      }
      svg.mark = el("rect", { width: size + 1, height: size + 1, fill: "none", stroke: "currentColor", "stroke-width": 2, visibility: "hidden", "pointer-events": "none" });
      svg.append(...svg.labels, ...svg.cells, svg.mark);
      svg.addEventListener("keydown", (event) => {
        const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [0, 0];
        if (!down && !right) return;
        event.preventDefault();
        const [, i, j] = this.cursor && this.cursor[0] === space ? this.cursor : [space, 0, -right];
        this.point(space, Math.min(Math.max(i + down, 0), n - 1), Math.min(Math.max(j + right, 0), n - 1));
      });
      return el("div", { class: "atl-map" }, svg, el("div", { class: "atl-caption" }, el("span", { class: "atl-swatch", style: `background:${spaceColor(space)}` }), `Space ${space + 1}`));
    }

    /** Say what a square of a map means. */
    point(space, i, j) {
      const n = this.behaviors.length;
      if (i >= n || j >= n) {
        this.cursor = null;
        this.readout.textContent = "";
        return;
      }
      this.cursor = [space, i, j];
      [...this.maps.children].forEach((map, at) => {
        const { mark } = map.firstChild;
        mark.setAttribute("visibility", at === space ? "visible" : "hidden");
        mark.setAttribute("x", 23 + j * 20);
        mark.setAttribute("y", 23 + i * 20);
      });
      const value = this.result.selfAttention[this.layer][space].data[i * n + j];
      const [one, other] = [this.behaviors[i], this.behaviors[j]].map((b) => this.words(b));
      this.readout.textContent = `In space ${space + 1}, behavior ${i + 1} (${one}) gives ${percent(value)} of its attention to ${i === j ? "itself" : `behavior ${j + 1} (${other})`}.`;
    }
  }

  // ---------------------------------------------------------------- start

  const api = { load, encode, prepare, score, run, bucketOf, describe, el, colors: COLORS };
  window.atrankLive = api;

  function start() {
    const data = document.getElementById("atrank-live-data");
    const place = document.getElementById("atrank-live");
    if (!data || !place) return;
    api.model = load(JSON.parse(data.textContent));
    api.view = new Live(place, api.model);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
