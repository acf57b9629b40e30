// How ranked ones lie: intervals over repeats, distribution, objective against cost.
"use strict";
(() => {
  const kit = FIGURE_KIT;

  // --- intervals --------------------------------------------------------------------------------

  FIGURES.intervals = (element, data, given) => {
    const theme = kit.readTheme(given);
    if (!kit.clear(element, data)) return Promise.resolve();
    const rows = [...data.mean.keys()];
    const tied = rows.filter((row) => data.is_tied[row]);
    const others = rows.filter((row) => !data.is_tied[row]);
    const traces = [repeatPoints(data, rows, theme)];
    const first = tied.length > 1 ? "tied with the first" : "the first";
    if (tied.length) traces.push(means(data, tied, first, "orange", "diamond", theme));
    if (others.length) {
      const name = tied.length ? "told from the first" : "mean and 95 % interval";
      traces.push(means(data, others, name, "blue", "circle", theme));
    }
    const isFresh = Boolean(data.fresh?.row);
    if (isFresh) traces.push(freshMeans(data.fresh, data, theme));
    const layout = kit.layout(theme, 120 + (isFresh ? 28 : 22) * rows.length, {
      xaxis: kit.axis(theme, data.objective),
      yaxis: kit.axis(theme, "", {
        tickvals: rows,
        ticktext: rows.map((row) => kit.esc(`${data.trial[row]}  #${data.rank[row]}`)),
        range: [rows.length - 0.4, -0.6],
        showgrid: false,
      }),
    });
    return kit.plot(element, traces, layout);
  };

  function means(data, rows, name, color, symbol, theme) {
    const reach = (ends) => rows.map((row) => Math.abs((ends[row] ?? data.mean[row]) - data.mean[row]));
    return {
      name,
      mode: "markers",
      x: rows.map((row) => data.mean[row]),
      y: rows,
      error_x: {
        type: "data", symmetric: false, array: reach(data.high), arrayminus: reach(data.low),
        color: theme.colors[color], thickness: 1.5, width: 4,
      },
      hovertext: rows.map((row) => describe(data, row)),
      hoverinfo: "text",
      marker: { color: theme.colors[color], symbol, size: 9 },
    };
  }

  // A little below the means that chose the configuration.
  function freshMeans(fresh, data, theme) {
    const reach = (ends) => fresh.mean.map((mean, i) => Math.abs((ends[i] ?? mean) - mean));
    return {
      name: "on fresh seeds",
      mode: "markers",
      x: fresh.mean,
      y: fresh.row.map((row) => row + 0.34),
      error_x: {
        type: "data", symmetric: false, array: reach(fresh.high), arrayminus: reach(fresh.low),
        color: theme.colors.green, thickness: 1.5, width: 3,
      },
      hovertext: fresh.row.map((row, i) =>
        kit.lines(
          `${data.trial[row]}, on fresh seeds`,
          `mean ${fresh.mean[i]}`,
          fresh.low[i] === null ? "no interval" : `95 %: ${fresh.low[i]} to ${fresh.high[i]}`,
          `${fresh.n[i]} runs`,
          fresh.rank[i] === null ? "" : `rank ${fresh.rank[i]} there`,
        ),
      ),
      hoverinfo: "text",
      marker: { color: theme.colors.green, symbol: "square", size: 7 },
    };
  }

  function describe(data, row) {
    const interval =
      data.low[row] === null ? "no interval" : `95 %: ${data.low[row]} to ${data.high[row]}`;
    return kit.lines(
      `#${data.rank[row]}  ${data.trial[row]}`,
      `${data.objective} ${data.mean[row]}`,
      interval,
      `${data.n[row]} of ${data.n_all[row]} repeats`,
      ...data.label[row].slice(0, 12),
    );
  }

  function repeatPoints(data, rows, theme) {
    const points = rows.flatMap((row) => data.repeats[row].map((value) => [value, row]));
    return {
      name: "each repeat",
      mode: "markers",
      x: points.map(([value]) => value),
      y: points.map(([, row]) => row),
      hovertext: points.map(([value]) => `one repeat: ${value}`),
      hoverinfo: "text",
      marker: { color: theme.muted, symbol: "line-ns-open", size: 8 },
    };
  }

  // --- distribution -----------------------------------------------------------------------------

  FIGURES.distribution = (element, data, given) => {
    const theme = kit.readTheme(given);
    if (!kit.clear(element, data)) return Promise.resolve();
    const share = (n) => (100 * n) / data.n_all;
    const trace = {
      mode: "lines+markers", // markers leave room between the ends and the frame
      x: data.x,
      y: data.n.map(share),
      line: { shape: "hv", color: theme.colors.blue, width: 2 },
      marker: { size: data.x.length < 60 ? 5 : 2 },
      hovertext: data.x.map((value, i) =>
        kit.lines(
          `${data.objective} ${value}`,
          `${data.n[i]} of ${data.n_all} (${kit.brief(share(data.n[i]))} %) at least as good`,
        ),
      ),
      hoverinfo: "text",
    };
    // The better side is to the left, whatever is better.
    const range = data.view.range && { range: [...data.view.range].reverse() };
    const turned = data.goal === "maximize" ? { autorange: "reversed", ...(range || {}) } : {};
    if (range && data.goal === "maximize") delete turned.autorange;
    const layout = kit.layout(theme, 340, {
      xaxis: kit.objectiveAxis(theme, data.objective, data.view, turned),
      yaxis: kit.axis(theme, "configurations at least as good (%)", { range: [0, 102] }),
      showlegend: false,
    });
    return kit.plot(element, [trace], layout);
  };

  // --- two things to be had ---------------------------------------------------------------------

  function drawFront(element, data, given) {
    const theme = kit.readTheme(given);
    if (!kit.clear(element, data)) return Promise.resolve();
    const rows = [...data.x.keys()];
    const onFront = new Set(data.front);
    const unit = data.unit && data.unit !== data.x_name ? ` (${data.unit})` : "";
    const tell = (row) =>
      kit.lines(
        data.trial[row],
        `${data.y_name} ${data.y[row]}`,
        `${data.x_name}${unit} ${data.x[row]}`,
        onFront.has(row) ? "on the front" : "",
      );
    const points = (shown) => ({
      x: shown.map((row) => data.x[row]),
      y: shown.map((row) => data.y[row]),
      hovertext: shown.map(tell),
      hoverinfo: "text",
    });
    const { blue, red } = theme.colors;
    const traces = [
      {
        name: "others",
        mode: "markers",
        marker: { color: blue, size: 6, opacity: 0.55 },
        ...points(rows.filter((row) => !onFront.has(row))),
      },
      {
        name: "front",
        mode: "lines+markers",
        line: { shape: "hv", color: red, width: 2 },
        marker: { color: red, symbol: "diamond", size: 10 },
        ...points(data.front),
      },
    ];
    const layout = kit.layout(theme, 380, {
      xaxis: kit.axis(theme, data.x_name + unit, {
        // 0.00002 rather than 0.2 x 10^-4 of small change.
        ...(Math.max(...data.x.map(Math.abs)) < 0.01 ? { tickformat: "~g", nticks: element.clientWidth < 500 ? 4 : 6 } : {}),
      }),
      yaxis: kit.objectiveAxis(theme, data.y_name, data.view),
    });
    return kit.plot(element, traces, layout);
  }

  FIGURES.pareto = drawFront;
  FIGURES.objectives = drawFront;
})();
