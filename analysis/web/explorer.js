// The interactive front of a study: hover or arrow keys describe a trial, a click or Enter opens its languages.
// Its data is JSON beside it; all text is set as text, never as markup.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const WIDTH = 660, HEIGHT = 470, LEFT = 62, RIGHT = 14, TOP = 14, BOTTOM = 54;

  function make(name, attributes = {}, text = null, namespace = null) {
    const element = namespace ? document.createElementNS(namespace, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    return element;
  }
  const draw = (name, attributes, text) => make(name, attributes, text, SVG);
  const shown = (value) => (value === null ? "–" : String(value));

  function ticks([low, high], most) {
    const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => power * factor >= rough);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push((k * step).toFixed(digits));
    return found;
  }

  function build(root) {
    const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const scale = {
      x: (value) => LEFT + (value - data.range[0][0]) / (data.range[0][1] - data.range[0][0]) * (WIDTH - LEFT - RIGHT),
      y: (value) => HEIGHT - BOTTOM - (value - data.range[1][0]) / (data.range[1][1] - data.range[1][0]) * (HEIGHT - TOP - BOTTOM),
    };
    const place = ([x, y]) => [scale.x(x), scale.y(y)];
    const hidden = { looks: new Set(), kinds: new Set() };
    const marks = [];  // by trial
    let current = null, opened = null;

    const plot = make("div", { class: "plot" });
    const svg = draw("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, tabindex: 0, role: "application", "aria-roledescription": "interactive front",
      "aria-label": `${data.axes[0]} against ${data.axes[1]}: ${data.trials.length} trials. Arrow keys step through them, Enter opens one.`,
    });
    const tip = make("div", { class: "tip", hidden: "" });
    const live = make("p", { class: "live", "aria-live": "polite" });
    const panel = make("section", { class: "panel", "aria-label": "The chosen recipe" });
    const ring = draw("circle", { class: "ring", r: 11, visibility: "hidden" });

    function drawFrame() {
      for (const tick of ticks(data.range[0], 7)) {
        const x = scale.x(Number(tick));
        svg.append(draw("line", { class: "grid", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }));
        svg.append(draw("text", { x, y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, tick));
      }
      for (const tick of ticks(data.range[1], 6)) {
        const y = scale.y(Number(tick));
        svg.append(draw("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }));
        svg.append(draw("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, tick));
      }
      const middle = (TOP + HEIGHT - BOTTOM) / 2;
      svg.append(draw("text", { class: "axis", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 10, "text-anchor": "middle" }, data.axes[0]));
      svg.append(draw("text", { class: "axis", transform: `translate(16 ${middle}) rotate(-90)`, "text-anchor": "middle" }, data.axes[1]));
      if (data.edge.length) svg.append(draw("polyline", { class: "edge", points: data.edge.map((corner) => place(corner).join()).join(" ") }));
    }

    function drawBar(point, parent) {
      if (!point.bar) return;
      const x = scale.x(point.at[0]), [low, high] = point.bar.map(scale.y);
      parent.append(draw("path", { class: "bar", d: `M${x - 3} ${low}h6m-3 0V${high}m-3 0h6` }));
    }

    function drawPoints() {
      const order = data.trials.map((_, index) => index).sort((a, b) => data.trials[b].kind - data.trials[a].kind);
      for (const index of order) {
        const trial = data.trials[index], look = data.looks[trial.look];
        const mark = draw("g", { class: `mark ${data.kinds[trial.kind].name}`, "data-trial": trial.name });
        if (data.kinds[trial.kind].name === "front") drawBar(trial, mark);
        const [x, y] = place(trial.at);
        mark.append(draw("path", { d: look.path, transform: `translate(${x} ${y})` }));
        mark.style.setProperty("--colour", look.colour);
        mark.addEventListener("pointerenter", () => point(index, true));
        mark.addEventListener("click", () => open(index));
        marks[index] = mark;
        svg.append(mark);
      }
      if (data.teacher && data.teacher.at) {
        const star = draw("g", { class: "teacher" }), [x, y] = place(data.teacher.at);
        drawBar(data.teacher, star);
        star.append(draw("path", { d: data.teacher.path, transform: `translate(${x} ${y})` }));
        star.append(draw("title", {}, `Teacher: ${described(data.teacher)}`));
        svg.append(star);
      }
      svg.append(ring);
    }

    const described = (scored, between = ", ") => data.metrics.map((name, k) => `${name}: ${shown(scored.scores[k])}`).join(between);
    const title = (trial) => `Trial ${trial.name} · ${data.looks[trial.look].label} · ${data.kinds[trial.kind].label}`;

    function point(index, isPointer) {
      current = index;
      const trial = data.trials[index], [x, y] = place(trial.at);
      ring.setAttribute("cx", x);
      ring.setAttribute("cy", y);
      ring.setAttribute("visibility", "visible");
      tip.replaceChildren(make("strong", {}, title(trial)), make("p", { class: "scores" }, described(trial, "\n")), make("p", {}, trial.words));
      tip.hidden = false;
      const factor = svg.clientWidth / WIDTH, isRight = x > WIDTH / 2;
      tip.style.left = `${Math.max(0, x * factor + (isRight ? -14 - tip.offsetWidth : 14))}px`;
      tip.style.top = `${Math.max(0, Math.min(y * factor - 12, svg.clientHeight - tip.offsetHeight))}px`;
      if (!isPointer) live.textContent = `${title(trial)}. ${described(trial)}. ${trial.words}`;
    }

    function leave() {
      tip.hidden = true;
      ring.setAttribute("visibility", "hidden");
    }

    const isShown = (trial) => !hidden.looks.has(trial.look) && !hidden.kinds.has(trial.kind);

    function step(axis, way) {
      const along = data.trials.map((_, index) => index).filter((index) => isShown(data.trials[index]));
      along.sort((a, b) => data.trials[a].at[axis] - data.trials[b].at[axis] || a - b);
      if (!along.length) return;
      const at = along.indexOf(current);
      const next = way === "first" ? 0 : way === "last" ? along.length - 1 : at < 0 ? 0 : at + way;
      point(along[Math.max(0, Math.min(along.length - 1, next))], false);
    }

    const keys = {
      ArrowRight: () => step(0, 1), ArrowLeft: () => step(0, -1), ArrowUp: () => step(1, 1), ArrowDown: () => step(1, -1),
      Home: () => step(0, "first"), End: () => step(0, "last"), Escape: leave,
      Enter: () => current !== null && open(current), " ": () => current !== null && open(current),
    };

    function open(index) {
      if (opened !== null) marks[opened].classList.remove("opened");
      opened = index;
      marks[index].classList.add("opened");
      const trial = data.trials[index];
      panel.replaceChildren(make("h3", {}, title(trial)), make("p", {}, trial.words), scoreTable(trial));
      panel.append(trial.languages ? languageTable(trial) : make("p", { class: "note" }, "It has no scores by language: only a training that ends is scored on all items."));
      live.textContent = `Opened trial ${trial.name}.`;
    }

    function table(headings, rows) {
      const found = make("table"), head = found.createTHead().insertRow();
      for (const heading of headings) head.append(make("th", { scope: "col" }, heading));
      const body = found.createTBody();
      for (const [first, ...cells] of rows) {
        const row = body.insertRow();
        row.append(make("th", { scope: "row" }, first));
        for (const cell of cells) {
          const place = row.insertCell();
          if (cell instanceof Node) place.append(cell);
          else place.textContent = shown(cell);
        }
      }
      return found;
    }

    function scoreTable(trial) {
      const columns = [["validation", trial.scores], ["test", trial.test], ["teacher", data.teacher && data.teacher.scores]];
      const filled = columns.filter(([, scores]) => scores);
      return table(["", ...filled.map(([name]) => name)], data.metrics.map((name, k) => [name, ...filled.map(([, scores]) => scores[k])]));
    }

    function bar(value, teacher, most) {
      const cell = make("div", { class: "amount" });
      const track = make("div", { class: "track" }), fill = make("div", { class: "fill" });
      fill.style.width = `${100 * (value ?? 0) / most}%`;
      fill.style.background = data.looks[data.trials[opened].look].colour;
      track.append(fill);
      if (teacher !== null) {
        const mark = make("div", { class: "reference" });
        mark.style.left = `${100 * teacher / most}%`;
        track.append(mark);
      }
      cell.append(track, make("span", {}, teacher === null ? shown(value) : `${shown(value)} / ${shown(teacher)}`));
      return cell;
    }

    function languageTable(trial) {
      const teacher = data.teacher && data.teacher.languages;
      const most = data.tasks.map((_, task) =>
        Math.max(1e-9, ...[trial.languages[task], teacher ? teacher[task] : []].flat().filter((value) => value !== null)));
      const rows = data.languages.map((language, k) => [
        language, ...data.tasks.map((_, task) => bar(trial.languages[task][k], teacher ? teacher[task][k] : null, most[task])),
      ]);
      const found = table(["language", ...data.tasks], rows);
      found.classList.add("languages");
      found.prepend(make("caption", {}, teacher ? "By language: the bar is the recipe, the line its teacher" : "By language"));
      return found;
    }

    function filter(name, heading, entries) {
      const group = make("fieldset");
      group.append(make("legend", {}, heading));
      entries.forEach((entry, index) => {
        const label = make("label"), box = make("input", { type: "checkbox", value: entry.name });
        box.checked = true;
        box.addEventListener("change", () => {
          hidden[name][box.checked ? "delete" : "add"](index);
          data.trials.forEach((trial, k) => { marks[k].style.display = isShown(trial) ? "" : "none"; });
          if (current !== null && !isShown(data.trials[current])) leave();
        });
        label.append(box);
        if (entry.path) {
          const glyph = draw("svg", { viewBox: "-8 -8 16 16", class: "glyph", "aria-hidden": "true" });
          glyph.append(draw("path", { d: entry.path, fill: entry.colour }));
          label.append(glyph);
        }
        label.append(make("span", {}, `${entry.label} (${entry.count})`));
        group.append(label);
      });
      return group;
    }

    drawFrame();
    drawPoints();
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();  // a notebook has keys of its own
      keys[event.key]();
    });
    plot.append(svg, tip, live);
    const filters = make("form", { class: "filters" });
    filters.append(filter("looks", "Strategy", data.looks), filter("kinds", "Trial", data.kinds));
    panel.append(make("p", { class: "note" }, "Hover over a trial, or step through them with the arrow keys. A click or Enter shows its languages here."));
    root.replaceChildren(filters, plot, panel);
    root.dataset.ready = "true";
  }

  for (const root of document.querySelectorAll(".pd-explorer:not([data-ready])")) build(root);
})();
