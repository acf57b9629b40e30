// Learning curves by how the trials came out; one line a trial, one trace a group.
"use strict";
(() => {
  const kit = FIGURE_KIT;
  // By group: colour, width, dash; the best are drawn last, over the others.
  const LOOKS = [
    ["orange", 2.2, "solid"],
    ["blue", 1, "solid"],
    ["grey", 0.8, "solid"],
    ["green", 1.6, "dot"],
    ["red", 1.6, "dash"],
    ["purple", 1.6, "dashdot"],
    ["text", 1.2, "dot"], // which stands out from every page
  ];
  // Done without a rank: most diverged, so the last finite value before another is crossed.
  const CROSSED = 5;
  const FRESH = 6;

  FIGURES.curves = (element, data, given) => {
    const theme = kit.readTheme(given);
    if (!kit.clear(element, data)) return Promise.resolve();
    const draw = (chosen) => {
      kit.removePlots(element);
      // The best over the others, and over them what is thin and dotted.
      const groups = [...data.groups.keys()].reverse().sort((a, b) => (a === FRESH) - (b === FRESH));
      const traces = groups.map((group) => groupLines(data, chosen, group, theme));
      const layout = kit.layout(theme, 420, {
        xaxis: kit.axis(theme, "step"),
        yaxis: kit.objectiveAxis(theme, data.keys[chosen], {
          log: data.log[chosen],
          range: data.range[chosen],
        }),
      });
      return kit.plot(element, traces.filter((trace) => trace.x.length), layout);
    };
    return draw(kit.choice(element, "Metric", data.keys, draw));
  };

  // All lines of a group are one trace, with a gap after each: two hundred traces are slow.
  function groupLines(data, chosen, group, theme) {
    const [color, width, dash] = LOOKS[group];
    const series = data.series[chosen];
    const [x, y, hovertext, sizes] = [[], [], [], []];
    series.trial.forEach((trial, row) => {
      if (data.group[trial] !== group) return;
      const rank = data.rank[trial] === null ? "" : `, rank ${data.rank[trial]}`;
      series.step[row].forEach((step, i) => {
        const value = series.value[row][i];
        x.push(step);
        y.push(value);
        sizes.push(group === CROSSED && value !== null && series.value[row][i + 1] === null ? 8 : 0);
        hovertext.push(
          kit.lines(
            data.trial[trial],
            `${data.state[trial]}${rank}`,
            `step ${step}: ${data.keys[chosen]} ${value}`,
          ),
        );
      });
      x.push(null);
      y.push(null);
      sizes.push(0);
      hovertext.push("");
    });
    const pale = [1, 2, FRESH].includes(group) ? 0.7 : 0.9;
    return {
      name: data.groups[group],
      legendrank: group + 1,
      // They lie on the best, which they would hide: a click on their name shows them.
      visible: group === FRESH ? "legendonly" : true,
      mode: group === CROSSED ? "lines+markers" : "lines",
      x,
      y,
      hovertext,
      hoverinfo: "text",
      connectgaps: false,
      opacity: pale,
      line: { color: theme.colors[color] || theme[color], width, dash },
      marker: { color: theme.colors[color] || theme[color], symbol: "x", size: sizes, line: { width: 0 } },
    };
  }
})();
