// Parameters against the objective: importance, slices, heat maps of pairs.
"use strict";
(() => {
  const kit = FIGURE_KIT;

  // --- importance -------------------------------------------------------------------------------

  FIGURES.importance = (element, data, given) => {
    const theme = kit.readTheme(given);
    if (!kit.clear(element, data)) return Promise.resolve();
    const rows = [...data.name.keys()];
    const percent = (row) => (data.share[row] === null ? "" : `${Math.round(100 * data.share[row])} %`);
    const words = (row) => [percent(row), data.direction[row]].filter(Boolean).join(", ");
    // Where there is no room behind the bars the caption has the words.
    const isRoomy = element.clientWidth >= 640;
    const shown = (row) => (isRoomy ? kit.cut(words(row), 60) : percent(row) || "not known");
    const trace = {
      type: "bar",
      orientation: "h",
      x: rows.map((row) => data.share[row] ?? 0),
      y: rows,
      text: rows.map((row) => kit.esc(shown(row))),
      textposition: "outside",
      textfont: { color: theme.text },
      cliponaxis: false,
      hovertext: rows.map((row) => describe(data, row, words(row))),
      hoverinfo: "text",
      marker: {
        color: theme.colors.blue,
        opacity: rows.map((row) => (data.is_sure[row] === false ? 0.35 : 1)),
      },
    };
    const most = Math.max(...trace.x, 0.01);
    const apart = most > 0.5 ? 0.2 : most > 0.2 ? 0.1 : 0.05;
    const layout = kit.layout(theme, 90 + 30 * rows.length, {
      xaxis: kit.axis(theme, "share of importance", {
        // Room for the words behind the longest bar.
        range: [0, isRoomy ? Math.min(1.9 * most, most + 1) : 1.25 * most],
        // A share ends at 1, and so do the ticks.
        tickvals: [...Array(21).keys()].map((i) => i * apart).filter((at) => at < 1.001),
        tickformat: ".0%",
      }),
      yaxis: kit.axis(theme, "", {
        tickvals: rows,
        ticktext: rows.map((row) => kit.esc(kit.cut(data.name[row], 32))),
        range: [rows.length - 0.5, -0.5],
        showgrid: false,
      }),
      margin: { l: 60, r: 20, t: 10, b: 45 },
      bargap: 0.35,
      showlegend: false,
    });
    return kit.plot(element, [trace], layout);
  };

  function describe(data, row, words) {
    const correlation = data.correlation[row];
    return kit.lines(
      data.name[row],
      words,
      correlation === null ? "" : `rank correlation ${kit.brief(correlation)}`,
      data.is_sure[row] === false ? "no more than chance" : "",
    );
  }

  // --- slices -----------------------------------------------------------------------------------

  FIGURES.slices = (element, data, given) => {
    const theme = kit.readTheme(given);
    if (!kit.clear(element, data)) return Promise.resolve();
    const columns = columnsOf(element, data.axes.length, 3, 280);
    const rows = Math.ceil(data.axes.length / columns);
    const traces = [];
    const axes = {};
    data.axes.forEach((axis, index) => {
      const ids = subplot(axes, index, columns, rows, theme, {
        x: kit.parameterAxis(theme, axis),
        y: kit.objectiveAxis(theme, index % columns ? "" : data.objective, data.view, {
          nticks: 6,
          ...(index ? { matches: "y" } : {}),
        }),
      });
      traces.push(slicePoints(data, axis, index, theme, ids));
      if (axis.medians.length > 1) traces.push(medianLine(data, axis, index, theme, ids));
      traces.push(bestStar(data, axis, index, theme, ids));
    });
    const layout = kit.layout(theme, 60 + 270 * rows, axes);
    return kit.plot(element, traces, layout);
  };

  // As many plots beside each other as there is room for.
  function columnsOf(element, n, most, width) {
    return Math.max(1, Math.min(most, n, Math.floor(element.clientWidth / width)));
  }

  function subplot(layout, index, columns, rows, theme, axes) {
    const suffix = index ? String(index + 1) : "";
    const [column, row] = [index % columns, Math.floor(index / columns)];
    const [gapX, gapY] = [columns > 2 ? 0.07 : 0.11, rows > 1 ? 72 / (270 * rows) : 0];
    const width = (1 - gapX * (columns - 1)) / columns;
    const height = (1 - gapY * (rows - 1)) / rows;
    const left = column * (width + gapX);
    const top = 1 - row * (height + gapY);
    layout[`xaxis${suffix}`] = {
      ...axes.x, domain: [left, Math.min(1, left + width)], anchor: `y${suffix}`,
    };
    layout[`yaxis${suffix}`] = {
      ...axes.y, domain: [Math.max(0, top - height), top], anchor: `x${suffix}`,
    };
    return { xaxis: `x${suffix}`, yaxis: `y${suffix}` };
  }

  function slicePoints(data, axis, index, theme, ids) {
    const shown = kit.values(axis);
    return {
      ...ids,
      name: "configurations",
      legendgroup: "points",
      showlegend: index === 0,
      mode: "markers",
      x: kit.spreadPlaces(axis),
      y: data.y,
      hovertext: data.y.map((value, row) =>
        kit.lines(data.trial[row], `${axis.name} ${shown[row]}`, `${data.objective} ${value}`),
      ),
      hoverinfo: "text",
      marker: { color: theme.colors.blue, size: 5, opacity: data.y.length > 500 ? 0.35 : 0.55 },
    };
  }

  function medianLine(data, axis, index, theme, ids) {
    return {
      ...ids,
      name: "median",
      legendgroup: "median",
      showlegend: index === data.axes.findIndex((other) => other.medians.length > 1),
      mode: "lines+markers",
      x: axis.medians.map(([at]) => at),
      y: axis.medians.map(([, median]) => median),
      hovertext: axis.medians.map(([at, median]) =>
        kit.lines(`${axis.name} ${axis.is_text ? axis.levels[at] : at}`, `median ${median}`),
      ),
      hoverinfo: "text",
      line: { color: theme.colors.red, width: 2 },
      marker: { symbol: "line-ew-open", size: 14, line: { width: 3 }, color: theme.colors.red },
    };
  }

  function bestStar(data, axis, index, theme, ids) {
    const value = kit.values(axis)[0];
    return {
      ...ids,
      name: "best",
      legendgroup: "best",
      showlegend: index === 0,
      mode: "markers",
      x: [kit.places(axis)[0]],
      y: [data.y[0]],
      hovertext: [
        kit.lines(`best: ${data.trial[0]}`, `${axis.name} ${value}`, `${data.objective} ${data.y[0]}`),
      ],
      hoverinfo: "text",
      marker: star(theme),
    };
  }

  function star(theme) {
    const line = { color: theme.text, width: 1.2 };
    return { symbol: "star", size: 14, color: theme.colors.orange, line };
  }

  // --- pairs ------------------------------------------------------------------------------------

  FIGURES.contours = (element, data, given) => {
    const theme = kit.readTheme(given);
    if (!kit.clear(element, data)) return Promise.resolve();
    const columns = columnsOf(element, data.maps.length, 2, 400);
    const rows = Math.ceil(data.maps.length / columns);
    const axes = {};
    const medians = data.maps.flatMap((map) => map.median.flat()).filter((value) => value !== null);
    const [least, most] = [Math.min(...medians), Math.max(...medians)];
    const traces = data.maps.flatMap((map, index) => {
      const ids = subplot(axes, index, columns, rows, theme, {
        x: cellAxis(theme, map.x, map.x_names, map.x_edges, element.clientWidth / columns < 440 ? 5 : 2),
        y: cellAxis(theme, map.y, map.y_names, map.y_edges, 2),
      });
      const cells = heatMap(data, map, ids);
      const words = isRoomy(map) ? [heatWords(data, map, [least, most], theme, ids)] : [];
      return [cells, ...words, heatStar(map, ids)];
    });
    const layout = kit.layout(theme, 60 + 330 * rows, {
      ...axes,
      coloraxis: {
        colorscale: kit.colorScale(theme, data.goal),
        cmin: least,
        cmax: most,
        colorbar: {
          title: { text: `median<br>${kit.esc(kit.cut(data.objective, 24))}`, font: { size: 12 } },
          outlinewidth: 0, thickness: 14, tickcolor: theme.muted,
        },
      },
      showlegend: false,
      margin: { l: 60, r: 20, t: 16, b: 50 },
    });
    return kit.plot(element, traces, layout);
  };

  // Ticks in the middle of cells of one value, and at some of the edges of those of a span.
  function cellAxis(theme, name, names, edges, every) {
    const marks = edges ? edges.map(kit.brief) : names.map((text) => kit.cut(text, 20));
    const shown = [...marks.keys()].filter((index) => !edges || index % every === 0);
    return kit.axis(theme, kit.cut(name, 40), {
      tickvals: shown.map((index) => (edges ? index - 0.5 : index)),
      ticktext: shown.map((index) => kit.esc(marks[index])),
      range: [-0.5, names.length - 0.5],
      showgrid: false,
      ticks: edges ? "outside" : "",
    });
  }

  function heatMap(data, map, ids) {
    const tell = (row, column) =>
      kit.lines(
        `${map.x} ${map.x_names[column]}`,
        `${map.y} ${map.y_names[row]}`,
        `median ${data.objective} ${map.median[row][column]}`,
        `${map.n[row][column]} configurations`,
      );
    return {
      ...ids,
      type: "heatmap",
      z: map.median,
      coloraxis: "coloraxis",
      xgap: 2,
      ygap: 2,
      hoverongaps: false,
      hovertext: map.median.map((line, row) => line.map((_, column) => tell(row, column))),
      hoverinfo: "text",
    };
  }

  // The medians, each in the ink that its cell's colour lets one read; Plotly's own is too pale.
  function heatWords(data, map, [least, most], theme, ids) {
    const found = map.median.flatMap((line, y) => line.map((median, x) => ({ x, y, median })));
    const cells = found.filter(({ median }) => median !== null);
    // By halves, since the distance of the largest floats is no float.
    const width = most / 2 - least / 2;
    const share = (median) => (width > 0 ? (median / 2 - least / 2) / width : 0.5);
    const badness = (median) => (data.goal === "maximize" ? 1 - share(median) : share(median));
    return {
      ...ids,
      mode: "text",
      x: cells.map(({ x }) => x),
      y: cells.map(({ y }) => y),
      text: cells.map(({ median }) => kit.brief(median)),
      textfont: {
        color: cells.map(({ median }) => kit.inkOn(kit.colorOf(badness(median), theme))),
      },
      hoverinfo: "skip",
    };
  }

  // Few cells have room for their values.
  function isRoomy(map) {
    return map.x_names.length * map.y_names.length <= 40;
  }

  function heatStar(map, ids) {
    const [x, y] = map.best;
    const [right, up] = isRoomy(map) ? [-0.33, 0.3] : [0, 0]; // beside a value
    return {
      ...ids,
      mode: "markers",
      x: x < 0 || y < 0 ? [] : [x + right],
      y: x < 0 || y < 0 ? [] : [y + up],
      hovertext: ["here is the best configuration"],
      hoverinfo: "text",
      // Seen on every colour of the cells, in both themes.
      marker: { symbol: "star", size: 15, color: "#ffffff", line: { color: "#000000", width: 1.5 } },
    };
  }
})();
