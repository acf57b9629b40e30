// Parallel coordinates: lines on a canvas, axes and brushes in SVG above it. Plotly's own needs
// WebGL, which a browser on a machine without a GPU may lack.
//
// Drag along an axis to keep the lines through that range; a click on the axis, or Escape, clears
// it. By keyboard: arrow up and down move the lower and the upper end of the range.
"use strict";
(() => {
  const kit = FIGURE_KIT;
  const SVG = "http://www.w3.org/2000/svg";
  const [TOP, BOTTOM, SIDE, HEIGHT, LEAST_GAP] = [44, 18, 60, 400, 84];
  const STEP = 0.05;

  FIGURES.parallel = (element, data, given) => {
    const theme = kit.readTheme(given);
    element.stopParallel?.();
    if (!kit.clear(element, data)) return Promise.resolve();
    const view = makeView(element, data, theme);
    layOut(view);
    let width = element.clientWidth;
    const resizes = new ResizeObserver(() => {
      if (element.clientWidth === width || !element.clientWidth) return;
      width = element.clientWidth;
      layOut(view);
    });
    resizes.observe(element);
    element.stopParallel = () => resizes.disconnect();
    return Promise.resolve();
  };

  // --- what is drawn ----------------------------------------------------------------------------

  function makeView(element, data, theme) {
    const { view: shown, y } = data;
    const objective = { name: data.objective, is_text: false, log: shown.log, values: y, range: shown.range };
    const axes = [...data.axes, objective].map((axis) => scaleAxis(axis));
    // By rank, so that all colours are used however the objective is distributed.
    const badness = y.map((_, row) => row / Math.max(1, y.length - 1));
    const view = {
      data, theme, axes, badness,
      order: [...y.keys()].reverse(), // the best are drawn last, over the others
      brushes: axes.map(() => null),
      hovered: -1,
      frame: document.createElement("div"),
      canvas: document.createElement("canvas"),
      svg: document.createElementNS(SVG, "svg"),
      said: document.createElement("p"),
    };
    view.frame.className = "parallel";
    view.frame.style.cssText = "position:relative;overflow-x:auto";
    view.canvas.style.cssText = "position:absolute;left:0;top:0";
    view.svg.style.cssText = "position:relative;display:block;touch-action:pan-y";
    view.said.className = "figure-said";
    view.said.style.cssText = "min-height:3em;margin:.25rem 0;font-size:.9rem";
    view.said.setAttribute("aria-live", "polite");
    view.frame.append(view.canvas, view.svg);
    element.append(view.frame, view.said);
    view.svg.addEventListener("pointermove", (event) => hover(view, event));
    view.svg.addEventListener("pointerleave", () => setHovered(view, -1));
    return view;
  }

  // Add to an axis where each line crosses it, 0 (below) to 1, or null; and its ticks.
  function scaleAxis(axis) {
    if (axis.is_text) {
      const n = axis.levels.length;
      const at = (code) => (n === 1 ? 0.5 : 0.04 + (0.92 * code) / (n - 1));
      const spread = Math.min(0.02, 0.3 / n);
      return {
        ...axis,
        at: axis.codes.map((code, row) => (code < 0 ? null : at(code) + spread * kit.jitter(row))),
        ticks: axis.levels.map((level, code) => [at(code), level]),
        tell: (share) => axis.levels[Math.round(((share - 0.04) / 0.92) * (n - 1))] ?? "",
      };
    }
    const values = kit.values(axis);
    const there = values.filter((value) => value !== null);
    const [scale, back] = scaleOf(axis, there);
    let [low, high] = [Math.min(...there), Math.max(...there)].map(scale);
    if (axis.range) {
      const [least, most] = axis.range.map(scale);
      [low, high] = [Math.max(low, least), Math.min(high, most)];
    }
    const width = high - low || 1;
    const at = (value) => Math.min(1, Math.max(0, 0.02 + (0.96 * (scale(value) - low)) / width));
    const isCoded = axis.levels && axis.levels.length <= 8;
    const marks = isCoded ? axis.levels : ticksOf(low, high, axis.log).map(back);
    return {
      ...axis,
      at: values.map((value, row) =>
        value === null ? null : at(value) + (isCoded ? 0.012 * kit.jitter(row) : 0),
      ),
      ticks: marks.map((value) => [at(value), kit.brief(value)]),
      tell: (share) => kit.brief(back(low + ((share - 0.02) / 0.96) * width)),
    };
  }

  // How values are measured along an axis, and back. Of the largest floats a part is, since the
  // distance between two of them is no float.
  function scaleOf(axis, there) {
    if (axis.log) return [Math.log10, (value) => 10 ** value];
    if (Number.isFinite(Math.max(...there) - Math.min(...there))) return [Number, Number];
    return [(value) => value / 8, (value) => value * 8];
  }

  // Round numbers between two, or powers of ten where they are logarithms.
  function ticksOf(low, high, isLog) {
    if (isLog && high - low >= 2) {
      const every = Math.ceil((high - low) / 6);
      const first = Math.ceil(low);
      return [...Array(7).keys()].map((i) => first + i * every).filter((tick) => tick <= high);
    }
    if (isLog) return [low, (low + high) / 2, high].map((x) => Math.log10(Number((10 ** x).toPrecision(2))));
    const rough = (high - low) / 4 || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
    const first = Math.ceil(low / step);
    const n = Math.floor(high / step) - first;
    return [...Array(Math.max(0, n) + 1).keys()].map((i) => (first + i) * step);
  }

  // --- drawing ----------------------------------------------------------------------------------

  function layOut(view) {
    const gaps = view.axes.length - 1;
    const width = Math.max(view.frame.clientWidth || 700, 2 * SIDE + gaps * LEAST_GAP);
    const sharp = window.devicePixelRatio || 1;
    view.x = view.axes.map((_, index) => SIDE + (index * (width - 2 * SIDE)) / Math.max(1, gaps));
    view.gap = (width - 2 * SIDE) / Math.max(1, gaps);
    Object.assign(view.canvas, { width: width * sharp, height: HEIGHT * sharp });
    view.canvas.style.width = `${width}px`;
    view.canvas.style.height = `${HEIGHT}px`;
    view.svg.setAttribute("width", width);
    view.svg.setAttribute("height", HEIGHT);
    view.pen = view.canvas.getContext("2d");
    view.pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    view.width = width;
    view.svg.replaceChildren(...view.axes.map((_, index) => drawAxis(view, index)));
    drawLines(view);
    tell(view);
  }

  const height = (share) => HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);

  function isKept(view, row) {
    return view.brushes.every((brush, index) => {
      if (!brush) return true;
      const at = view.axes[index].at[row];
      return at !== null && at >= brush[0] && at <= brush[1];
    });
  }

  function drawLines(view) {
    const { pen, order, badness, theme } = view;
    pen.clearRect(0, 0, view.width, HEIGHT);
    const kept = order.filter((row) => isKept(view, row));
    const isBrushed = kept.length < order.length;
    pen.lineWidth = 1;
    if (isBrushed) {
      pen.globalAlpha = order.length > 500 ? 0.12 : 0.3;
      pen.strokeStyle = theme.line;
      for (const row of order) drawLine(view, row);
    }
    pen.globalAlpha = kept.length > 400 ? 0.35 : kept.length > 200 ? 0.45 : 0.75;
    for (const row of kept) {
      pen.strokeStyle = kit.colorOf(badness[row], theme);
      drawLine(view, row);
    }
    pen.globalAlpha = 1;
    if (kept.length) {
      const best = kept[kept.length - 1];
      pen.lineWidth = 2.5;
      pen.strokeStyle = kit.colorOf(badness[best], theme);
      drawLine(view, best);
    }
    if (view.hovered >= 0) {
      pen.lineWidth = 3;
      pen.strokeStyle = theme.colors.orange;
      drawLine(view, view.hovered);
    }
    view.kept = kept;
  }

  // A line ends where a parameter is not there, and begins again behind it.
  function drawLine(view, row) {
    const { pen } = view;
    let isDown = false;
    pen.beginPath();
    view.axes.forEach((axis, index) => {
      const at = axis.at[row];
      if (at === null) {
        isDown = false;
        return;
      }
      const y = height(at);
      if (isDown) pen.lineTo(view.x[index], y);
      else pen.moveTo(view.x[index], y);
      isDown = true;
    });
    pen.stroke();
  }

  function make(name, attributes, text) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function drawAxis(view, index) {
    const { theme } = view;
    const axis = view.axes[index];
    const isLast = index === view.axes.length - 1;
    const group = make("g", {
      transform: `translate(${view.x[index]},0)`,
      tabindex: 0, role: "slider", "aria-label": axis.name, "aria-orientation": "vertical",
      "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0, "aria-valuetext": "all",
    });
    const halo = { "paint-order": "stroke", stroke: theme.surface, "stroke-width": 4 };
    const font = { "font-family": theme.font, "font-size": 12, fill: theme.text };
    const most = Math.floor((view.gap - 8) / 7);
    const title = axis.name + (axis.log ? " (log)" : "");
    group.append(
      make("line", { y1: height(0), y2: height(1), stroke: theme.muted, "stroke-width": 1 }),
      make(
        "text",
        { ...font, y: index % 2 && view.gap < 150 ? 14 : 28, "text-anchor": isLast ? "end" : index ? "middle" : "start",
          x: isLast ? SIDE - 4 : index ? 0 : 4 - SIDE, "font-weight": 600 },
        kit.cut(title, Math.max(8, view.gap < 150 ? 2 * most : most)),
      ),
      make("title", {}, `${axis.name}: drag to keep a range, click to clear`),
    );
    for (const [at, words] of axis.ticks) {
      group.append(
        make("line", { x1: -4, x2: 4, y1: height(at), y2: height(at), stroke: theme.muted }),
        make(
          "text",
          { ...font, ...halo, "font-size": 11, y: height(at) + 4, x: isLast ? 8 : -8, "text-anchor": isLast ? "start" : "end" },
          kit.cut(words, 12),
        ),
      );
    }
    const brush = make("rect", {
      x: -9, width: 18, y: 0, height: 0, rx: 3,
      fill: theme.colors.orange, "fill-opacity": 0.35, stroke: theme.colors.orange,
    });
    const handle = make("rect", {
      x: -16, width: 32, y: TOP - 6, height: HEIGHT - TOP - BOTTOM + 12, fill: "transparent", style: "cursor:ns-resize",
    });
    group.append(brush, handle);
    axis.group = group;
    axis.brush = brush;
    handle.addEventListener("pointerdown", (event) => startDrag(view, index, event));
    group.addEventListener("keydown", (event) => pressKey(view, index, event));
    showBrush(view, index);
    return group;
  }

  // --- keeping a range --------------------------------------------------------------------------

  function shareAt(view, event) {
    const y = event.clientY - view.svg.getBoundingClientRect().top;
    const share = (HEIGHT - BOTTOM - y) / (HEIGHT - TOP - BOTTOM);
    return Math.min(1.01, Math.max(-0.01, share));
  }

  function startDrag(view, index, event) {
    const start = shareAt(view, event);
    const handle = event.currentTarget;
    handle.setPointerCapture(event.pointerId);
    const move = (next) => {
      const end = shareAt(view, next);
      const isClick = Math.abs(end - start) < 0.01;
      setBrush(view, index, isClick ? null : [Math.min(start, end), Math.max(start, end)]);
    };
    const stop = (last) => {
      move(last);
      handle.removeEventListener("pointermove", move);
      handle.removeEventListener("pointerup", stop);
      handle.removeEventListener("pointercancel", stop);
    };
    handle.addEventListener("pointermove", move);
    handle.addEventListener("pointerup", stop);
    handle.addEventListener("pointercancel", stop);
  }

  function pressKey(view, index, event) {
    const [low, high] = view.brushes[index] || [0, 1];
    const steps = {
      ArrowUp: [Math.min(low + STEP, high - STEP), high],
      ArrowDown: [low, Math.max(high - STEP, low + STEP)],
      Escape: null,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    setBrush(view, index, steps[event.key]);
  }

  function setBrush(view, index, range) {
    view.brushes[index] = range;
    showBrush(view, index);
    drawLines(view);
    tell(view);
  }

  function showBrush(view, index) {
    const range = view.brushes[index];
    const axis = view.axes[index];
    const [low, high] = range || [0, 0];
    axis.brush.setAttribute("y", height(high));
    axis.brush.setAttribute("height", Math.max(0, height(low) - height(high)));
    axis.brush.setAttribute("visibility", range ? "visible" : "hidden");
    const words = range ? `${axis.tell(Math.max(0.02, low))} to ${axis.tell(Math.min(0.98, high))}` : "all";
    axis.group.setAttribute("aria-valuenow", Math.max(0, Math.round(100 * low)));
    axis.group.setAttribute("aria-valuetext", words);
  }

  // --- which line is it? ------------------------------------------------------------------------

  function hover(view, event) {
    if (event.buttons) return;
    const box = view.svg.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const right = view.x.findIndex((at) => at >= x);
    if (right < 1) return setHovered(view, -1);
    const share = (x - view.x[right - 1]) / (view.x[right] - view.x[right - 1]);
    let [nearest, least] = [-1, 8];
    for (const row of view.kept) {
      const [a, b] = [view.axes[right - 1].at[row], view.axes[right].at[row]];
      if (a === null || b === null) continue;
      const distance = Math.abs(height(a) + share * (height(b) - height(a)) - y);
      if (distance <= least) [nearest, least] = [row, distance]; // the best lie on top, and come last
    }
    setHovered(view, nearest);
  }

  function setHovered(view, row) {
    if (row === view.hovered) return;
    view.hovered = row;
    drawLines(view);
    tell(view);
  }

  function tell(view) {
    const { data, hovered } = view;
    if (hovered >= 0) {
      const parts = view.axes.map((axis) => `${axis.name} ${kit.values(axis)[hovered] ?? "none"}`);
      view.said.textContent = `${data.trial[hovered]}: ${parts.reverse().join(", ")}`;
      return;
    }
    const n = view.kept.length;
    const all = data.y.length;
    if (n === all) view.said.textContent = "Point at a line to see which configuration it is.";
    else if (!n) view.said.textContent = `None of ${all} configurations pass through all ranges.`;
    else {
      const best = Math.min(...view.kept);
      view.said.textContent =
        `${n} of ${all} configurations pass; the best of them is ${data.trial[best]}, ` +
        `${data.objective} ${data.y[best]}.`;
    }
  }
})();
