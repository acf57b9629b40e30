// Trials side by side: those ticked in the table, all their values with all digits.
"use strict";
const COMPARE = (() => {
  const MAX_TRIALS = 6;
  const ROLES = [
    ["score", "Objective"],
    ["parameter", "Parameters"],
    ["constant", "Parameters that are the same in all trials"],
    ["metric", "Metrics"],
    ["cost", "Cost"],
    ["other", "Other"],
  ];
  const chosen = []; // rows, in the order in which they were ticked
  const parts = {};
  let differencesOnly = false;

  function checkbox(row, trial) {
    const label = `Compare ${CELLS.oneLine(trial, 60)}`;
    const box = TABLE.element("input", { type: "checkbox", "aria-label": label });
    box.checked = chosen.includes(row);
    box.addEventListener("change", () => {
      if (box.checked) chosen.push(row);
      else chosen.splice(chosen.indexOf(row), 1);
      if (chosen.length > MAX_TRIALS) untick(chosen.shift());
      draw();
    });
    return box;
  }

  function untick(row) {
    const box = document.querySelector(`#trials-list tr[data-row="${row}"] .pick input`);
    if (box) box.checked = false;
  }

  function clear() {
    for (const row of chosen.splice(0)) untick(row);
    draw();
    document.getElementById("search").focus();
  }

  function panel() {
    const { element, button } = TABLE;
    const only = element("input", { type: "checkbox", id: "differences" });
    only.addEventListener("change", () => {
      differencesOnly = only.checked;
      draw();
    });
    parts.title = element("h3", { id: "compare-title", role: "status" });
    parts.table = element("table", { id: "compared" });
    parts.panel = element(
      "section",
      { id: "compare", "aria-labelledby": "compare-title", hidden: true },
      parts.title,
      element(
        "div",
        { class: "tools" },
        element("label", { class: "box" }, only, " Only what differs"),
        button("Choose none", clear, {}),
      ),
      element(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-labelledby": "compare-title" },
        parts.table,
      ),
    );
    return parts.panel;
  }

  function draw() {
    parts.panel.hidden = chosen.length === 0;
    if (chosen.length === 0) return;
    const { element } = TABLE;
    const n = chosen.length;
    parts.title.textContent =
      n === 1 ? "One trial; tick another to compare" : `${n} trials compared`;
    const head = element("tr", {}, element("th", { scope: "col" }, "Value"));
    for (const row of chosen) {
      head.append(element("th", { scope: "col", dir: "auto" }, CELLS.plain(TABLE.trialOf(row))));
    }
    const groups = ROLES.map(([role, title]) => drawGroup(role, title)).filter((it) => it !== null);
    parts.table.replaceChildren(
      element("caption", {}, n === 1 ? "All values of one trial" : "Values of the trials ticked"),
      element("thead", {}, head),
      ...groups,
    );
  }

  function drawGroup(role, title) {
    const { element } = TABLE;
    const lines = TABLE.columns
      .filter((column) => column.role === role && column.name !== "trial")
      .filter((column) => chosen.some((row) => !column.isMissing(row)))
      .map((column) => [column, differs(column)])
      .filter(([, isDifferent]) => isDifferent || !differencesOnly)
      .map(([column, isDifferent]) => drawLine(column, isDifferent));
    if (lines.length === 0) return null;
    const heading = element("th", { scope: "rowgroup", colspan: chosen.length + 1 }, title);
    return element("tbody", {}, element("tr", { class: "group" }, heading), ...lines);
  }

  function differs(column) {
    const [first, ...rest] = chosen;
    return rest.some(
      (row) =>
        column.isMissing(row) !== column.isMissing(first) || column.full(row) !== column.full(first),
    );
  }

  function drawLine(column, isDifferent) {
    const { element } = TABLE;
    const line = element("tr", { class: isDifferent ? "differs" : false });
    const mark = isDifferent ? element("span", { class: "mark" }, " differs") : null;
    line.append(element("th", { scope: "row", dir: "auto" }, column.label, mark));
    for (const row of chosen) {
      const attributes = { dir: column.kind === "text" ? "auto" : null };
      line.append(element("td", attributes, CELLS.plain(column.full(row))));
    }
    return line;
  }

  return { checkbox, panel };
})();
