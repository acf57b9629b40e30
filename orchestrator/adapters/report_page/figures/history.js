// Objectives by the time at which trials ended, and the best so far.
"use strict";
(() => {
  const kit = FIGURE_KIT;
  const LOOKS = {
    done: ["blue", "circle"],
    running: ["green", "diamond-open"],
    failed: ["red", "x"],
    lost: ["purple", "triangle-down-open"],
    interrupted: ["orange", "triangle-up-open"],
    "fresh seed": ["text", "circle-open"],
  };

  FIGURES.history = (element, data, given) => {
    const theme = kit.readTheme(given);
    if (!kit.clear(element, data)) return Promise.resolve();
    const ms = (seconds) => (data.origin_s + seconds) * 1000;
    const traces = data.states.map((state, code) => statePoints(data, state, code, ms, theme));
    traces.push(bestLine(data, ms, theme));
    if (data.failed_t.length) traces.push(failedTicks(data, ms, theme));
    const layout = kit.layout(theme, 400, {
      xaxis: kit.dateAxis(theme, "end of the trial (UTC)"),
      yaxis: kit.objectiveAxis(theme, data.objective, data.view),
      yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
    });
    return kit.plot(element, traces, layout);
  };

  function statePoints(data, state, code, ms, theme) {
    const [color, symbol] = LOOKS[state] || ["grey", "square-open"];
    const rows = [...data.state.keys()].filter((row) => data.state[row] === code);
    const notes = { done: "", "fresh seed": "on a fresh seed, to confirm; not ranked" };
    const note = notes[state] ?? `${state}: its last report, not ranked`;
    return {
      name: state,
      mode: "markers",
      x: rows.map((row) => ms(data.t[row])),
      y: rows.map((row) => data.y[row]),
      hovertext: rows.map((row) => {
        const value = `${data.objective} ${data.y[row]}`;
        return kit.lines(data.trial[row], value, note, `${kit.utc(ms(data.t[row]))} UTC`);
      }),
      hoverinfo: "text",
      marker: { color: theme.colors[color] || theme[color], symbol, size: 6, opacity: state === "done" ? 0.6 : 1 },
    };
  }

  function bestLine(data, ms, theme) {
    const rows = [...data.best_t.keys()];
    const last = rows.length - 1;
    return {
      name: "best so far",
      mode: "lines",
      line: { shape: "hv", color: theme.text, width: 2 },
      x: [...rows.map((row) => ms(data.best_t[row])), ms(data.end_s)],
      y: [...data.best_y, data.best_y[last]],
      hovertext: [...rows, last].map((row) =>
        kit.lines("best so far", data.best_trial[row], `${data.objective} ${data.best_y[row]}`),
      ),
      hoverinfo: "text",
    };
  }

  function failedTicks(data, ms, theme) {
    return {
      name: "ended without a value",
      mode: "markers",
      yaxis: "y2",
      x: data.failed_t.map(ms),
      y: data.failed_t.map(() => 0.015),
      hovertext: data.failed_t.map((t) => `ended without a value<br>${kit.utc(ms(t))} UTC`),
      hoverinfo: "text",
      marker: { symbol: "line-ns-open", size: 10, color: theme.colors.red, line: { width: 1.5 } },
    };
  }
})();
