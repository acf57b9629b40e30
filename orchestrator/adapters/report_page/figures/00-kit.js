// What all figures share: colours, axes, texts, places. Each file here adds functions to FIGURES,
// called as FIGURES[id](element, data, theme); calling again draws anew, say in another theme.
//
// theme: { dark, font, text, muted, line, surface }, or "light" or "dark".
// Foreign texts reach Plotly through esc(), since it reads <b> and <a href> in texts as markup.
// Nothing here needs WebGL or eval.
"use strict";
const FIGURES = {};
const FIGURE_KIT = (() => {
  // Okabe & Ito (2008), told apart by colour-blind people too; of the two blues and the two
  // oranges the one that stands out from the page.
  const COLORS = {
    light: {
      blue: "#0072b2", orange: "#e69f00", green: "#009e73", red: "#d55e00", purple: "#cc79a7",
      grey: "#808080",
    },
    dark: {
      blue: "#56b4e9", orange: "#e69f00", green: "#22b58c", red: "#f0733a", purple: "#dd93bd",
      grey: "#9a9a9a",
    },
  };
  // Viridis (Smith & van der Walt, 2015), nine of its colours.
  const VIRIDIS = [
    [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129],
    [92, 200, 99], [170, 220, 50], [253, 231, 37],
  ];
  const PLAIN = {
    light: { dark: false, text: "#1b1f24", muted: "#57606a", line: "#d4d9df", surface: "#ffffff" },
    dark: { dark: true, text: "#e4e7ea", muted: "#a2acb6", line: "#3a424a", surface: "#1a1e22" },
  };

  function readTheme(theme) {
    const given = typeof theme === "string" ? {} : theme || {};
    const name = theme === "dark" || given.dark ? "dark" : "light";
    return { font: "system-ui, sans-serif", ...PLAIN[name], ...given, colors: COLORS[name] };
  }

  // --- texts ------------------------------------------------------------------------------------

  // Plotly turns these three back into the characters, after it has looked for markup.
  function esc(text) {
    return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  }

  function cut(text, most) {
    const all = [...String(text)];
    return all.length <= most ? all.join("") : `${all.slice(0, most - 1).join("")}…`;
  }

  function brief(value) {
    if (typeof value !== "number") return String(value);
    const short = Number(value.toPrecision(4));
    const size = Math.abs(short);
    return size && (size < 1e-3 || size >= 1e7) ? short.toExponential() : String(short);
  }

  function utc(ms) {
    return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
  }

  function span(seconds) {
    if (seconds < 90) return `${Math.round(seconds)} s`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    return `${(seconds / 3600).toFixed(1)} h`;
  }

  function lines(...parts) {
    return parts.filter((part) => part !== "").map(esc).join("<br>");
  }

  // --- columns and scales -----------------------------------------------------------------------

  // Values of an axis: numbers, texts, or null.
  function values(axis) {
    return axis.values ?? axis.codes.map((code) => (code < 0 ? null : axis.levels[code]));
  }

  // Where they are drawn: texts at 0, 1, 2, ...
  function places(axis) {
    return axis.is_text ? axis.codes.map((code) => (code < 0 ? null : code)) : values(axis);
  }

  // Where points are drawn: as places(), but values that many share are spread a little sideways.
  function spreadPlaces(axis) {
    const at = places(axis);
    if (axis.is_text) return at.map((x, row) => (x === null ? null : x + 0.2 * jitter(row)));
    if (!axis.levels || axis.levels.length < 2 || axis.levels.length > 12) return at;
    const scale = axis.log ? Math.log : Number;
    const back = axis.log ? Math.exp : Number;
    const steps = axis.levels.slice(1).map((level, i) => scale(level) - scale(axis.levels[i]));
    const reach = 0.1 * Math.min(...steps);
    return at.map((x, row) => (x === null ? null : back(scale(x) + reach * jitter(row))));
  }

  // A shift within +-1 that looks random and is the same at each drawing.
  function jitter(index) {
    return (((index + 1) * 0.618034) % 1) * 2 - 1;
  }

  function viridis(share) {
    const at = Math.min(1, Math.max(0, share)) * (VIRIDIS.length - 1);
    const below = Math.min(VIRIDIS.length - 2, Math.floor(at));
    const mixed = VIRIDIS[below].map((c, i) => c + (at - below) * (VIRIDIS[below + 1][i] - c));
    return `rgb(${mixed.map(Math.round).join(",")})`;
  }

  // Black or white, whichever can be read better on one of those colours.
  function inkOn(color) {
    const [r, g, b] = color.match(/\d+/g).map((it) => {
      const c = it / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff";
  }

  // 0 is best and stands out from the page, 1 is worst.
  function colorOf(badness, theme) {
    return viridis(theme.dark ? 1 - 0.8 * badness : 0.92 * badness);
  }

  // Plotly's colour scale over objectives; it runs from low to high values.
  function colorScale(theme, goal) {
    const steps = [...Array(9).keys()].map((i) => i / 8);
    return steps.map((at) => [at, colorOf(goal === "maximize" ? 1 - at : at, theme)]);
  }

  // --- layout -----------------------------------------------------------------------------------

  function axis(theme, title, more = {}) {
    return {
      title: { text: esc(title), standoff: 10, font: { size: 13, color: theme.text } },
      automargin: true,
      color: theme.muted,
      gridcolor: theme.line,
      linecolor: theme.line,
      showline: true,
      zeroline: false,
      ticks: "outside",
      tickcolor: theme.line,
      exponentformat: "power",
      ...more,
    };
  }

  function objectiveAxis(theme, title, view, more = {}) {
    const log = view.log ? { type: "log", dtick: "D2", tickformat: "~g" } : {};
    const range = view.range ? { range: view.log ? view.range.map(Math.log10) : view.range } : {};
    return axis(theme, view.log ? `${title} (log)` : title, { ...log, ...range, ...more });
  }

  function parameterAxis(theme, param, more = {}) {
    if (param.is_text) {
      return axis(theme, cut(param.name, 40), {
        tickvals: param.levels.map((_, code) => code),
        ticktext: param.levels.map((level) => esc(cut(level, 16))),
        range: [-0.5, param.levels.length - 0.5],
        ...more,
      });
    }
    const few = param.levels && param.levels.length <= 6 ? param.levels : null;
    const ticks = few ? { tickvals: few, ticktext: few.map(brief) } : {};
    // Powers of ten as people write them: 1e-5 of a learning rate, 1000 of steps.
    const isSmall = param.log && Math.max(...values(param)) < 0.1;
    const powers = { dtick: 1, tickformat: isSmall ? "~e" : "~g" };
    const log = param.log ? { type: "log", ...(few ? {} : powers) } : {};
    const title = cut(param.name, 40) + (param.log ? " (log)" : "");
    return axis(theme, title, { nticks: 5, ...log, ...ticks, ...more });
  }

  function dateAxis(theme, title, more = {}) {
    return axis(theme, title, { type: "date", hoverformat: "%Y-%m-%d %H:%M", ...more });
  }

  function layout(theme, height, more) {
    return {
      height,
      autosize: true,
      margin: { l: 60, r: 20, t: 36, b: 50 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: theme.font, size: 12, color: theme.text },
      hovermode: "closest",
      hoverlabel: {
        bgcolor: theme.surface, bordercolor: theme.muted, align: "left",
        font: { family: theme.font, size: 12, color: theme.text },
      },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: theme.muted, activecolor: theme.accent || theme.text },
      showlegend: true,
      // Above the plot, so that it never lies over data.
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
      ...more,
    };
  }

  // --- places -----------------------------------------------------------------------------------

  // Empty an element; returns false, having said why in words, where there is nothing to draw.
  function clear(element, data) {
    removePlots(element);
    element.replaceChildren();
    element.classList.toggle("says-why", Boolean(data.reason));
    if (!data.reason) return true;
    const words = document.createElement("p");
    words.textContent = data.reason;
    element.append(words);
    return false;
  }

  function removePlots(element) {
    for (const old of element.querySelectorAll(".js-plotly-plot")) {
      old.resizes?.disconnect();
      Plotly.purge(old);
      old.remove();
    }
  }

  // Without the numbers that SVG has no coordinates for: out of all proportion to the axis' range,
  // or so large that the distance of two is no float. What hover tells of the others stays.
  function dropFar(traces, plotLayout) {
    const most = (trace, side) => {
      const { range, type } = plotLayout[(trace[`${side}axis`] || side).replace(side, `${side}axis`)] || {};
      const isLinear = range && type !== "log" && type !== "date";
      return isLinear ? 1e30 * Math.abs(range[1] - range[0]) : 1e300;
    };
    const keep = (values, limit) =>
      values.map((value) => (typeof value === "number" && Math.abs(value) > limit ? null : value));
    return traces.map((trace) => {
      const sides = ["x", "y"].filter((side) => Array.isArray(trace[side]));
      const kept = sides.map((side) => [side, keep(trace[side], most(trace, side))]);
      return { ...trace, ...Object.fromEntries(kept) };
    });
  }

  function plot(element, traces, plotLayout, before = null) {
    const place = document.createElement("div");
    place.style.width = "100%";
    element.insertBefore(place, before);
    // These buttons alone: Plotly's own set has one that would send the figure to its makers.
    const config = {
      displaylogo: false,
      modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["autoScale2d", "resetScale2d"]],
      plotlyServerURL: "",
    };
    const shown = FIGURE_LEGEND.recall(element, dropFar(traces, plotLayout));
    const drawn = Plotly.newPlot(place, shown, plotLayout, config).then(() => {
      FIGURE_LEGEND.attach(element, place);
    });
    let width = place.clientWidth;
    place.resizes = new ResizeObserver(() => {
      if (place.clientWidth === width || !place.clientWidth) return;
      width = place.clientWidth;
      Plotly.Plots.resize(place);
    });
    place.resizes.observe(place);
    return drawn;
  }

  // A choice above a figure; what was chosen stays when it is drawn anew.
  function choice(element, label, options, onChange) {
    const row = document.createElement("p");
    const words = document.createElement("label");
    const list = document.createElement("select");
    row.className = "figure-choice";
    words.textContent = `${label} `;
    options.forEach((text, index) => list.append(new Option(text, String(index))));
    const chosen = Number(element.dataset.chosen || 0);
    list.value = String(chosen < options.length ? chosen : 0);
    list.addEventListener("change", () => {
      element.dataset.chosen = list.value;
      onChange(Number(list.value));
    });
    words.append(list);
    row.append(words);
    element.append(row);
    return Number(list.value);
  }

  return {
    axis, brief, choice, clear, colorOf, colorScale, cut, dateAxis, esc, inkOn, jitter, layout,
    lines, objectiveAxis, parameterAxis, places, plot, readTheme, removePlots, span, spreadPlaces,
    utc, values,
  };
})();
