// Cells of the table: their values, how they are shown, compared, and spelled in CSV.
// No page here: values in, texts out.
"use strict";
const CELLS = (() => {
  // As in orchestrator/domain/plain_text.py: escape sequences, then controls and whatever reorders.
  const ESCAPES = new RegExp(
    "(?:\\x1b\\[|\\x9b)[0-?]*[ -/]*[@-~]" +
      "|(?:\\x1b[\\]PX^_]|[\\x9d\\x90\\x98\\x9e\\x9f])[^\\x07\\x1b\\x9c\\n]*(?:\\x07|\\x1b\\\\|\\x9c)?" +
      "|\\x1b[ -/]*[0-~]?",
    "g",
  );
  const CONTROLS = new RegExp(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u2069\\ufeff" +
      "\\ud800-\\udfff]", // "u": only surrogates without their other half
    "gu",
  );
  const MAX_CHARS = 80;
  const MAX_DECIMALS = 6;
  // Roles of columns with measured numbers; parameters are shown as they were given.
  const ALIGNED = new Set(["score", "metric", "cost"]);

  function plain(text) {
    return text.replace(ESCAPES, "").replace(CONTROLS, "");
  }

  function oneLine(text, maxChars) {
    const line = plain(text.replaceAll("\r", " ")).split(/\s+/).join(" ").trim();
    const chars = [...line];
    return chars.length <= maxChars ? line : chars.slice(0, maxChars - 1).join("") + "…";
  }

  // The shortest digits that give the same float again, spelled as Python and the CSV spell them.
  function spellFloat(number) {
    if (Number.isNaN(number)) return "nan";
    if (!Number.isFinite(number)) return number > 0 ? "inf" : "-inf";
    const sign = number < 0 || Object.is(number, -0) ? "-" : "";
    const [, first, rest, power] = /^(\d)(?:\.(\d+))?e([+-]\d+)$/.exec(
      Math.abs(number).toExponential(),
    );
    const digits = first + (rest || "");
    const exponent = Number(power);
    if (exponent < -4 || exponent >= 16) {
      const tail = rest ? "." + rest : "";
      const size = String(Math.abs(exponent)).padStart(2, "0");
      return sign + first + tail + "e" + (exponent < 0 ? "-" : "+") + size;
    }
    if (exponent < 0) return sign + "0." + "0".repeat(-exponent - 1) + digits;
    const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0");
    return sign + whole + "." + (digits.slice(exponent + 1) || "0");
  }

  // For reading: five digits, as Python's "%.5g".
  function shortFloat(number) {
    if (!Number.isFinite(number)) return spellFloat(number);
    if (number === 0) return "0";
    const [mantissa, power] = number.toExponential(4).split("e");
    const exponent = Number(power);
    const trim = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
    if (exponent < -4 || exponent >= 5) {
      const size = String(Math.abs(exponent)).padStart(2, "0");
      return trim(mantissa) + "e" + (exponent < 0 ? "-" : "+") + size;
    }
    return trim(number.toFixed(4 - exponent));
  }

  const SPECIAL = new Map([["nan", NaN], ["inf", Infinity], ["+inf", Infinity], ["-inf", -Infinity]]);

  // The number that a text spells, exact where it is an integer; NaN where it spells none.
  function spelledNumber(text) {
    const number = SPECIAL.get(text) ?? Number(text);
    const isLarge = Math.abs(number) > Number.MAX_SAFE_INTEGER && /^[+-]?\d+$/.test(text);
    return isLarge ? BigInt(text.replace("+", "")) : number;
  }

  // A column as the page's data has it, with what the table asks of a cell.
  class Column {
    constructor(record) {
      this.name = record.name;
      this.label = oneLine(record.name, 60) || "(no name)";
      this.kind = record.kind;
      this.role = record.role;
      this.shown = record.shown;
      this.isNumeric = record.kind === "number" || record.kind === "integer";
      this.values = record.values || record.codes.map((code) => (code < 0 ? null : record.words[code]));
      this.decimals = ALIGNED.has(this.role) && this.kind === "number" ? this.findDecimals() : null;
    }

    // How many decimals give every measured number at least five digits, so that they stand below
    // one another; null where they are too far apart for that.
    findDecimals() {
      let decimals = 0;
      for (const value of this.values) {
        if (typeof value !== "number") continue;
        const text = shortFloat(value);
        if (text.includes("e")) return null;
        decimals = Math.max(decimals, text.length - 1 - (text + ".").indexOf("."));
      }
      return decimals <= MAX_DECIMALS ? decimals : null;
    }

    isMissing(row) {
      return this.values[row] === null;
    }

    // With all its digits, as the CSV has it (but without the CSV's guards); "" if it is missing.
    full(row) {
      const value = this.values[row];
      if (value === null) return "";
      if (this.kind === "number" && typeof value === "number") return spellFloat(value);
      return String(value);
    }

    // For reading.
    text(row) {
      const value = this.values[row];
      if (value === null) return "";
      if (this.kind === "number" && typeof value === "number") {
        return this.decimals === null ? shortFloat(value) : value.toFixed(this.decimals);
      }
      return oneLine(String(value), MAX_CHARS);
    }

    // What a number is compared by; NaN for nan and for what is missing. Integers that a float
    // cannot hold are BigInt, which compares with numbers by its exact value.
    number(row) {
      const value = this.values[row];
      if (typeof value === "number") return value;
      return value === null ? NaN : spelledNumber(value);
    }

    // Below, at or above zero as `a` comes before or after `b`; missing and nan come last always.
    compare(a, b, isDescending) {
      if (this.isNumeric) {
        const x = this.number(a);
        const y = this.number(b);
        const unordered = Number.isNaN(x) - Number.isNaN(y);
        if (unordered) return unordered;
        if (Number.isNaN(x)) return this.isMissing(a) - this.isMissing(b);
        return isDescending ? (x < y) - (x > y) : (x > y) - (x < y);
      }
      const missing = this.isMissing(a) - this.isMissing(b);
      if (missing || this.isMissing(a)) return missing;
      const order = COLLATOR.compare(this.full(a), this.full(b));
      return isDescending ? -order : order;
    }
  }
  const COLLATOR = new Intl.Collator("en", { numeric: true });

  // As csv_text in orchestrator/adapters/leaderboard_files.py: no spreadsheet computes it.
  const FORMULA = new Set("=+-@\t\r\n＝＋－＠");
  const NUMBER = /^(?:[+-]?(?:\p{Nd}+\.?\p{Nd}*|\.\p{Nd}+)(?:[eE][+-]?\p{Nd}+)?|[+-]?(?:inf|nan))$/u;
  const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
  const NEEDS_QUOTES = new RegExp(`[",\\r\\n]|^[${SPACE}]|[${SPACE}]$`);

  function csvText(text) {
    if (!text) return '""';
    if (FORMULA.has(text[0]) && !NUMBER.test(text)) text = "'" + text;
    return NEEDS_QUOTES.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  }

  // What a terminal would obey, spelled as Python spells it.
  const ACTIVE =
    /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

  function stillText(text) {
    const spelled = text.replace(ACTIVE, (found) => {
      const code = found.charCodeAt(0).toString(16);
      return code.length > 2 ? `\\u${code.padStart(4, "0")}` : `\\x${code.padStart(2, "0")}`;
    });
    return csvText(spelled);
  }

  function csv(columns, rows) {
    const lines = [columns.map((column) => stillText(column.name)).join(",")];
    for (const row of rows) {
      const cells = columns.map((column) => {
        if (column.isMissing(row)) return "";
        return column.kind === "text" ? stillText(column.full(row)) : column.full(row);
      });
      lines.push(cells.join(","));
    }
    return lines.join("\n") + "\n";
  }

  // A filter's text as a predicate of a row; throws an Error whose message says what is allowed.
  function filter(column, text) {
    const words = text.trim();
    if (words === "none") return (row) => column.isMissing(row);
    if (words === "any") return (row) => !column.isMissing(row);
    return column.isNumeric ? numberFilter(column, words) : textFilter(column, words);
  }

  function textFilter(column, words) {
    const wanted = words.replace(/^[=!]/, "").toLowerCase();
    const found = (row) => column.full(row).toLowerCase();
    if (words.startsWith("=")) return (row) => found(row) === wanted;
    if (words.startsWith("!")) return (row) => !found(row).includes(wanted);
    return (row) => found(row).includes(wanted);
  }

  function numberFilter(column, words) {
    const parts = words.replace(/([<>=!]=?|\.\.)\s+/g, "$1").replace(/\s+\.\./g, "..");
    const tests = parts.split(/[\s,;]+/).filter(Boolean).map((part) => numberTest(part));
    return (row) => tests.every((test) => test(column.number(row), column.text(row)));
  }

  function numberTest(part) {
    const range = /^(.*?)\.\.(.*)$/.exec(part);
    if (range && range[0] !== "..") {
      const low = range[1] === "" ? -Infinity : readNumber(range[1]);
      const high = range[2] === "" ? Infinity : readNumber(range[2]);
      return (value) => value >= low && value <= high;
    }
    const [, sign, rest] = /^([<>]=?|==?|!=)?(.*)$/.exec(part);
    const wanted = readNumber(rest);
    // What reads the same is meant, too: nobody types seventeen digits.
    // Missing cells are not nan, though both compare as it does.
    const isSame = Number.isNaN(wanted)
      ? (value, text) => text === "nan"
      : (value) => value == wanted; // == since an integer may be BigInt
    const isEqual = (value, text) => isSame(value, text) || text === rest;
    const tests = {
      "<": (value) => value < wanted,
      "<=": (value) => value <= wanted,
      ">": (value) => value > wanted,
      ">=": (value) => value >= wanted,
      "!=": (value, text) => !isEqual(value, text),
    };
    return tests[sign] || isEqual;
  }

  function readNumber(text) {
    const spelled = text.toLowerCase();
    const number = spelledNumber(spelled);
    if (spelled === "" || (Number.isNaN(number) && spelled !== "nan")) {
      throw new Error("use a number, <0.1, >=3, 1..2, none or any");
    }
    return number;
  }

  return { Column, csv, filter, oneLine, plain };
})();
