"use strict";
// Parity points, worst structures first, and one structure in three dimensions; everything is in this page.
// Text that comes from files only ever becomes textContent, and atoms go to the viewer as numbers, never as text.
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const colors = ["#1b6ca8", "#d1495b", "#3c8d5a", "#e09f3e", "#7d5ba6"];
  const parts = [...new Set(data.frames.map((f) => f.part))];
  const el = (id) => document.getElementById(id);
  const state = { frame: -1, atom: -1, kind: "force", color: "element" };

  function worst(frame) {
    return state.kind === "force" ? frame.force_error : frame.energy_error;
  }

  function number(x, digits) {
    return x === null || x === undefined ? "\u2013" : x.toPrecision(digits || 3);
  }

  // ---- the list ---------------------------------------------------------------------------------------------------
  let order = [];
  function list() {
    const value = (k) => (worst(data.frames[k]) === null ? -1 : worst(data.frames[k]));
    order = data.frames.map((_, k) => k).sort((a, b) => value(b) - value(a));
    const body = el("list");
    body.replaceChildren();
    for (const k of order) {
      const frame = data.frames[k];
      const row = document.createElement("tr");
      const error = worst(frame);
      const shown = state.kind === "force" ? number(error) : number(error === null ? null : error * 1000);
      for (const text of [frame.name, frame.part, shown]) {
        const cell = document.createElement("td");
        cell.textContent = text;
        row.append(cell);
      }
      row.dataset.frame = k;
      row.addEventListener("click", () => choose(k, -1));
      body.append(row);
    }
    el("unit").textContent = state.kind === "force" ? "eV/\u00c5" : "meV/atom";
  }

  // ---- the parity plot --------------------------------------------------------------------------------------------
  let points = [];
  function collect() {
    points = [];
    data.frames.forEach((frame, k) => {
      if (state.kind === "energy") {
        if (frame.energy !== null) points.push([frame.energy[0], frame.energy[1], k, -1]);
      } else if (frame.label) {
        for (let n = 0; n < frame.label.length; n++) {
          if (frame.label[n] !== null) points.push([frame.label[n], frame.forces[n], k, Math.floor(n / 3)]);
        }
      }
    });
  }

  const MARGIN = { left: 62, right: 12, top: 10, bottom: 40 };
  function scale(canvas) {
    let low = Infinity, high = -Infinity;
    for (const [x, y] of points) {
      low = Math.min(low, x, y);
      high = Math.max(high, x, y);
    }
    if (!(high > low)) { low -= 1; high += 1; }
    const pad = 0.04 * (high - low);
    low -= pad;
    high += pad;
    const w = canvas.clientWidth - MARGIN.left - MARGIN.right, h = canvas.clientHeight - MARGIN.top - MARGIN.bottom;
    return {
      low, high,
      x: (v) => MARGIN.left + ((v - low) / (high - low)) * w,
      y: (v) => MARGIN.top + h - ((v - low) / (high - low)) * h,
    };
  }

  // Round numbers between two others, three to nine of them.
  function ticks(low, high) {
    const rough = (high - low) / 8, power = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = power * [1, 2, 5, 10].find((f) => f * power >= rough);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high; k++) found.push((k * step).toFixed(digits));
    return found;
  }

  function plot() {
    const canvas = el("plot"), ratio = window.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    const c = canvas.getContext("2d");
    if (!c || !points.length) return;
    c.scale(ratio, ratio);
    const s = scale(canvas);
    c.font = "12px system-ui, sans-serif";
    c.strokeStyle = "#aab1ba";
    c.beginPath();
    c.moveTo(s.x(s.low), s.y(s.low));
    c.lineTo(s.x(s.high), s.y(s.high));
    c.stroke();
    c.fillStyle = "#22252b";
    const marks = ticks(s.low, s.high);
    document.body.dataset.ticks = marks.join(" ");
    for (const mark of marks) {
      c.textAlign = "center";
      c.fillText(mark, Math.min(s.x(+mark), canvas.clientWidth - 20), canvas.clientHeight - 22);
      c.textAlign = "right";
      c.fillText(mark, MARGIN.left - 6, s.y(+mark) + 4);
    }
    const unit = state.kind === "force" ? "force component (eV/\u00c5)" : "energy (eV/atom)";
    c.textAlign = "center";
    c.fillText("Label: " + unit, (MARGIN.left + canvas.clientWidth) / 2, canvas.clientHeight - 5);
    c.save();
    c.translate(12, canvas.clientHeight / 2);
    c.rotate(-Math.PI / 2);
    c.fillText("Potential", 0, 0);
    c.restore();
    c.globalAlpha = state.kind === "force" ? 0.35 : 0.75;
    const size = state.kind === "force" ? 1.5 : 3;
    for (const [x, y, k] of points) {
      c.fillStyle = colors[parts.indexOf(data.frames[k].part) % colors.length];
      c.beginPath();
      c.arc(s.x(x), s.y(y), size, 0, 7);
      c.fill();
    }
    c.globalAlpha = 1;
    c.strokeStyle = "#22252b";
    c.lineWidth = 1.5;
    for (const [x, y, k, atom] of points) {
      if (k !== state.frame || (state.atom >= 0 && atom !== state.atom)) continue;
      c.beginPath();
      c.arc(s.x(x), s.y(y), size + 2.5, 0, 7);
      c.stroke();
    }
  }

  function pick(event) {
    const canvas = el("plot"), box = canvas.getBoundingClientRect(), s = scale(canvas);
    const px = event.clientX - box.left, py = event.clientY - box.top;
    let best = null, distance = 400;
    for (const point of points) {
      const d = (s.x(point[0]) - px) ** 2 + (s.y(point[1]) - py) ** 2;
      if (d < distance) { distance = d; best = point; }
    }
    if (best) choose(best[2], best[3]);
  }

  // ---- the structure ----------------------------------------------------------------------------------------------
  let viewer = null;
  function ready() {
    if (viewer || state.noviewer) return viewer;
    try {
      viewer = $3Dmol.createViewer(el("viewer"), { backgroundColor: "white" });
    } catch (error) {
      viewer = null;
    }
    if (!viewer) {
      state.noviewer = true;
      el("viewer").textContent = "This browser shows no WebGL: the structure cannot be drawn.";
    }
    return viewer;
  }

  function heat(value, top) {
    const t = Math.max(0, Math.min(1, value / top));
    const mix = (a, b) => Math.round(a + (b - a) * t);
    return "rgb(" + mix(225, 209) + "," + mix(230, 40) + "," + mix(236, 60) + ")";
  }

  function draw() {
    const v = ready(), frame = data.frames[state.frame];
    if (!v || !frame) return;
    v.removeAllModels();
    v.removeAllShapes();
    const model = v.addModel();
    const n = frame.elements.length, at = (k) => ({ x: frame.x[3 * k], y: frame.x[3 * k + 1], z: frame.x[3 * k + 2] });
    const atoms = [];
    for (let k = 0; k < n; k++) {
      atoms.push({ elem: frame.elements[k], serial: k, ...at(k), bonds: [], bondOrder: [], hetflag: true });
    }
    model.addAtoms(atoms);
    const errors = frame.errors || [], top = Math.max(1e-12, ...errors.filter((e) => e !== null));
    atoms.forEach((_, k) => {
      const sphere = { scale: k === state.atom ? 0.5 : 0.32 };
      if (state.color === "error") sphere.color = heat(errors[k] || 0, top);
      model.setStyle({ serial: k }, { sphere });
    });
    if (frame.cell) box(v, frame.cell);
    if (state.color === "error" && frame.label) arrows(v, frame, at, n);
    v.zoomTo();
    v.render();
  }

  function box(v, cell) {
    const corner = (i, j, k) => ({
      x: i * cell[0] + j * cell[3] + k * cell[6],
      y: i * cell[1] + j * cell[4] + k * cell[7],
      z: i * cell[2] + j * cell[5] + k * cell[8],
    });
    for (const a of [0, 1]) {
      for (const b of [0, 1]) {
        v.addLine({ start: corner(0, a, b), end: corner(1, a, b), color: "#7a828c" });
        v.addLine({ start: corner(a, 0, b), end: corner(a, 1, b), color: "#7a828c" });
        v.addLine({ start: corner(a, b, 0), end: corner(a, b, 1), color: "#7a828c" });
      }
    }
  }

  function arrows(v, frame, at, n) {
    const largest = Math.max(1e-12, ...frame.label.filter((x) => x !== null).map(Math.abs));
    const long = 2.0 / largest;
    for (let k = 0; k < n; k++) {
      for (const [values, color] of [[frame.label, "#1b6ca8"], [frame.forces, "#d1495b"]]) {
        const f = [values[3 * k], values[3 * k + 1], values[3 * k + 2]];
        const p = at(k), length = Math.hypot(...f) * long;
        if (f.includes(null) || length < 0.15) continue;
        const end = { x: p.x + f[0] * long, y: p.y + f[1] * long, z: p.z + f[2] * long };
        v.addArrow({ start: p, end, radius: 0.06, color });
      }
    }
  }

  function choose(frame, atom) {
    state.frame = frame;
    state.atom = atom;
    document.body.dataset.frame = frame;
    document.body.dataset.atom = atom;
    const f = data.frames[frame];
    const lines = [f.name + " (" + f.part + "), " + f.elements.length + " atoms"];
    if (f.energy !== null) lines.push("Energy off by " + number(f.energy_error * 1000) + " meV/atom");
    if (f.force_error !== null) lines.push("Worst force off by " + number(f.force_error) + " eV/\u00c5");
    if (atom >= 0 && f.errors) lines.push("Atom " + atom + " (" + f.elements[atom] + "): " + number(f.errors[atom]) + " eV/\u00c5");
    el("about").textContent = lines.join("\n");
    for (const row of el("list").children) {
      const mine = Number(row.dataset.frame) === frame;
      row.classList.toggle("chosen", mine);
      if (mine && row.scrollIntoView) row.scrollIntoView({ block: "nearest" });
    }
    plot();
    draw();
  }

  function redo() {
    list();
    collect();
    if (order.length) choose(state.frame < 0 ? order[0] : state.frame, -1);
  }

  for (const input of document.querySelectorAll("input")) {
    input.addEventListener("change", () => {
      state[input.name] = input.value;
      if (input.name === "kind") state.frame = -1;
      redo();
    });
  }
  el("plot").addEventListener("click", pick);
  window.addEventListener("resize", plot);
  document.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const place = order.indexOf(state.frame) + (step || 0);
    if (!step || place < 0 || place >= order.length) return;
    event.preventDefault();
    choose(order[place], -1);
  });
  redo();
})();
