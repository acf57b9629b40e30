// Attempts as bars over time, and how many ran at once.
"use strict";
(() => {
  const kit = FIGURE_KIT;
  // By how an attempt ended: colour, and as second channel a mark at its end.
  const LOOKS = {
    committed: ["blue", null],
    preempted: ["orange", "triangle-left"],
    killed: ["purple", "x"],
    failed: ["red", "diamond"],
    superseded: ["grey", "line-ns-open"],
    running: ["green", "triangle-right-open"],
  };

  FIGURES.timeline = (element, data, given) => {
    const theme = kit.readTheme(given);
    if (!kit.clear(element, data)) return Promise.resolve();
    const draw = (chosen) => {
      kit.removePlots(element);
      return chosen === 0 ? drawAll(element, data, theme) : drawInterrupted(element, data, theme);
    };
    const views = ["all attempts, packed"];
    if (data.interrupted.length) views.push("trials with several attempts, and their gaps");
    return draw(views.length > 1 ? kit.choice(element, "Rows", views, draw) : 0);
  };

  const ms = (data, seconds) => (data.origin_s + seconds) * 1000;

  function drawAll(element, data, theme) {
    const rows = [...data.start.keys()];
    const traces = bars(data, rows, (row) => data.lane[row], theme);
    traces.push({
      name: "running at once",
      showlegend: false,
      mode: "lines",
      yaxis: "y2",
      x: data.count_t.map((t) => ms(data, t)),
      y: data.count,
      hovertext: data.count.map((n, i) => `${n} at once<br>${kit.utc(ms(data, data.count_t[i]))} UTC`),
      hoverinfo: "text",
      line: { shape: "hv", color: theme.text, width: 1.2 },
      fill: "tozeroy",
      fillcolor: theme.dark ? "rgba(160,170,180,0.18)" : "rgba(90,100,110,0.12)",
    });
    const height = 250 + Math.min(420, Math.max(120, 9 * data.n_lanes));
    const layout = kit.layout(theme, height, {
      barmode: "overlay",
      bargap: 0.12,
      xaxis: kit.dateAxis(theme, "time (UTC)", { anchor: "y" }),
      yaxis: kit.axis(theme, "attempts, packed", {
        domain: [0, 1 - 130 / (height - 90)],
        range: [data.n_lanes - 0.5, -0.5],
        showgrid: false,
        showticklabels: false,
        ticks: "",
      }),
      yaxis2: kit.axis(theme, "at once", {
        domain: [1 - 100 / (height - 90), 1],
        rangemode: "tozero",
        nticks: 4,
      }),
    });
    return kit.plot(element, traces, layout);
  }

  function drawInterrupted(element, data, theme) {
    const place = new Map(data.interrupted.map((trial, index) => [trial, index]));
    const rows = [...data.start.keys()].filter((row) => place.has(data.trial[row]));
    const traces = [gaps(data, rows, place, theme)];
    traces.push(...bars(data, rows, (row) => place.get(data.trial[row]), theme));
    const layout = kit.layout(theme, 120 + 18 * place.size, {
      barmode: "overlay",
      bargap: 0.3,
      xaxis: kit.dateAxis(theme, "time (UTC)"),
      yaxis: kit.axis(theme, "", {
        tickvals: [...place.values()],
        ticktext: data.interrupted.map((trial) => kit.esc(kit.cut(data.trials[trial], 24))),
        range: [place.size - 0.5, -0.5],
        showgrid: false,
      }),
    });
    return kit.plot(element, traces, layout);
  }

  // A bar for each attempt, one trace for each way to end, and the marks at their ends.
  function bars(data, rows, lane, theme) {
    const next = nextStarts(data);
    const guessed = new Set(data.guessed);
    return data.ends.flatMap((end, code) => {
      const mine = rows.filter((row) => data.end[row] === code);
      if (!mine.length) return [];
      const [color, symbol] = LOOKS[end];
      const told = {
        name: end,
        legendgroup: end,
        y: mine.map(lane),
        hovertext: mine.map((row) => describe(data, row, next, guessed)),
        hoverinfo: "text",
      };
      const bar = {
        ...told,
        type: "bar",
        orientation: "h",
        base: mine.map((row) => ms(data, data.start[row])),
        x: mine.map((row) => data.length[row] * 1000),
        textposition: "none",
        showlegend: symbol === null,
        marker: { color: theme.colors[color], line: { width: 0 } },
      };
      if (symbol === null) return [bar];
      const mark = {
        ...told,
        mode: "markers",
        x: mine.map((row) => ms(data, data.start[row] + data.length[row])),
        marker: {
          color: theme.colors[color], symbol, size: 8, line: { color: theme.text, width: 0.8 },
        },
      };
      return [bar, mark];
    });
  }

  function describe(data, row, next, guessed) {
    const [start, length] = [data.start[row], data.length[row]];
    const end = start + length;
    const after = next.get(`${data.trial[row]} ${data.attempt[row]}`);
    return kit.lines(
      data.trials[data.trial[row]],
      `attempt ${data.attempt[row]}: ${data.ends[data.end[row]]} after ${kit.span(length)}`,
      `${kit.utc(ms(data, start))} to ${guessed.has(row) ? "about " : ""}${kit.utc(ms(data, end))} UTC`,
      after === undefined ? "" : `went on ${kit.span(Math.max(0, after - end))} later`,
    );
  }

  // When the attempt after each one starts, by trial and attempt.
  function nextStarts(data) {
    const starts = new Map();
    data.start.forEach((start, row) => {
      starts.set(`${data.trial[row]} ${data.attempt[row] - 1}`, start);
    });
    return starts;
  }

  function gaps(data, rows, place, theme) {
    const next = nextStarts(data);
    const [x, y] = [[], []];
    for (const row of rows) {
      const after = next.get(`${data.trial[row]} ${data.attempt[row]}`);
      if (after === undefined) continue;
      x.push(ms(data, data.start[row] + data.length[row]), ms(data, after), null);
      y.push(place.get(data.trial[row]), place.get(data.trial[row]), null);
    }
    return {
      name: "waiting to go on", mode: "lines", x, y, hoverinfo: "skip",
      line: { color: theme.muted, width: 1.5, dash: "dot" },
    };
  }
})();
