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

  // the colors of book/atrank_book/figures.py
  const PANEL = "#fbfaf7";
  const INK = "#2b2b2b";
  const GROUPS = { item: "#00487f", query: "#c24b00", coupon: "#009e73" };
  const OTHER_GROUPS = ["#bf6ba0", "#51230b", "#1a1a1a"];
  const SPACES = ["#033862", "#858911", "#077055", "#c7759e", "#4696de", "#51230b", "#675200", "#151515"];

  const SHOWN = 8; // best objects listed
  const STEPS = 2; // of the age slider, per doubling

  const STYLE = `
    html[data-theme] .bd-content div.cell_output .output.text_html:has(#atrank-live) { background: none; color: inherit; padding: 0; overflow: visible; }
    .atl { --atl-line: var(--pst-color-border, #b8b5ae); --atl-panel: ${PANEL}; --atl-ink: ${INK}; margin: 1rem 0; line-height: 1.4; }
    .atl *, .atl *::before { box-sizing: border-box; }
    .atl section { border: 1px solid var(--atl-line); border-radius: 6px; margin: 0 0 1rem; padding: .75rem; min-width: 0; }
    .atl h3 { font-size: 1.05rem; margin: 0 0 .5rem; }
    .atl p { margin: 0 0 .6rem; font-size: .92rem; }
    .atl-field { display: flex; flex-direction: column; font-size: .85rem; gap: .15rem; min-width: 0; }
    .atl select, .atl button { font: inherit; font-size: .92rem; min-height: 2.4rem; max-width: 100%; border-radius: 5px;
      border: 1px solid var(--atl-line); background: var(--pst-color-surface, transparent); color: inherit; padding: .2rem .5rem; }
    .atl select option, .atl select optgroup { background: Canvas; color: CanvasText; }
    .atl select { width: 100%; text-overflow: ellipsis; }
    .atl button { cursor: pointer; }
    .atl input[type=range] { width: 100%; min-height: 2rem; margin: 0; accent-color: var(--pst-color-primary, #00487f); }
    .atl :focus-visible { outline: 3px solid var(--pst-color-primary, #4696de); outline-offset: 2px; }
    .atl-row { display: flex; flex-wrap: wrap; gap: .6rem; align-items: end; }
    .atl-row > .atl-field { flex: 1 1 9rem; }
    .atl-row > .atl-wide { flex: 3 1 16rem; }
    .atl ol { list-style: none; margin: 0 0 .75rem; padding: 0; }
    .atl-panel > ol { margin: 0; }
    .atl-row + p { margin-top: .5rem; }
    .atl-behavior { display: grid; grid-template-columns: 1.8rem minmax(0, 1fr) 6.5rem minmax(7rem, 11rem) 2.6rem; gap: .1rem .6rem;
      align-items: center; padding: .3rem 0; border-bottom: 1px solid var(--atl-line); }
    .atl-number { display: inline-block; min-width: 1.7em; text-align: center; border-radius: 4px; font-size: .8rem;
      font-variant-numeric: tabular-nums; padding: .05rem .2rem; }
    .atl-words { font-size: .9rem; overflow-wrap: anywhere; }
    .atl-words small { display: block; opacity: .85; }
    .atl-age { font-size: .8rem; display: flex; flex-direction: column; gap: .1rem; }
    .atl-age input[type=range] { min-height: 1.6rem; }
    .atl input[type=range]:focus-visible { outline-offset: 0; }
    .atl-behavior button { padding: 0; }
    .atl-empty { font-style: italic; }
    .atl-row + .atl-panel { margin-top: .7rem; }
    .atl-panel { background: var(--atl-panel); color: var(--atl-ink); border-radius: 6px; padding: .6rem; }
    .atl-panel :focus-visible { outline-color: #00487f; }
    .atl-score { display: grid; grid-template-columns: 2.4rem minmax(0, 1.2fr) minmax(0, 1fr) 3.4rem; gap: .1rem .5rem; align-items: center;
      border: 0; background: none; color: inherit; padding: .1rem .3rem; min-height: 2rem; width: 100%; text-align: left; }
    .atl button.atl-score { border: 1px solid transparent; background: none; color: ${INK}; }
    .atl button.atl-score:hover { background: #ece8dd; }
    .atl button.atl-score[aria-pressed=true] { border-color: ${INK}; font-weight: 600; }
    .atl-score > * { min-width: 0; }
    .atl-name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
    .atl-num { font-variant-numeric: tabular-nums; text-align: right; font-size: .85rem; }
    .atl-bar { position: relative; display: block; height: 1rem; background: #ece8dd; border-radius: 2px; }
    .atl-bar > i { position: absolute; inset: 0 auto 0 0; display: block; border-radius: 2px; transition: width .2s; }
    .atl-bar > b { position: absolute; top: -3px; bottom: -3px; width: 2px; background: ${INK}; }
    .atl-look { display: grid; gap: .15rem .4rem; align-items: center; font-size: .85rem;
      grid-template-columns: 1.9rem minmax(0, 2fr) minmax(0, 1.2fr) 3rem repeat(var(--atl-spaces), minmax(.7rem, 2rem)); }
    .atl .atl-look.atl-alone { grid-template-columns: 1fr; }
    .atl-look > span { min-width: 0; }
    .atl-cell { display: block; height: 1.35rem; border: 1px solid #d8d5ce; border-radius: 2px; }
    .atl-head { font-size: .75rem; text-align: center; }
    .atl-maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 14rem), 1fr)); gap: .8rem; }
    .atl-map { min-width: 0; }
    .atl-caption { font-size: .85rem; }
    .atl-swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px; }
    .atl-maps svg { display: block; width: 100%; height: auto; touch-action: manipulation; }
    .atl .atl-status { position: sticky; bottom: 0; z-index: 2; margin: 0; padding: .5rem .6rem; border: 1px solid var(--atl-line); border-radius: 6px;
      background: var(--pst-color-background, Canvas); font-weight: 600; }
    .atl :is(button, select, input, svg) { scroll-margin-bottom: 6rem; }
    .atl .atl-readout { position: sticky; bottom: var(--atl-bar, 3rem); min-height: 3.2em; margin: .5rem 0 0; padding: .3rem 0; background: var(--atl-panel); }
    .atl-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
    @media (max-width: 640px) {
      .atl section { padding: .6rem .5rem; }
      .atl-behavior { grid-template-columns: 1.8rem minmax(0, 1fr) 2.6rem; }
      .atl-behavior > .atl-words { grid-column: 2; }
      .atl-behavior > button { grid-column: 3; grid-row: 1; }
      .atl-behavior > .atl-act { grid-column: 1 / 3; grid-row: 2; max-width: 7rem; }
      .atl-behavior > .atl-age { grid-column: 1 / 4; grid-row: 2; margin-left: 7.6rem; }
      .atl-behavior > .atl-age.atl-alone { margin-left: 2.4rem; }
      .atl button.atl-score { grid-template-columns: 2.2rem minmax(0, 1fr) 3.4rem; padding: .3rem; }
      .atl-score > .atl-bar { grid-column: 2 / 4; grid-row: 2; height: .6rem; }
      .atl-score > .atl-num:last-child { grid-row: 1; grid-column: 3; }
      .atl .atl-look { gap: .15rem .25rem; font-size: .8rem;
        grid-template-columns: 1.7rem minmax(0, 1fr) 1.5rem 2.3rem repeat(var(--atl-spaces), minmax(.4rem, calc(4rem / var(--atl-spaces)))); }
    }
    @media (prefers-reduced-motion: reduce) { .atl-bar > i { transition: none; } }
  `;

  /** An element with attributes and children; listeners are given as on..., text as strings. */
  function el(name, attributes = {}, ...children) {
    const svg = ["svg", "rect", "text", "g", "title"].includes(name);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key === "style") node.style.cssText = value;
      else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children);
    return node;
  }

  const options = (texts, chosen) => texts.map((text, i) => el("option", { value: i, selected: i === chosen }, text));
  const percent = (x) => `${Math.round(100 * x)}\u00a0%`;
  const number = (x) => x.toFixed(2).replace("-", "\u2212");

  function colorOf(model, groupNumber) {
    const name = model.groups[groupNumber].name;
    if (GROUPS[name]) return GROUPS[name];
    const others = model.groups.map((g) => g.name).filter((n) => !GROUPS[n]);
    return OTHER_GROUPS[others.indexOf(name) % OTHER_GROUPS.length];
  }

  /** Black or white: what can be read on a color. */
  function inkOn(color) {
    const linear = [1, 3, 5].map((at) => (parseInt(color.slice(at, at + 2), 16) / 255) ** 2.2);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.18 ? "#000000" : "#ffffff";
  }

  /** The age of a behavior in words. */
  function ageText(seconds) {
    const units = [["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
    const [name, size] = units.find(([, s]) => seconds >= 2 * s) || units[units.length - 1];
    const count = Math.round(seconds / size);
    return `${count} ${name}${count === 1 ? "" : "s"} before`;
  }

  /** An object in words: its name and what is known about it. */
  function describe(model, groupNumber, object) {
    if (object === null) return { name: `a new ${model.groups[groupNumber].name}`, details: "nothing known" };
    const group = model.groups[groupNumber];
    const parts = [];
    featuresOf(group, object).forEach((value, i) => {
      const feature = group.features[i];
      const words = model.vocabularies[feature.vocabulary];
      if (feature.name === "object_id") return;
      if (feature.kind === "continuous") parts.push(value === null ? `no ${feature.name}` : `${feature.name} ${value}`);
      else if (feature.kind === "tokens") parts.push(value.map((v) => (v ? words[v - 1] : "?")).join(" ") || "no words");
      else parts.push(value ? words[value - 1] : `unknown ${feature.name}`);
    });
    return { name: group.objects.ids[object], details: parts.join(", ") };
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
      this.ids = 0;
      this.build();
      this.choose(0);
    }

    // --- what the reader does

    /** Start from an example; without any, from nothing. */
    choose(number) {
      const example = this.model.examples[number] || { group: 0, object: 0, older: 0, behaviors: [] };
      this.example = example;
      this.behaviors = example.behaviors.map(([group, action, object, elapsed]) => ({ id: this.ids++, group, action, object, elapsed }));
      this.target = { group: example.group, object: example.object < 0 ? 0 : example.object };
      this.start = null; // scores to compare with
      this.showHistory();
      this.showTarget();
      this.update();
    }

    setTarget(group, object) {
      this.target = { group, object };
      this.start = null;
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

    sort() {
      this.behaviors.sort((a, b) => b.elapsed - a.elapsed);
      this.showHistory();
      this.update();
    }

    age(step) {
      return this.base * 2 ** (step / STEPS);
    }

    stepOf(elapsed) {
      const step = Math.round(STEPS * Math.log2(Math.max(elapsed / this.second, this.base) / this.base));
      return Math.min(Math.max(step, 0), this.longest);
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
      let label;

      const user = el("section", { "aria-label": "User" }, el("h3", {}, "1. A user"));
      const row = el("div", { class: "atl-row" });
      [label, this.exampleSelect] = choice("Start from", options(model.examples.map((e) => e.label), 0), () => this.choose(Number(this.exampleSelect.value)), { class: "atl-field atl-wide" });
      if (model.examples.length) row.append(label);
      row.append(
        el("button", { type: "button", onclick: () => this.choose(Number(this.exampleSelect.value || 0)) }, "Undo all changes"),
        el("button", { type: "button", onclick: () => { this.behaviors = []; this.showHistory(); this.update(); } }, "Forget everything"),
        el("button", { type: "button", onclick: () => this.sort() }, "Sort by age"),
      );
      this.list = el("ol", { "aria-label": "Behaviors" });
      this.olderNote = el("p");
      user.append(row, this.olderNote, this.list);

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
      this.addButton = el("button", { type: "button", onclick: () => this.add() }, "Add");
      adding.append(el("label", { class: "atl-field" }, el("span", {}, "Age: ", text), this.addAge), this.addButton);
      user.append(adding);

      const target = el("section", { "aria-label": "Target and scores" }, el("h3", {}, "2. A target, and its score"));
      const targetRow = el("div", { class: "atl-row" });
      [label, this.targetGroup] = choice("Rank objects of", groupOptions(all), () => this.setTarget(Number(this.targetGroup.value), 0));
      targetRow.append(label);
      [label, this.targetObject] = choice("Target", [], () => this.setTarget(this.target.group, this.targetObject.value === "new" ? null : Number(this.targetObject.value)), { class: "atl-field atl-wide" });
      targetRow.append(label);
      this.status = el("p", { class: "atl-status", role: "status", "aria-live": "polite" });
      this.scores = el("ol", { "aria-label": "Best objects" });
      target.append(targetRow, el("div", { class: "atl-panel" }, this.scores));

      const looking = el("section", { "aria-label": "Target attention" }, el("h3", {}, "3. What the target looks at"));
      this.look = el("div", { class: "atl-look" });
      looking.append(
        el("p", {}, "How much the target takes from each behavior: the mean over the spaces as a bar, and every space as a shade."),
        el("div", { class: "atl-panel" }, this.look),
      );

      const self = el("section", { "aria-label": "Self-attention" }, el("h3", {}, "4. What the behaviors look at"));
      this.mapsNote = el("p");
      self.append(this.mapsNote);
      if (model.config.blocks > 1) {
        const layers = options(Array.from({ length: model.config.blocks }, (_, i) => `${i + 1}`), 0);
        [label, this.layerSelect] = choice("Layer", layers, () => { this.layer = Number(this.layerSelect.value); this.update(); });
        self.append(label);
      }
      this.maps = el("div", { class: "atl-maps" });
      this.readout = el("p", { class: "atl-readout", "aria-live": "polite" });
      self.append(el("div", { class: "atl-panel" }, this.maps, this.readout));
      this.place.replaceChildren(el("style", {}, STYLE), user, target, looking, self, this.status);
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
      const color = colorOf(this.model, this.behaviors[i].group);
      return el("span", { class: "atl-number", style: `background:${color};color:${inkOn(color)}` }, `${i + 1}`);
    }

    words(behavior) {
      const group = this.model.groups[behavior.group];
      return `${group.actions[behavior.action]} ${describe(this.model, behavior.group, behavior.object).name}`;
    }

    showHistory() {
      const { older } = this.example;
      this.olderNote.textContent = older ? `The latest ${this.example.behaviors.length} behaviors; ${older} older ones are left out.` : "";
      const rows = this.behaviors.map((behavior, i) => {
        const group = this.model.groups[behavior.group];
        const { name, details } = describe(this.model, behavior.group, behavior.object);
        const what = el("span", {}, this.words(behavior));
        const age = el("span");
        const parts = [this.chip(i), el("span", { class: "atl-words" }, what, el("small", {}, `${group.name}: ${details}`))];
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
        return el("li", { class: "atl-behavior" }, ...parts);
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
      if (this.start === null) this.start = scores;
      this.result = { objects, scores, score: own.scores[0], targetAttention: weights, selfAttention: encoding.selfAttention };
      this.showScores();
      this.showLook();
      this.showMaps();
    }

    showScores() {
      const { model, target, start } = this;
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
      const color = colorOf(model, target.group);
      // every row is kept and refilled, so that the focus stays where it is
      while (this.scores.children.length > shown.length) this.scores.lastChild.remove();
      while (this.scores.children.length < shown.length) this.scores.append(el("li", {}, this.scoreRow()));
      shown.forEach((i, line) => {
        const button = this.scores.children[line].firstChild;
        const [rank, name, bar, value] = button.children;
        const text = longName(model, target.group, objects[i]);
        button.object = objects[i];
        button.setAttribute("aria-pressed", i === at);
        button.title = text;
        rank.textContent = `${rankIn(scores, i)}.`;
        name.textContent = text;
        bar.firstChild.style.width = `${place(scores[i])}%`;
        bar.firstChild.style.background = color;
        bar.lastChild.style.left = `calc(${place(start[i])}% - 1px)`;
        bar.lastChild.hidden = Math.abs(start[i] - scores[i]) < 1e-9;
        value.textContent = number(scores[i]);
      });
      const { name } = describe(model, target.group, target.object);
      const now = `${name} scores ${number(scores[at])}, rank ${rankIn(scores, at)} of ${order.length}.`;
      const changed = scores.some((s, i) => s !== start[i]);
      const before = changed ? ` Before your changes: ${number(start[at])}, rank ${rankIn(start, at)} (the marks on the bars).` : "";
      this.status.textContent = now + before;
      this.place.style.setProperty("--atl-bar", `${this.status.offsetHeight}px`);
    }

    scoreRow() {
      const parts = [el("span", { class: "atl-num" }), el("span", { class: "atl-name" }), el("span", { class: "atl-bar" }, el("i"), el("b")), el("span", { class: "atl-num" })];
      const button = el("button", { type: "button", class: "atl-score", onclick: () => this.setTarget(this.target.group, button.object) }, ...parts);
      return button;
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
        el("span", { class: "atl-bar" }, el("i", { style: `width:${(100 * mean[j]) / widest}%;background:${colorOf(this.model, behavior.group)}` })),
        el("span", { class: "atl-num" }, percent(mean[j])),
        ...weights.map((w, i) => {
          const text = `space ${i + 1}: ${percent(w[j])}`;
          return el("span", { class: "atl-cell", title: text, style: `background:${this.shade(i, w[j] / most)}` }, el("span", { class: "atl-hidden" }, text));
        }),
      ]);
      this.look.replaceChildren(...head, ...rows);
    }

    /** The color of a space, mixed with the panel. */
    shade(space, share) {
      const mix = (at) => {
        const channel = (color) => parseInt(color.slice(at, at + 2), 16);
        return Math.round(channel(PANEL) + share * (channel(SPACES[space % SPACES.length]) - channel(PANEL)));
      };
      return `rgb(${mix(1)},${mix(3)},${mix(5)})`;
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
        `One square for each space. A row shows how behavior i divides its attention over all behaviors; the darkest square is ${percent(most)}. ` +
        "Point at a square, or move over it with the arrow keys, to read it.";
      // maps are kept while their size is the same, so that the focus stays
      if (this.maps.children.length !== matrices.length || this.mapSize !== n) {
        this.maps.replaceChildren(...matrices.map((_, i) => this.map(i, n)));
        this.mapSize = n;
        this.readout.textContent = "";
      }
      matrices.forEach((m, space) => {
        const svg = this.maps.children[space].firstChild;
        svg.cells.forEach((cell, at) => cell.setAttribute("fill", this.shade(space, m.data[at] / most)));
        svg.labels.forEach((label, at) => {
          const color = colorOf(this.model, this.behaviors[at % n].group);
          label.firstChild.setAttribute("fill", color);
          label.lastChild.setAttribute("fill", inkOn(color));
        });
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
      const chip = (x, y, text) =>
        el(
          "g",
          {},
          el("rect", { x: x - size / 2, y: y - size / 2, width: size - 1, height: size - 1, rx: 3 }),
          el("text", { x: x - 0.5, y: y + 3.5, "text-anchor": "middle", "font-size": 11 }, text),
        );
      for (let i = 0; i < n; i++) svg.labels.push(chip(size / 2, from + (i + 0.5) * size, `${i + 1}`));
      for (let j = 0; j < n; j++) svg.labels.push(chip(from + (j + 0.5) * size, size / 2, `${j + 1}`));
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < n; j++) {
          const cell = el("rect", { x: from + j * size, y: from + i * size, width: size - 1, height: size - 1, onclick: () => this.point(space, i, j), onpointerenter: () => this.point(space, i, j) });
          svg.cells.push(cell);
        }
      }
      svg.mark = el("rect", { width: size + 1, height: size + 1, fill: "none", stroke: INK, "stroke-width": 2, visibility: "hidden", "pointer-events": "none" });
      svg.append(...svg.labels, ...svg.cells, svg.mark);
      svg.addEventListener("keydown", (event) => {
        const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [0, 0];
        if (!down && !right) return;
        event.preventDefault();
        const [, i, j] = this.cursor && this.cursor[0] === space ? this.cursor : [space, 0, -right];
        this.point(space, Math.min(Math.max(i + down, 0), n - 1), Math.min(Math.max(j + right, 0), n - 1));
      });
      return el("div", { class: "atl-map" }, svg, el("div", { class: "atl-caption" }, el("span", { class: "atl-swatch", style: `background:${SPACES[space % SPACES.length]}` }), `Space ${space + 1}`));
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

  const api = { load, encode, prepare, score, run, bucketOf, describe, colors: { panel: PANEL, ink: INK, groups: GROUPS, others: OTHER_GROUPS, spaces: SPACES } };
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
