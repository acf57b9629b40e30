// The table of all trials: search, filters, sorting, paging, choice of columns, copying as CSV.
// Texts reach the page only by textContent and attributes.
"use strict";
const TABLE = (() => {
  const PAGE_SIZES = [25, 50, 100, 500];
  // Letters of headings that stand beside each other on a sheet of paper.
  const MAX_PRINTED = 170;
  const record = JSON.parse(document.getElementById("table-data").textContent);
  const columns = record.columns.map((column) => new CELLS.Column(column));
  const byName = new Map(columns.map((column) => [column.name, column]));
  // On a phone what is ranked comes before how.
  if (window.innerWidth < 640) {
    for (const name of ["tie", "pareto", "partial"]) {
      if (byName.has(name)) byName.get(name).shown = false;
    }
  }
  const shownAtFirst = columns.map((column) => column.shown);
  const state = {
    search: "",
    filters: new Map(), // column -> {text, test, error}
    sort: null, // {column, isDescending}
    rows: [],
    page: 0,
    pageSize: 50,
    leadsOnly: false,
  };
  const parts = {};
  const watchers = []; // told of each change of the page of rows
  const texts = []; // of each row, for the search; made when first asked for

  // element("td", {class: "num"}, "text", child, ...)
  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null) made.setAttribute(name, String(value));
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  function button(label, onClick, attributes) {
    const made = element("button", { type: "button", ...attributes }, label);
    made.addEventListener("click", onClick);
    return made;
  }

  function trialOf(row) {
    return byName.get("trial").full(row);
  }

  function textOf(row) {
    texts[row] ??= columns
      .map((column) => column.full(row) + "\n" + column.text(row))
      .join("\n")
      .toLowerCase();
    return texts[row];
  }

  // --- which rows, in which order ---------------------------------------------------------------

  function selectRows() {
    const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    const tests = [...state.filters.values()].filter((it) => it.test).map((it) => it.test);
    const from = state.leadsOnly ? record.leads : Array.from({ length: record.n }, (_, row) => row);
    state.rows = from.filter(
      (row) =>
        tests.every((test) => test(row)) &&
        (words.length === 0 || words.every((word) => textOf(row).includes(word))),
    );
    if (state.sort) {
      const { column, isDescending } = state.sort;
      state.rows.sort((a, b) => column.compare(a, b, isDescending) || a - b);
    }
  }

  function update(page) {
    selectRows();
    const last = Math.max(0, Math.ceil(state.rows.length / state.pageSize) - 1);
    state.page = Math.min(Math.max(0, page), last);
    drawRows();
    tellCount(last);
    for (const watcher of watchers) watcher();
  }

  // --- drawing ----------------------------------------------------------------------------------

  function drawHead() {
    const names = element("tr", {}, element("th", { scope: "col", class: "pick" }, "Compare"));
    const filters = element("tr", { class: "filters" }, element("td", { class: "pick" }));
    for (const column of columns.filter((it) => it.shown)) {
      const isSorted = state.sort !== null && state.sort.column === column;
      const direction = isSorted && state.sort.isDescending ? "descending" : "ascending";
      const sortButton = button("", () => sortBy(column), { class: "sort", dir: "auto" });
      sortButton.append(...breakable(column.label));
      if (column.label !== column.name) sortButton.title = CELLS.plain(column.name);
      const attributes = {
        scope: "col",
        class: headClass(column),
        "aria-sort": isSorted ? direction : "none",
      };
      names.append(element("th", attributes, sortButton));
      filters.append(element("td", { class: headClass(column) }, filterInput(column)));
    }
    parts.head.replaceChildren(names, filters);
    parts.head.parentElement.classList.toggle("wide", isWide(columns.filter((it) => it.shown)));
  }

  // A name in two lines, parted behind what parts its words and near the middle; or in one.
  function linesOf(name) {
    const ends = [...name.matchAll(/[_./]+(?=[^_./])/g)].map((it) => it.index + it[0].length);
    if (!ends.length) return [name];
    const longer = (end) => Math.max(end, name.length - end);
    const end = ends.reduce((a, b) => (longer(b) < longer(a) ? b : a));
    return [name.slice(0, end), name.slice(end)];
  }

  function breakable(name) {
    return linesOf(name).flatMap((line, index) => (index ? [element("wbr"), line] : [line]));
  }

  // Whether names have to break anywhere to fit on paper.
  function isWide(shown) {
    const widths = shown.map((column) => Math.max(...linesOf(column.label).map((it) => it.length)));
    return widths.reduce((a, b) => a + b, 0) > MAX_PRINTED;
  }

  function headClass(column) {
    const special = { trial: "trial", note: "remark" }[column.name] || "";
    return (column.isNumeric ? "num " : "") + special;
  }

  function filterInput(column) {
    const input = element("input", {
      type: "text",
      "aria-label": `Filter ${column.label}`,
      placeholder: column.isNumeric ? "<, >, 1..2" : "contains",
      autocomplete: "off",
      spellcheck: "false",
      size: column.isNumeric ? 8 : 10,
    });
    const filter = state.filters.get(column);
    input.value = filter ? filter.text : "";
    markError(input, filter && filter.error);
    input.addEventListener("input", () => {
      const made = makeFilter(column, input.value);
      if (made) state.filters.set(column, made);
      else state.filters.delete(column);
      markError(input, made && made.error);
      update(0);
    });
    return input;
  }

  function makeFilter(column, text) {
    if (!text.trim()) return null;
    try {
      return { text, test: CELLS.filter(column, text), error: "" };
    } catch (error) {
      return { text, test: null, error: error.message };
    }
  }

  function markError(input, error) {
    if (error) {
      input.setAttribute("aria-invalid", "true");
      input.title = error;
    } else {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("title");
    }
  }

  function drawRows() {
    const start = state.page * state.pageSize;
    const shown = columns.filter((column) => column.shown);
    const body = state.rows.slice(start, start + state.pageSize).map((row) => drawRow(row, shown));
    if (body.length === 0) {
      const words = record.n ? "No trial is like that." : "There are no trials.";
      body.push(element("tr", {}, element("td", { colspan: shown.length + 1 }, words)));
    }
    parts.body.replaceChildren(...body);
  }

  function drawRow(row, shown) {
    const isFirst = byName.get("rank").number(row) === 1;
    const line = element("tr", { class: isFirst ? "first" : false, "data-row": row });
    line.append(element("td", { class: "pick" }, COMPARE.checkbox(row, trialOf(row))));
    for (const column of shown) {
      const text = column.text(row);
      const full = CELLS.plain(column.full(row));
      const attributes = {
        class: headClass(column) + (column.isMissing(row) ? " missing" : ""),
        title: full === text ? null : full,
      };
      if (column.kind === "text") attributes.dir = "auto";
      const isTrial = column.name === "trial";
      const cell = element(isTrial ? "th" : "td", attributes);
      if (isTrial) cell.setAttribute("scope", "row");
      if (column.name === "state") cell.append(element("span", { class: `state ${text}` }, text));
      else cell.textContent = text;
      line.append(cell);
    }
    return line;
  }

  function tellCount(last) {
    const n = state.rows.length;
    const start = state.page * state.pageSize;
    const end = Math.min(n, start + state.pageSize);
    const range = n > state.pageSize ? `${start + 1} to ${end} of ` : "";
    const all = n === record.n ? "" : ` (of ${record.n})`;
    const errors = [...state.filters].filter(([, it]) => it.error);
    const mistakes = errors.map(([column, it]) => `. Filter of ${column.label}: ${it.error}`);
    parts.count.textContent = `Shown: ${range}${n} trial${n === 1 ? "" : "s"}${all}${mistakes.join("")}`;
    parts.position.textContent = `Page ${state.page + 1} of ${last + 1}`;
    for (const name of ["first", "previous"]) setDisabled(parts[name], state.page === 0);
    for (const name of ["next", "last"]) setDisabled(parts[name], state.page === last);
  }

  // Not the attribute `disabled`: the button that was just pressed would lose the focus.
  function setDisabled(target, isDisabled) {
    target.setAttribute("aria-disabled", String(isDisabled));
  }

  // --- what people do ---------------------------------------------------------------------------

  function sortBy(column) {
    const sort = state.sort;
    if (sort === null || sort.column !== column) state.sort = { column, isDescending: false };
    else if (!sort.isDescending) state.sort = { column, isDescending: true };
    else state.sort = null;
    for (const [index, shown] of columns.filter((it) => it.shown).entries()) {
      const isSorted = state.sort !== null && state.sort.column === shown;
      const direction = isSorted && state.sort.isDescending ? "descending" : "ascending";
      parts.head.rows[0].cells[index + 1].setAttribute("aria-sort", isSorted ? direction : "none");
    }
    update(0);
  }

  function turn(target, page) {
    if (target.getAttribute("aria-disabled") === "true") return;
    update(page());
    parts.scroll.scrollTop = 0;
  }

  function reset() {
    state.search = parts.search.value = "";
    state.filters.clear();
    state.sort = null;
    drawHead();
    update(0);
  }

  function toCsv() {
    return CELLS.csv(columns, state.rows);
  }

  // --- building ---------------------------------------------------------------------------------

  function buildTools() {
    parts.search = element("input", { type: "search", id: "search", autocomplete: "off" });
    parts.search.addEventListener("input", () => {
      state.search = parts.search.value;
      update(0);
    });
    const sizes = PAGE_SIZES.map((size) =>
      element("option", { value: size, selected: size === state.pageSize }, String(size)),
    );
    parts.size = element("select", { id: "page-size" }, ...sizes);
    parts.size.addEventListener("change", () => {
      state.pageSize = Number(parts.size.value);
      update(0);
    });
    const tools = element("div", { class: "tools" });
    tools.append(element("label", { for: "search" }, "Search"), parts.search);
    tools.append(element("label", { for: "page-size" }, "Rows"), parts.size);
    if (record.leads) tools.append(leadsBox());
    tools.append(
      button("Reset", reset, {}),
      button("Copy as CSV", (event) => PAGE.copy(toCsv(), event.currentTarget), { id: "copy-csv" }),
      columnChooser(),
    );
    return tools;
  }

  function leadsBox() {
    const box = element("input", { type: "checkbox", id: "leads" });
    box.addEventListener("change", () => {
      state.leadsOnly = box.checked;
      update(0);
    });
    return element("label", { class: "box" }, box, " One row a configuration");
  }

  function columnChooser() {
    const boxes = columns.map((column) => {
      const box = element("input", { type: "checkbox" });
      box.checked = column.shown;
      box.addEventListener("change", () => showColumns((it) => (it === column ? box.checked : it.shown)));
      return [box, element("label", { class: "box", dir: "auto" }, box, ` ${column.label}`)];
    });
    function showColumns(isShown) {
      columns.forEach((column, index) => {
        column.shown = isShown(column, index);
        boxes[index][0].checked = column.shown;
        if (!column.shown) state.filters.delete(column);
        if (!column.shown && state.sort !== null && state.sort.column === column) state.sort = null;
      });
      drawHead();
      update(state.page);
    }
    const quick = element(
      "div",
      { class: "tools" },
      button("All", () => showColumns(() => true), {}),
      button("As at first", () => showColumns((_, index) => shownAtFirst[index]), {}),
    );
    const legend = element("legend", {}, "Columns to show");
    const list = element("div", { class: "boxes" }, ...boxes.map(([, label]) => label));
    const fields = element("fieldset", {}, legend, quick, list);
    return element("details", { class: "columns" }, element("summary", {}, "Columns"), fields);
  }

  function buildPager() {
    const last = () => Math.ceil(state.rows.length / state.pageSize) - 1;
    const targets = {
      first: ["First", () => 0],
      previous: ["Previous", () => state.page - 1],
      next: ["Next", () => state.page + 1],
      last: ["Last", last],
    };
    for (const [name, [label, page]] of Object.entries(targets)) {
      parts[name] = button(label, (event) => turn(event.currentTarget, page), {});
    }
    parts.position = element("span", {});
    const row = [parts.first, parts.previous, parts.position, parts.next, parts.last];
    return element("nav", { class: "pager", "aria-label": "Pages of trials" }, ...row);
  }

  function build() {
    const caption = element("caption", {}, "All trials, as in leaderboard.csv");
    parts.head = element("thead", {});
    parts.body = element("tbody", {});
    const table = element("table", { id: "trials-list" }, caption, parts.head, parts.body);
    const region = { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Table of trials" };
    parts.scroll = element("div", region, table);
    parts.count = element("p", { id: "count", role: "status" });
    const help = element(
      "p",
      { class: "note" },
      "A heading sorts: up, down, not. Filters: 0.1, <0.1, >=3, 1..2, none, any; of texts: a part of" +
        " it, =all of it, !not in it. Numbers are shortened; pointing at one, and Compare, give all digits.",
    );
    const place = document.getElementById("trial-table");
    place.replaceChildren(buildTools(), parts.count, parts.scroll, buildPager(), help, COMPARE.panel());
    drawHead();
    update(0);
  }

  return { build, button, byName, columns, element, state, toCsv, trialOf, watchers };
})();
